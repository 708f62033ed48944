"""What an operator is shown: the fleet at one moment, as frozen data.  Times are in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from django_resilient_cache.fleet.board.order import Order


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One transition of a breaker in one worker."""

    at: float
    """Seconds since the epoch, on the worker's clock."""
    old: str
    new: str
    reason: str
    error: str | None
    """ "Type: text" of the failure behind it, if any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerView:
    """One alias in one worker."""

    state: str
    """A `State`'s value: "closed", "open", "half-open", "forced open", "forced closed"."""
    since: float
    """When it came into that state, in seconds since the epoch on the worker's clock; open and
    half-open: when it was closed last, however many trials have failed since."""
    retry_after: float | None
    """Seconds from now until the next trial (0.0: the next call may be one); None: no trial is
    to come, because it is closed or forced."""
    last_error: str | None
    strategy: str
    limit: float | None
    hits: int
    misses: int
    done: int
    failures: int
    timeouts: int
    rejected: int
    missed: int
    """Keys in its ledger."""
    suspect: bool
    """Whether the layer is not read at all for now."""
    suspect_seconds: float | None
    """For how long yet; None: no end is known (a missed clear(), or until `--forget`)."""
    applied: Order | None
    """The order this worker applied last; a standing one holds there still."""
    changes: tuple[Change, ...]
    """Its last transitions, the newest last."""
    forgot: Order | None = None
    """The last order to forget its ledger that this worker applied."""


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
