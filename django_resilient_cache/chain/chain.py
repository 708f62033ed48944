"""What an operation on a chain means: one generator an operation, the same for sync and async.

Each yields layer calls ``(index, command)``, nearest layer 0, authority last, is sent the `Outcome`
of each, and returns the final outcome with the calls that were not answered.  A driver makes the
calls; nothing here knows breakers, limits or threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from django_resilient_cache.adapters.commands import (
    Add,
    Clear,
    Command,
    Decision,
    Decr,
    Delete,
    DeleteMany,
    Get,
    GetMany,
    GetManyWithTtl,
    GetWithTtl,
    HasKey,
    Incr,
    Set,
    SetMany,
    Touch,
)
from django_resilient_cache.adapters.outcome import MISS, Kind, Outcome
from django_resilient_cache.chain.backfill import Calls, Drop, UpperLayers
from django_resilient_cache.chain.expiry import Expiry, LayerTraits
from django_resilient_cache.chain.generations import Generations, Mutation

#: The calls without an answer: (layer, outcome).
Unanswered: TypeAlias = list[tuple[int, Outcome]]
Steps: TypeAlias = Calls[tuple[Outcome, Unanswered]]

#: Looking up a member costs as much as the rest of a comparison.
_HIT, _MISS = Kind.HIT, Kind.MISS


class Chain:
    """The order of the layers and the meaning of each operation on them."""

    def __init__(self, layers: Sequence[LayerTraits], generations: Generations) -> None:
        self.authority = len(layers) - 1
        self._generations = generations
        self._expiry = Expiry(layers)
        self._uppers = UpperLayers(layers, self._expiry, generations)

    # Reading

    def get(self, key: Any, version: Any, first: Outcome | None = None, below: int = 1) -> Steps:
        """HIT or MISS.

        `first` is the nearest layer's outcome where it was asked already, and `below` the layer to
        be asked next: those between reject calls.
        """
        stamp = None
        missed: list[int] = []
        unanswered: Unanswered = []
        outcome = MISS
        start = 0
        if first is not None:
            start, outcome = below, first
            if first.kind is _MISS:
                stamp = self._generations.version_stamp(key)
                missed.append(0)
            else:
                unanswered.append((0, first))
        for index in range(start, self.authority + 1):
            command = GetWithTtl if stamp is not None else Get
            outcome = yield index, command(key, version)
            if outcome.kind is _HIT:
                if stamp is not None:
                    yield from self._uppers.fill(missed, key, version, outcome, stamp)
                return outcome, unanswered
            if outcome.kind is _MISS:
                if not missed:
                    stamp = self._generations.version_stamp(key)
                missed.append(index)
            else:
                unanswered.append((index, outcome))
        return outcome, unanswered

    def has_key(self, key: Any, version: Any) -> Steps:
        """HIT or MISS; nothing is written above."""
        unanswered: Unanswered = []
        outcome = MISS
        for index in range(self.authority + 1):
            outcome = yield index, HasKey(key, version)
            if outcome.kind is Kind.HIT:
                break
            if outcome.kind is not Kind.MISS:
                unanswered.append((index, outcome))
        return outcome, unanswered

    def get_many(self, keys: Sequence[Any], version: Any) -> Steps:
        """DONE with all that was found: one call per layer, for the keys still missing."""
        found: dict[Any, Any] = {}
        missing: Sequence[Any] = keys
        stamps: dict[Any, object | None] = {}
        missed: dict[int, list[Any]] = {}
        unanswered: Unanswered = []
        outcome = MISS
        for index in range(self.authority + 1):
            command = GetManyWithTtl if missed else GetMany
            outcome = yield index, command(missing, version)
            if not outcome.answered:
                unanswered.append((index, outcome))
                continue
            entries, lifetimes = outcome.value if missed else (outcome.value, {})
            if not missed and len(entries) == len(keys):
                return outcome, unanswered
            found.update(entries)
            if missed and entries:
                yield from self._uppers.fill_many(missed, version, entries, lifetimes, stamps)
            missing = missed[index] = [key for key in missing if key not in found]
            if not missing:
                return Outcome(Kind.DONE, found), unanswered
            if not stamps:
                stamps = {key: self._generations.version_stamp(key) for key in missing}
        kind = Kind.DONE if outcome.answered else outcome.kind
        return Outcome(kind, found, error=outcome.error), unanswered

    # Changing every layer

    def set(self, key: Any, value: Any, timeout: Any, version: Any) -> Steps:
        """DONE where the authority took it."""
        timeouts = self._expiry.written(timeout)
        outcomes = yield from self._everywhere(
            (key,),
            lambda index: Set(key, value, timeouts[index], version),
            drop=partial(Delete, key, version),
        )
        return _of_authority(outcomes)

    def delete(self, key: Any, version: Any) -> Steps:
        """DONE with the authority's word on whether the key was there, else the next one's."""
        delete = partial(Delete, key, version)
        outcomes = yield from self._everywhere((key,), lambda index: delete(), drop=delete)
        outcome, unanswered = _of_authority(outcomes)
        answered = (o for _, o in outcomes if o.answered)
        outcome = outcome if outcome.answered else next(answered, outcome)
        return outcome, unanswered

    def set_many(self, data: Mapping[Any, Any], timeout: Any, version: Any) -> Steps:
        """`value`: the keys that no layer took."""
        timeouts = self._expiry.written(timeout)
        outcomes = yield from self._everywhere(
            data,
            lambda index: SetMany(data, timeouts[index], version),
            drop=partial(DeleteMany, data, version),
        )
        refused = [set(o.value) if o.answered else set(data) for _, o in outcomes]
        nowhere = set.intersection(*refused)
        outcome, unanswered = _of_authority(outcomes)
        keys = [key for key in data if key in nowhere]
        return Outcome(outcome.kind, keys, error=outcome.error), unanswered

    def delete_many(self, keys: Sequence[Any], version: Any) -> Steps:
        """DONE where the authority did it."""
        delete = partial(DeleteMany, keys, version)
        outcomes = yield from self._everywhere(keys, lambda index: delete(), drop=delete)
        return _of_authority(outcomes)

    def clear(self) -> Steps:
        """DONE where the authority did it."""
        outcomes = yield from self._everywhere(None, lambda index: Clear(), drop=Clear)
        return _of_authority(outcomes)

    def _everywhere(
        self, keys: Iterable[Any] | None, command: Callable[[int], Command], *, drop: Drop
    ) -> Calls[Unanswered]:
        """Give every layer its command, authority first; return all outcomes in that order."""
        if not self.authority:
            return [(0, (yield 0, command(0)))]

        def calls() -> Calls[Unanswered]:
            outcomes: Unanswered = []
            for index in (self.authority, *self._uppers.indexes):
                outcomes.append((index, (yield index, command(index))))
            return outcomes

        mutation = self._generations.mutations(keys)
        return (yield from self._uppers.changing(mutation, calls(), drop))

    # Decided by the authority alone

    def add(
        self, key: Any, value: Any, timeout: Any, version: Any, read: object | None = None
    ) -> Steps:
        """DONE with whether the key was free in the authority; then the layers above have it.

        `read`: for `get_or_set`, the key's stamp from before the value was computed.  Then the
        layers above keep the value also without the authority's answer, unless it is outdated.
        """
        timeouts = self._expiry.written(timeout)

        def copy(outcome: Outcome, mutation: Mutation) -> Calls[None]:
            if outcome.value if outcome.kind is Kind.DONE else mutation.follows(read):
                for index in self._uppers.indexes:
                    yield index, Set(key, value, timeouts[index], version)

        return self._decided(Add(key, value, timeouts[self.authority], version), copy)

    def touch(self, key: Any, timeout: Any, version: Any) -> Steps:
        """DONE with whether the key was there; dropped above, where it may end sooner."""
        return self._changed(Touch(key, timeout, version))

    def incr(self, key: Any, delta: Any, version: Any) -> Steps:
        """DONE with the new value; dropped above."""
        return self._changed(Incr(key, delta, version))

    def decr(self, key: Any, delta: Any, version: Any) -> Steps:
        """DONE with the new value; dropped above."""
        return self._changed(Decr(key, delta, version))

    def _changed(self, command: Decision) -> Steps:
        def drop(outcome: Outcome, mutation: Mutation) -> Calls[None]:
            if outcome.kind is not Kind.REJECTED:  # without an answer it may still have happened
                yield from self._uppers.drop(partial(Delete, command.key, command.version))

        return self._decided(command, drop)

    def _decided(
        self, command: Decision, then: Callable[[Outcome, Mutation], Calls[None]]
    ) -> Steps:
        """Ask the authority; `then` do with the layers above what its word means for them."""
        if not self.authority:
            return _of_authority([(0, (yield 0, command))])
        mutation = self._generations.mutation(command.key)

        def calls() -> Calls[Outcome]:
            outcome = yield self.authority, command
            yield from then(outcome, mutation)
            return outcome

        drop = partial(Delete, command.key, command.version)
        outcome = yield from self._uppers.changing(mutation, calls(), drop)
        return _of_authority([(self.authority, outcome)])


def _of_authority(outcomes: Unanswered) -> tuple[Outcome, Unanswered]:
    """Return the authority's outcome, which comes first, and the calls without an answer."""
    return outcomes[0][1], [pair for pair in outcomes if not pair[1].answered]
