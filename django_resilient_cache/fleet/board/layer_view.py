"""What a worker reports of one alias, as frozen data.  Times are in seconds."""

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
