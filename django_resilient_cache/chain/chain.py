"""What an operation on a chain means: one generator an operation, the same for sync and async.

Each yields layer calls ``(index, operation, arguments)``, nearest layer 0, authority last, is sent
the `Outcome` of each, and returns the final outcome with the calls that were not answered.  A
driver makes the calls; nothing here knows breakers, limits or threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from django_resilient_cache.adapters import operations
from django_resilient_cache.adapters.outcome import MISS, Kind, Outcome
from django_resilient_cache.adapters.remaining_ttl import get_many_with_ttl, get_with_ttl
from django_resilient_cache.chain.backfill import Calls, Copies, Drop
from django_resilient_cache.chain.expiry import LayerTraits, Lifetimes
from django_resilient_cache.chain.generations import Generations, Mutation

#: The calls without an answer: (layer, outcome).
Unanswered: TypeAlias = list[tuple[int, Outcome]]
Steps: TypeAlias = Calls[tuple[Outcome, Unanswered]]

#: Looking up a member costs as much as the rest of a comparison.
_HIT, _MISS = Kind.HIT, Kind.MISS


class Chain:
    """The order of the layers and the meaning of each operation on them."""

    def __init__(self, positions: Sequence[LayerTraits], generations: Generations) -> None:
        self.positions = tuple(positions)
        self.authority = len(positions) - 1
        self._generations = generations
        self._lifetimes = Lifetimes(self.positions)
        self._copies = Copies(self.positions, self._lifetimes, generations)

    # Reading

    def get(self, key: Any, version: Any, first: Outcome | None = None, below: int = 1) -> Steps:
        """HIT or MISS.

        `first` is the nearest layer's outcome where it was asked already, and `below` the layer to
        be asked next: those between refuse.
        """
        token = None
        missed: list[int] = []
        unanswered: Unanswered = []
        outcome = MISS
        start = 0
        if first is not None:
            start, outcome = below, first
            if first.kind is _MISS:
                token = self._generations.token(key)
                missed.append(0)
            else:
                unanswered.append((0, first))
        for index in range(start, self.authority + 1):
            operation = get_with_ttl if token is not None else operations.get
            outcome = yield index, operation, (key, version)
            if outcome.kind is _HIT:
                if token is not None:
                    yield from self._copies.fill(missed, key, version, outcome, token)
                return outcome, unanswered
            if outcome.kind is _MISS:
                if not missed:
                    token = self._generations.token(key)
                missed.append(index)
            else:
                unanswered.append((index, outcome))
        return outcome, unanswered

    def has_key(self, key: Any, version: Any) -> Steps:
        """HIT or MISS; nothing is written above."""
        unanswered: Unanswered = []
        outcome = MISS
        for index in range(self.authority + 1):
            outcome = yield index, operations.has_key, (key, version)
            if outcome.kind is Kind.HIT:
                break
            if outcome.kind is not Kind.MISS:
                unanswered.append((index, outcome))
        return outcome, unanswered

    def get_many(self, keys: Sequence[Any], version: Any) -> Steps:
        """DONE with all that was found: one call per layer, for the keys still missing."""
        found: dict[Any, Any] = {}
        missing: Iterable[Any] = keys
        tokens: dict[Any, object | None] = {}
        missed: dict[int, list[Any]] = {}
        unanswered: Unanswered = []
        outcome = MISS
        for index in range(self.authority + 1):
            operation = get_many_with_ttl if missed else operations.get_many
            outcome = yield index, operation, (missing, version)
            if not outcome.answered:
                unanswered.append((index, outcome))
                continue
            entries, lifetimes = outcome.value if missed else (outcome.value, {})
            if not missed and len(entries) == len(keys):
                return outcome, unanswered
            found.update(entries)
            if missed and entries:
                yield from self._copies.fill_many(missed, version, entries, lifetimes, tokens)
            missing = missed[index] = [key for key in missing if key not in found]
            if not missing:
                return Outcome(Kind.DONE, found), unanswered
            if not tokens:
                tokens = {key: self._generations.token(key) for key in missing}
        kind = Kind.DONE if outcome.answered else outcome.kind
        return Outcome(kind, found, error=outcome.error), unanswered

    # Changing every layer

    def set(self, key: Any, value: Any, timeout: Any, version: Any) -> Steps:
        """DONE where the authority took it."""
        lifetimes = self._lifetimes.written(timeout)
        outcomes = yield from self._everywhere(
            (key,),
            operations.set,
            lambda index: (key, value, lifetimes[index], version),
            (operations.delete, (key, version)),
        )
        return self._word(outcomes)

    def delete(self, key: Any, version: Any) -> Steps:
        """DONE with the authority's word on whether the key was there, else the next one's."""
        drop = operations.delete, (key, version)
        outcomes = yield from self._everywhere(
            (key,), operations.delete, lambda index: (key, version), drop
        )
        outcome, unanswered = self._word(outcomes)
        answered = (o for _, o in outcomes if o.answered)
        outcome = outcome if outcome.answered else next(answered, outcome)
        return outcome, unanswered

    def set_many(self, data: Mapping[Any, Any], timeout: Any, version: Any) -> Steps:
        """`value`: the keys that no layer took."""
        lifetimes = self._lifetimes.written(timeout)
        outcomes = yield from self._everywhere(
            data,
            operations.set_many,
            lambda index: (data, lifetimes[index], version),
            (operations.delete_many, (data, version)),
        )
        refused = [set(o.value) if o.answered else set(data) for _, o in outcomes]
        nowhere = set.intersection(*refused)
        outcome, unanswered = self._word(outcomes)
        keys = [key for key in data if key in nowhere]
        return Outcome(outcome.kind, keys, error=outcome.error), unanswered

    def delete_many(self, keys: Sequence[Any], version: Any) -> Steps:
        """DONE where the authority did it."""
        drop = operations.delete_many, (keys, version)
        outcomes = yield from self._everywhere(
            keys, operations.delete_many, lambda index: (keys, version), drop
        )
        return self._word(outcomes)

    def clear(self) -> Steps:
        """DONE where the authority did it."""
        drop: Drop = operations.clear, ()
        return self._word(
            (yield from self._everywhere(None, operations.clear, lambda index: (), drop))
        )

    def _everywhere(
        self,
        keys: Iterable[Any] | None,
        operation: Callable[..., Outcome],
        arguments: Callable[[int], tuple[Any, ...]],
        drop: Drop,
    ) -> Calls[Unanswered]:
        """Call `operation` on every layer, authority first; return all outcomes in that order."""
        if not self.authority:
            return [(0, (yield 0, operation, arguments(0)))]

        def calls() -> Calls[Unanswered]:
            outcomes: Unanswered = []
            for index in (self.authority, *self._copies.layers):
                outcomes.append((index, (yield index, operation, arguments(index))))
            return outcomes

        mutation = self._generations.mutations(keys)
        return (yield from self._copies.changing(mutation, calls(), drop))

    # Decided by the authority alone

    def add(
        self, key: Any, value: Any, timeout: Any, version: Any, read: object | None = None
    ) -> Steps:
        """DONE with whether the key was free in the authority; then the layers above have it.

        `read`: for `get_or_set`, the key's token from before the value was computed.  Then the
        layers above keep the value also without the authority's answer, unless it is outdated.
        """
        lifetimes = self._lifetimes.written(timeout)
        arguments = (key, value, lifetimes[self.authority], version)

        def copies(outcome: Outcome, mutation: Mutation) -> Calls[None]:
            if outcome.value if outcome.kind is Kind.DONE else mutation.follows(read):
                for index in self._copies.layers:
                    yield index, operations.set, (key, value, lifetimes[index], version)

        return self._decided(operations.add, arguments, copies)

    def touch(self, key: Any, timeout: Any, version: Any) -> Steps:
        """DONE with whether the key was there; dropped above, where it may end sooner."""
        return self._changed(operations.touch, (key, timeout, version))

    def incr(self, key: Any, delta: Any, version: Any) -> Steps:
        """DONE with the new value; dropped above."""
        return self._changed(operations.incr, (key, delta, version))

    def decr(self, key: Any, delta: Any, version: Any) -> Steps:
        """DONE with the new value; dropped above."""
        return self._changed(operations.decr, (key, delta, version))

    def _changed(self, operation: Callable[..., Outcome], arguments: tuple[Any, ...]) -> Steps:
        key, _, version = arguments

        def copies(outcome: Outcome, mutation: Mutation) -> Calls[None]:
            if outcome.kind is not Kind.REJECTED:  # without an answer it may still have happened
                yield from self._copies.drop(operations.delete, (key, version))

        return self._decided(operation, arguments, copies)

    def _decided(
        self,
        operation: Callable[..., Outcome],
        arguments: tuple[Any, ...],
        copies: Callable[[Outcome, Mutation], Calls[None]],
    ) -> Steps:
        """Ask the authority, then do with the `copies` above what its word means for them."""
        if not self.authority:
            return self._word([(0, (yield 0, operation, arguments))])
        mutation = self._generations.mutation(arguments[0])

        def calls() -> Calls[Outcome]:
            outcome = yield self.authority, operation, arguments
            yield from copies(outcome, mutation)
            return outcome

        drop = operations.delete, (arguments[0], arguments[-1])
        outcome = yield from self._copies.changing(mutation, calls(), drop)
        return self._word([(self.authority, outcome)])

    @staticmethod
    def _word(outcomes: Unanswered) -> tuple[Outcome, Unanswered]:
        """Return the authority's outcome, which comes first, and the calls without an answer."""
        return outcomes[0][1], [pair for pair in outcomes if not pair[1].answered]
