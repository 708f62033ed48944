"""A fleet as an operator asks about it: per alias, how many workers are in which state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django_resilient_cache.breaker.states import State
from django_resilient_cache.fleet.board.layer_view import LayerView
from django_resilient_cache.fleet.console.view import Fleet, Standing

#: The worst first.  A state that a newer worker reports and this code does not know is the worst.
_RANK = [
    State.OPEN.value,
    State.FORCED_OPEN.value,
    State.HALF_OPEN.value,
    State.FORCED_CLOSED.value,
    State.CLOSED.value,
]
_FORCED = (State.FORCED_OPEN.value, State.FORCED_CLOSED.value)


def rank(state: str) -> tuple[int, str]:
    """Return what to sort states by, the worst first."""
    return (_RANK.index(state) if state in _RANK else -1), state


@dataclass(frozen=True, slots=True)
class Group:
    """The workers in which one alias is in one state."""

    state: str
    members: tuple[LayerView, ...]

    @property
    def count(self) -> int:
        """How many workers."""
        return len(self.members)

    @property
    def closed(self) -> bool:
        """Whether this is as it should be."""
        return self.state == State.CLOSED.value

    @property
    def forced(self) -> bool:
        """Whether an operator holds the breaker there."""
        return self.state in _FORCED

    @property
    def since(self) -> float:
        """When the trouble began, or when the last one was closed; seconds since the epoch."""
        latest = max if self.closed else min
        return latest(view.since for view in self.members)

    @property
    def retry_after(self) -> float | None:
        """Seconds until the first trial of any of them; None: none is to come."""
        waits = [view.retry_after for view in self.members if view.retry_after is not None]
        return min(waits, default=None)

    @property
    def last_error(self) -> str | None:
        """The last failure that counted, in the worker whose breaker moved last."""
        told = [view for view in self.members if view.last_error]
        return max(told, key=_moved).last_error if told else None

    @property
    def why(self) -> str | None:
        """The error behind the trouble.

        None where there is no trouble, or where nothing is called: an order is the reason then.
        """
        untold = self.state in (State.CLOSED.value, State.FORCED_OPEN.value)
        return None if untold else self.last_error


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One alias in all live workers that use it."""

    alias: str
    members: tuple[LayerView, ...]
    live: int
    """How many live workers there are, whether or not they use it."""
    standing: Standing | None

    @property
    def count(self) -> int:
        """How many live workers use this layer."""
        return len(self.members)

    @property
    def unused(self) -> int:
        """How many live workers have not used it yet."""
        return self.live - self.count

    @property
    def groups(self) -> list[Group]:
        """The workers by state, the worst state first."""
        return [
            Group(state, tuple(view for view in self.members if view.state == state))
            for state in sorted({view.state for view in self.members}, key=rank)
        ]

    @property
    def worst(self) -> Group | None:
        """The group in the worst state; None: no live worker uses this layer."""
        return next(iter(self.groups), None)

    @property
    def missed(self) -> int:
        """Keys in all ledgers together."""
        return sum(view.missed for view in self.members)

    @property
    def missing(self) -> int:
        """How many workers' ledgers are not empty."""
        return sum(view.missed > 0 for view in self.members)

    @property
    def suspect(self) -> tuple[LayerView, ...]:
        """The layer in those workers that do not read it at all for now."""
        return tuple(view for view in self.members if view.suspect)

    @property
    def suspect_seconds(self) -> float | None:
        """For how long the last of them will not; None: no end is known, or none does so."""
        ends = [view.suspect_seconds for view in self.suspect]
        known = [end for end in ends if end is not None]
        return max(known, default=None) if len(known) == len(ends) else None

    @property
    def hits(self) -> int:
        """Reads that found something, since the workers started."""
        return sum(view.hits for view in self.members)

    @property
    def reads(self) -> int:
        """Reads that were answered, since the workers started."""
        return self.hits + sum(view.misses for view in self.members)

    @property
    def hit_share(self) -> float | None:
        """Hits among the reads; None: no reads."""
        return self.hits / self.reads if self.reads else None


def summarize(fleet: Fleet, aliases: Iterable[str]) -> list[LayerSummary]:
    """Return these aliases, as the live workers report them."""
    return [
        LayerSummary(
            alias,
            tuple(worker.layers[alias] for worker in fleet.live if alias in worker.layers),
            len(fleet.live),
            fleet.standing.get(alias),
        )
        for alias in aliases
    ]


def all_aliases(fleet: Fleet, configured: Sequence[str]) -> list[str]:
    """Return every alias there is to show: those of these settings, and what workers report."""
    reported = {alias for worker in fleet.live for alias in worker.layers} | set(fleet.standing)
    return [*configured, *sorted(reported - set(configured))]


def _moved(view: LayerView) -> float:
    return view.changes[-1].at if view.changes else view.since
