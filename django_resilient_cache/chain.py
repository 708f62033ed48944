"""What an operation on a chain means: one generator an operation, the same for sync and async.

Each yields layer calls ``(index, operation, arguments)``, nearest layer 0, authority last, is sent
the `Outcome` of each, and returns the final outcome with the calls that were not answered.  A
driver makes the calls; nothing here knows breakers, limits or threads.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from django_resilient_cache import operations
from django_resilient_cache.generations import Generations, Mutation, Mutations
from django_resilient_cache.outcome import MISS, UNKNOWN, Kind, Outcome
from django_resilient_cache.ttl import get_many_with_ttl, get_with_ttl

Call: TypeAlias = tuple[int, Callable[..., Outcome], tuple[Any, ...]]
#: The calls without an answer: (layer, outcome).
Unanswered: TypeAlias = list[tuple[int, Outcome]]
Steps: TypeAlias = Generator[Call, Outcome, tuple[Outcome, Unanswered]]


#: Looking up a member costs as much as the rest of a comparison.
_HIT, _MISS = Kind.HIT, Kind.MISS


@dataclass(frozen=True, slots=True)
class Position:
    """What the chain must know of one layer."""

    direct: bool
    """Called in place: always reachable, also when the caller's time is up."""
    shared: bool
    """Other processes write it too."""
    cap: float | None
    """The longest TTL in seconds of what is written here as an upper layer; None: no cap."""
    default_timeout: float | None
    """The layer's own TIMEOUT in seconds; None: entries never expire."""


class Chain:
    """The order of the layers and the meaning of each operation on them."""

    def __init__(self, positions: Sequence[Position], generations: Generations) -> None:
        self.positions = tuple(positions)
        self.authority = len(positions) - 1
        self._uppers = tuple(reversed(range(self.authority)))
        self._generations = generations
        self._default_lifetimes: tuple[Any, ...] = ()
        self._default_lifetimes = self._lifetimes(DEFAULT_TIMEOUT)

    # Reading

    def get(self, key: Any, version: Any, first: Outcome | None = None) -> Steps:
        """HIT or MISS; `first` is the nearest layer's outcome where it was asked already."""
        token = None
        missed: list[int] = []
        unanswered: Unanswered = []
        outcome = MISS
        for index in range(self.authority + 1):
            if index == 0 and first is not None:
                outcome = first
            else:
                operation = get_with_ttl if missed and token is not None else operations.get
                outcome = yield index, operation, (key, version)
            if outcome.kind is _HIT:
                if missed and token is not None:
                    yield from self._backfill(missed, key, version, outcome, token)
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
                yield from self._backfill_many(missed, version, entries, lifetimes, tokens)
            missing = missed[index] = [key for key in missing if key not in found]
            if not missing:
                return Outcome(Kind.DONE, found), unanswered
            if not tokens:
                tokens = {key: self._generations.token(key) for key in missing}
        kind = Kind.DONE if outcome.answered else outcome.kind
        return Outcome(kind, found, error=outcome.error), unanswered

    def _backfill(
        self, missed: list[int], key: Any, version: Any, hit: Outcome, token: object
    ) -> Generator[Call, Outcome, None]:
        ttl = hit.ttl
        for index in reversed(missed):
            ttl = self._capped(index, ttl)
            if ttl is not None and ttl <= 0:
                return
            if self._generations.token(key) is not token:
                return
            operation = self._filling(index)
            yield index, operation, ([(key, hit.value, ttl)], version)
            if self._generations.token(key) is not token:
                yield index, operations.delete, (key, version)

    def _backfill_many(
        self,
        missed: Mapping[int, list[Any]],
        version: Any,
        entries: Mapping[Any, Any],
        lifetimes: Mapping[Any, float | None],
        tokens: Mapping[Any, object | None],
    ) -> Generator[Call, Outcome, None]:
        def unchanged(key: Any) -> bool:
            return tokens[key] is not None and self._generations.token(key) is tokens[key]

        left = dict(lifetimes)
        for index in sorted(missed, reverse=True):
            left = {key: self._capped(index, ttl) for key, ttl in left.items()}
            fill = [
                (key, entries[key], ttl)
                for key, ttl in left.items()
                if (ttl is None or ttl > 0) and unchanged(key)
            ]
            if fill:
                yield index, self._filling(index), (fill, version)
            changed = [key for key, _, _ in fill if not unchanged(key)]
            if changed:
                yield index, operations.delete_many, (changed, version)

    def _filling(self, index: int) -> Callable[..., Outcome]:
        """Return how a layer is backfilled: one that others write only where a key is free."""
        return operations.fill_free if self.positions[index].shared else operations.fill

    # Changing every layer

    def set(self, key: Any, value: Any, timeout: Any, version: Any) -> Steps:
        """DONE where the authority took it."""
        lifetimes = self._lifetimes(timeout)
        outcomes = yield from self._change(
            (key,),
            operations.set,
            lambda index: (key, value, lifetimes[index], version),
            operations.delete,
            (key, version),
        )
        return self._word(outcomes)

    def delete(self, key: Any, version: Any) -> Steps:
        """DONE with the authority's word on whether the key was there, else the next one's."""
        outcomes = yield from self._change(
            (key,),
            operations.delete,
            lambda index: (key, version),
            operations.delete,
            (key, version),
        )
        outcome, unanswered = self._word(outcomes)
        answered = (o for _, o in outcomes if o.answered)
        outcome = outcome if outcome.answered else next(answered, outcome)
        return outcome, unanswered

    def set_many(self, data: Mapping[Any, Any], timeout: Any, version: Any) -> Steps:
        """`value`: the keys that no layer took."""
        lifetimes = self._lifetimes(timeout)
        outcomes = yield from self._change(
            data,
            operations.set_many,
            lambda index: (data, lifetimes[index], version),
            operations.delete_many,
            (data, version),
        )
        refused = [set(o.value) if o.answered else set(data) for _, o in outcomes]
        nowhere = set.intersection(*refused)
        outcome, unanswered = self._word(outcomes)
        keys = [key for key in data if key in nowhere]
        return Outcome(outcome.kind, keys, error=outcome.error), unanswered

    def delete_many(self, keys: Sequence[Any], version: Any) -> Steps:
        """DONE where the authority did it."""
        outcomes = yield from self._change(
            keys,
            operations.delete_many,
            lambda index: (keys, version),
            operations.delete_many,
            (keys, version),
        )
        return self._word(outcomes)

    def clear(self) -> Steps:
        """DONE where the authority did it."""
        outcomes = yield from self._change(
            None, operations.clear, lambda index: (), operations.clear, ()
        )
        return self._word(outcomes)

    def _change(
        self,
        keys: Iterable[Any] | None,
        operation: Callable[..., Outcome],
        arguments: Callable[[int], tuple[Any, ...]],
        drop: Callable[..., Outcome],
        dropped: tuple[Any, ...],
    ) -> Generator[Call, Outcome, Unanswered]:
        """Call `operation` on every layer, authority first; return all outcomes in that order.

        `drop` takes the keys out of the upper layers again where the change was disturbed by
        another one, or ended early.
        """
        if not self.authority:
            return [(0, (yield 0, operation, arguments(0)))]
        mutation = self._begin(keys)
        outcomes: Unanswered = []
        try:
            for index in (self.authority, *self._uppers):
                outcomes.append((index, (yield index, operation, arguments(index))))
            if mutation.disturbed():
                yield from self._drop(drop, dropped)
        except GeneratorExit:
            raise
        except BaseException as error:
            yield from self._drop_after(error, drop, dropped)
            raise
        finally:
            mutation.end()
        return outcomes

    # Decided by the authority alone

    def add(
        self, key: Any, value: Any, timeout: Any, version: Any, read: object | None = None
    ) -> Steps:
        """DONE with whether the key was free in the authority; then the layers above have it.

        `read`: for `get_or_set`, the key's token from before the value was computed.  Then the
        layers above keep the value also without the authority's answer, unless it is outdated.
        """
        lifetimes = self._lifetimes(timeout)
        arguments = (key, value, lifetimes[self.authority], version)
        if not self.authority:
            return self._word([(0, (yield 0, operations.add, arguments))])
        mutation = self._generations.begin_one(key)
        try:
            outcome = yield self.authority, operations.add, arguments
            if outcome.value if outcome.kind is Kind.DONE else mutation.follows(read):
                for index in self._uppers:
                    yield index, operations.set, (key, value, lifetimes[index], version)
                if mutation.disturbed():
                    yield from self._drop(operations.delete, (key, version))
        except GeneratorExit:
            raise
        except BaseException as error:
            yield from self._drop_after(error, operations.delete, (key, version))
            raise
        finally:
            mutation.end()
        return self._word([(self.authority, outcome)])

    def touch(self, key: Any, timeout: Any, version: Any) -> Steps:
        """DONE with whether the key was there; dropped above, where it may end sooner."""
        return self._decided(operations.touch, key, (key, timeout, version), version)

    def incr(self, key: Any, delta: Any, version: Any) -> Steps:
        """DONE with the new value; dropped above."""
        return self._decided(operations.incr, key, (key, delta, version), version)

    def decr(self, key: Any, delta: Any, version: Any) -> Steps:
        """DONE with the new value; dropped above."""
        return self._decided(operations.decr, key, (key, delta, version), version)

    def _decided(
        self,
        operation: Callable[..., Outcome],
        key: Any,
        arguments: tuple[Any, ...],
        version: Any,
    ) -> Steps:
        if not self.authority:
            return self._word([(0, (yield 0, operation, arguments))])
        mutation = self._generations.begin_one(key)
        try:
            outcome = yield self.authority, operation, arguments
            if outcome.kind is not Kind.REJECTED:  # without an answer it may still have happened
                yield from self._drop(operations.delete, (key, version))
        except GeneratorExit:
            raise
        except BaseException as error:
            yield from self._drop_after(error, operations.delete, (key, version))
            raise
        finally:
            mutation.end()
        return self._word([(self.authority, outcome)])

    # Parts

    def _begin(self, keys: Iterable[Any] | None) -> Mutation | Mutations:
        generations = self._generations
        return generations.begin_all() if keys is None else generations.begin(keys)

    def _drop(
        self, drop: Callable[..., Outcome], arguments: tuple[Any, ...]
    ) -> Generator[Call, Outcome, None]:
        for index in self._uppers:
            yield index, drop, arguments

    def _drop_after(
        self, error: BaseException, drop: Callable[..., Outcome], arguments: tuple[Any, ...]
    ) -> Generator[Call, Outcome, None]:
        """Drop from the upper layers after what ended a change early.

        A caller that is to end (cancelled, interrupted) waits for none of them: those that could
        keep it waiting take note of what they miss.
        """
        ending = not isinstance(error, Exception)
        for index in self._uppers:
            try:
                if ending and not self.positions[index].direct:
                    yield index, operations.missed, (drop, arguments)
                else:
                    yield index, drop, arguments
            except Exception:  # noqa: BLE001, S112 - what ended the change is raised on
                continue

    def _word(self, outcomes: Unanswered) -> tuple[Outcome, Unanswered]:
        """Return the authority's outcome, which comes first, and the calls without an answer."""
        return outcomes[0][1], [pair for pair in outcomes if not pair[1].answered]

    def _capped(self, index: int, ttl: float | None) -> float | None:
        """Return the TTL of a backfill; whole seconds where the backend knows no others."""
        position = self.positions[index]
        if ttl == UNKNOWN:
            ttl = position.default_timeout
        ttl = _shorter(ttl, position.cap)
        return float(int(ttl)) if position.shared and ttl is not None else ttl

    def _lifetimes(self, timeout: Any) -> tuple[Any, ...]:
        """Return the timeout for each layer, so that none outlives the one below."""
        if timeout is DEFAULT_TIMEOUT and self._default_lifetimes:
            return self._default_lifetimes
        by_default = timeout is DEFAULT_TIMEOUT
        lifetimes = [timeout]
        below = self.positions[self.authority].default_timeout if by_default else timeout
        for index in self._uppers:
            position = self.positions[index]
            if by_default:
                below = _shorter(below, position.default_timeout)
            below = _whole(below)
            if below is None or isinstance(below, int | float):
                below = _shorter(below, position.cap)
            lifetimes.append(below)
        return tuple(reversed(lifetimes))


def _whole(timeout: Any) -> Any:
    """Return a timeout as a layer below may read it: many backends know whole seconds only."""
    try:
        return timeout if timeout is None else int(timeout)
    except (TypeError, ValueError, OverflowError):
        return timeout  # for the authority to accept or refuse


def _shorter(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
