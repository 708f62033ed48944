"""What an operator is shown: the fleet at one moment, as frozen data.  Times are in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from django_resilient_cache.fleet.board.layer_view import LayerView
from django_resilient_cache.fleet.board.order import Order


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """One process."""

    id: str
    host: str
    pid: int
    started: float
    """Seconds since the epoch, on its own clock."""
    program: str
    """What it runs, shortened: "gunicorn", "celery", "manage.py shell"."""
    stale: bool
    """On the roster, but its report is overdue or gone: stopped, killed or cut off."""
    layers: dict[str, LayerView]
    """By alias; empty for a stale worker whose report is gone."""

    @property
    def name(self) -> str:
        """How people call it: "web1/4711"."""
        return f"{self.host}/{self.pid}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """An order that holds for an alias until it ends."""

    order: Order
    left: float | None
    """Seconds until it ends, as far as the workers know; None: until revoked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fleet:
    """All workers of this project at one moment."""

    board: str
    """Which board was looked at, for people: "files in /tmp/... (as root)", 'CACHES["control"]'."""
    workers: tuple[Worker, ...]
    """Live ones first, by host and pid; stale ones last."""
    standing: dict[str, Standing]
    """By alias."""

    @property
    def live(self) -> tuple[Worker, ...]:
        """The workers that report."""
        return tuple(worker for worker in self.workers if not worker.stale)

    @property
    def silent(self) -> tuple[Worker, ...]:
        """The others."""
        return tuple(worker for worker in self.workers if worker.stale)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far an order has got."""

    order: Order
    applied: tuple[Worker, ...]
    """Live workers that have applied it (or one that came after it)."""
    waiting: tuple[Worker, ...]
    """Live or just gone silent since it was given: the laggards."""
    seconds: float
    """Since it was given, by this process's monotonic clock."""
    superseded: Order | None = None
    """Another operator's order that took its place at the same time."""

    @property
    def complete(self) -> bool:
        """Whether nobody is waited for."""
        return not self.waiting and self.superseded is None
