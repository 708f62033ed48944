"""The copies that the layers above hold: written when an entry is found below, dropped in doubt.

Everything here yields layer calls, as chain.py does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from django_resilient_cache.adapters import operations
from django_resilient_cache.adapters.outcome import Outcome
from django_resilient_cache.chain.expiry import LayerTraits, Lifetimes
from django_resilient_cache.chain.generations import Generations, Mutation, Mutations
from django_resilient_cache.concurrency.interruption import interrupts

#: One layer call: (index of the layer, operation, arguments).
Call: TypeAlias = tuple[int, Callable[..., Outcome], tuple[Any, ...]]

#: What takes keys out of a layer: (operation, arguments).
Drop: TypeAlias = tuple[Callable[..., Outcome], tuple[Any, ...]]

T = TypeVar("T")
Calls: TypeAlias = Generator[Call, Outcome, T]


class Copies:
    """What is in the layers above the authority, which is the last of `positions`."""

    def __init__(
        self, positions: Sequence[LayerTraits], lifetimes: Lifetimes, generations: Generations
    ) -> None:
        self._positions = positions
        self._lifetimes = lifetimes
        self._generations = generations
        #: The layers above the authority, lowest first.
        self.layers = tuple(reversed(range(len(positions) - 1)))

    def fill(
        self, missed: list[int], key: Any, version: Any, hit: Outcome, token: object
    ) -> Calls[None]:
        """Write a hit into the layers that `missed` it, unless the key changed since `token`."""
        ttl = hit.ttl
        for index in reversed(missed):
            ttl = self._lifetimes.copied(index, ttl)
            if ttl is not None and ttl <= 0:
                return
            if self._generations.token(key) is not token:
                return
            yield index, self._filling(index), ([(key, hit.value, ttl)], version)
            if self._generations.token(key) is not token:
                yield index, operations.delete, (key, version)

    def fill_many(
        self,
        missed: Mapping[int, list[Any]],
        version: Any,
        entries: Mapping[Any, Any],
        lifetimes: Mapping[Any, float | None],
        tokens: Mapping[Any, object | None],
    ) -> Calls[None]:
        """As `fill`, of several entries, each with its own token."""

        def unchanged(key: Any) -> bool:
            return tokens[key] is not None and self._generations.token(key) is tokens[key]

        left = dict(lifetimes)
        for index in sorted(missed, reverse=True):
            left = {key: self._lifetimes.copied(index, ttl) for key, ttl in left.items()}
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

    def changing(self, mutation: Mutation | Mutations, calls: Calls[T], drop: Drop) -> Calls[T]:
        """Make the calls of a change, and `drop` the copies where it may have left an older one.

        That is where another change overlapped with it, and where it ended early.
        """
        try:
            mutation.begin()
            result = yield from calls
            if mutation.disturbed():
                yield from self.drop(*drop)
        except GeneratorExit:
            raise
        except BaseException as error:  # however it ended early, an older copy may stand above
            yield from self._drop_after(error, *drop)
            raise
        finally:
            try:
                mutation.end()
            except BaseException:  # interrupted: without this no reader would ever fill them again
                mutation.end()
                raise
        return result

    def drop(self, operation: Callable[..., Outcome], args: Iterable[Any]) -> Calls[None]:
        """Take the keys out of every layer above."""
        for index in self.layers:
            yield index, operation, tuple(args)

    def _drop_after(
        self, error: BaseException, operation: Callable[..., Outcome], args: tuple[Any, ...]
    ) -> Calls[None]:
        """Drop after what ended a change early.

        A caller that is to end (cancelled, interrupted) waits for none of them: those that could
        keep it waiting take note of what they miss.
        """
        ending = interrupts(error)
        for index in self.layers:
            try:
                if ending and not self._positions[index].direct:
                    yield index, operations.missed, (operation, args)
                else:
                    yield index, operation, args
            except Exception:  # noqa: BLE001, S112 - what ended the change is raised on
                continue

    def _filling(self, index: int) -> Callable[..., Outcome]:
        """Return how a layer is backfilled: one that others write only where a key is free."""
        return operations.fill_free if self._positions[index].shared else operations.fill
