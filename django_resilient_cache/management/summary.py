"""A fleet as an operator asks about it: per alias, how many workers are in which state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django_resilient_cache.fleet.view import Fleet, LayerView, Standing, Worker
from django_resilient_cache.states import State

#: The worst first.  A state that a newer worker reports and this code does not know is the worst.
_RANK = [
    State.OPEN.value,
    State.HALF_OPEN.value,
    State.FORCED_OPEN.value,
    State.FORCED_CLOSED.value,
    State.CLOSED.value,
]
_FORCED = (State.FORCED_OPEN.value, State.FORCED_CLOSED.value)


@dataclass(frozen=True, slots=True)
class Group:
    """The workers in which one alias is in one state."""

    state: str
    members: tuple[tuple[Worker, LayerView], ...]

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
        return self._since[0]

    @property
    def since_exact(self) -> bool:
        """Whether it is that moment, and not only the earliest that is known of."""
        return self._since[1]

    @property
    def _since(self) -> tuple[float, bool]:
        if self.closed:
            return max(view.since for _, view in self.members), True
        if self.forced:
            return min(view.since for _, view in self.members), True
        return min(_began(view) for _, view in self.members)

    @property
    def retry_after(self) -> float | None:
        """Seconds until the first trial of any of them; None: none is to come."""
        waits = [view.retry_after for _, view in self.members if view.retry_after is not None]
        return min(waits, default=None)

    @property
    def last_error(self) -> str | None:
        """The error behind the trouble, as the one that came into this state last tells it.

        None where there is no trouble, or where nothing is called: an order is the reason then.
        """
        if self.state in (State.CLOSED.value, State.FORCED_OPEN.value):
            return None
        told = [view for _, view in self.members if view.last_error]
        return max(told, key=lambda view: view.since).last_error if told else None


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One alias in all live workers that use it."""

    alias: str
    members: tuple[tuple[Worker, LayerView], ...]
    standing: Standing | None

    @property
    def count(self) -> int:
        """How many live workers use this layer."""
        return len(self.members)

    @property
    def groups(self) -> list[Group]:
        """The workers by state, the worst state first."""
        states = sorted({view.state for _, view in self.members}, key=_rank)
        return [
            Group(state, tuple(member for member in self.members if member[1].state == state))
            for state in states
        ]

    @property
    def worst(self) -> Group | None:
        """The group in the worst state; None: no live worker uses this layer."""
        return next(iter(self.groups), None)

    @property
    def missed(self) -> int:
        """Keys in all ledgers together."""
        return sum(view.missed for _, view in self.members)

    @property
    def missing(self) -> int:
        """How many workers' ledgers are not empty."""
        return sum(view.missed > 0 for _, view in self.members)

    @property
    def suspect(self) -> tuple[LayerView, ...]:
        """The layer in those workers that do not read it at all for now."""
        return tuple(view for _, view in self.members if view.suspect)

    @property
    def suspect_seconds(self) -> float | None:
        """For how long the last of them will not; None: no end is known, or none does so."""
        ends = [view.suspect_seconds for view in self.suspect]
        known = [end for end in ends if end is not None]
        return max(known, default=None) if len(known) == len(ends) else None

    @property
    def hit_share(self) -> float | None:
        """Hits among the reads that were answered, since the workers started; None: no reads."""
        hits = sum(view.hits for _, view in self.members)
        reads = hits + sum(view.misses for _, view in self.members)
        return hits / reads if reads else None


def summarize(fleet: Fleet, aliases: Iterable[str]) -> list[LayerSummary]:
    """Return these aliases, as the live workers report them."""
    return [
        LayerSummary(
            alias,
            tuple(
                (worker, worker.layers[alias]) for worker in fleet.live if alias in worker.layers
            ),
            fleet.standing.get(alias),
        )
        for alias in aliases
    ]


def all_aliases(fleet: Fleet, configured: Sequence[str]) -> list[str]:
    """Return every alias there is to show: those of these settings, and what workers report."""
    reported = {alias for worker in fleet.live for alias in worker.layers} | set(fleet.standing)
    return [*configured, *sorted(reported - set(configured))]


def _began(view: LayerView) -> tuple[float, bool]:
    """Return when a breaker was closed last, and whether that is known.

    It opens anew after each failed trial, and a worker tells its last transitions only.
    """
    at = view.since
    for change in reversed(view.changes):
        at = min(at, change.at)
        if change.old == State.CLOSED.value:
            return at, True
    return at, not view.changes


def _rank(state: str) -> tuple[int, str]:
    return (_RANK.index(state) if state in _RANK else -1), state
