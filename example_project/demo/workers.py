"""What each worker says about its layers, and what that adds up to."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: The response header in which a worker sends its report.
HEADER = "X-Cache-Report"

MEMORY, REDIS = "memory", "redis"
CLOSED = "closed"
#: How the other states are called in the table, the worst first.
SHOWN = {"open": "open", "forced open": "forced", "half-open": "half", "forced closed": "forced"}


@dataclass(frozen=True, slots=True)
class Counts:
    """Entries looked up in the chain since a worker began, by where they were found."""

    memory: int = 0
    redis: int = 0
    nowhere: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.memory + other.memory, self.redis + other.redis, self.nowhere + other.nowhere
        )

    def __sub__(self, other: Counts) -> Counts:
        return Counts(
            self.memory - other.memory, self.redis - other.redis, self.nowhere - other.nowhere
        )

    @property
    def total(self) -> int:
        return self.memory + self.redis + self.nowhere

    def shares(self) -> tuple[float, float, float] | None:
        """The shares (0 to 1) of memory, Redis and nowhere; None: nothing was looked up."""
        if self.total <= 0:
            return None
        return self.memory / self.total, self.redis / self.total, self.nowhere / self.total


@dataclass(frozen=True, slots=True)
class Report:
    worker: int  # process id
    breaker: str  # state of Redis's breaker in that worker
    counts: Counts


def write(worker: int, layers: Mapping[str, Mapping[str, Any]]) -> str:
    """The header's text for a worker whose layers (`registry.snapshot()`) stand so."""
    kept = {
        alias: [str(layer["state"]), layer["hits"], layer["misses"]]
        for alias, layer in layers.items()
    }
    return json.dumps({"worker": worker, "layers": kept}, separators=(",", ":"))


def read(header: str) -> Report:
    message = json.loads(header)
    layers = message["layers"]
    _, memory_hits, memory_misses = layers.get(MEMORY, (CLOSED, 0, 0))
    breaker, redis_hits, _ = layers.get(REDIS, (CLOSED, 0, 0))
    # What memory missed was found in Redis or, whatever the reason, nowhere.
    counts = Counts(memory_hits, redis_hits, max(0, memory_misses - redis_hits))
    return Report(int(message["worker"]), breaker, counts)


@dataclass(slots=True)
class Workers:
    """The latest report of each worker. Filled by the visitors' threads."""

    latest: dict[int, Report] = field(default_factory=dict)
    heard: dict[int, float] = field(default_factory=dict)
    #: When a worker's breaker was first seen other than closed, and last seen to close.
    opened: dict[int, float] = field(default_factory=dict)
    closed: dict[int, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, report: Report, now: float) -> None:
        """Take a report in, unless a later one of the same worker overtook it."""
        with self._lock:
            known = self.latest.get(report.worker)
            if known is not None and known.counts.total > report.counts.total:
                return
            self.latest[report.worker] = report
            self.heard[report.worker] = now
            if report.breaker != CLOSED:
                self.opened.setdefault(report.worker, now)
            elif known is None or known.breaker != CLOSED:
                self.closed[report.worker] = now

    def counts(self) -> Counts:
        with self._lock:
            return sum((report.counts for report in self.latest.values()), Counts())

    def breakers(self) -> str:
        """The worst state, and how many are not closed: "open 2/3"; all is well: "closed 3/3"."""
        with self._lock:
            states = [report.breaker for report in self.latest.values()]
        away = [state for state in states if state != CLOSED]
        worst = next((shown for state, shown in SHOWN.items() if state in away), CLOSED)
        return f"{worst} {len(away) or len(states)}/{len(states)}"

    def all_closed_at(self, thaw: float) -> float | None:
        """When the last breaker was seen closed after that moment; None: not all have been.

        A worker that has not reported since then has not shown that it can use Redis.
        """
        with self._lock:
            if any(report.breaker != CLOSED for report in self.latest.values()):
                return None
            if any(heard <= thaw for heard in self.heard.values()):
                return None
            return max((max(thaw, moment) for moment in self.closed.values()), default=None)
