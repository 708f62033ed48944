"""What the layers above the authority hold: filled when an entry is found below, dropped in doubt.

Everything here yields layer calls, as chain.py does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from django_resilient_cache.adapters.commands import Backfill, Command, Delete, DeleteMany
from django_resilient_cache.adapters.outcome import Outcome
from django_resilient_cache.chain.expiry import Expiry, LayerTraits
from django_resilient_cache.chain.generations import Generations, Mutation, Mutations
from django_resilient_cache.concurrency.interruption import interrupts

T = TypeVar("T")

#: Yields (index of the layer, command), is sent the outcome of each, returns T.
Calls: TypeAlias = Generator[tuple[int, Command], Outcome, T]

#: Makes the command that takes the changed keys out of one layer.
Drop: TypeAlias = Callable[[], Command]


class UpperLayers:
    """The layers above the authority, which is the last of `layers`."""

    def __init__(
        self, layers: Sequence[LayerTraits], expiry: Expiry, generations: Generations
    ) -> None:
        self._layers = layers
        self._expiry = expiry
        self._generations = generations
        #: Their indexes, lowest layer first.
        self.indexes = tuple(reversed(range(len(layers) - 1)))

    def fill(
        self, missed: list[int], key: Any, version: Any, hit: Outcome, stamp: object
    ) -> Calls[None]:
        """Write a hit into the layers that `missed` it, unless the key changed since `stamp`."""
        ttl = hit.ttl
        for index in reversed(missed):
            ttl = self._expiry.of_copy(index, ttl)
            if ttl is not None and ttl <= 0:
                return
            if self._generations.version_stamp(key) is not stamp:
                return
            yield index, self._backfill(index, [(key, hit.value, ttl)], version)
            if self._generations.version_stamp(key) is not stamp:
                yield index, Delete(key, version)

    def fill_many(
        self,
        missed: Mapping[int, list[Any]],
        version: Any,
        entries: Mapping[Any, Any],
        lifetimes: Mapping[Any, float | None],
        stamps: Mapping[Any, object | None],
    ) -> Calls[None]:
        """As `fill`, of several entries, each with its own stamp."""

        def unchanged(key: Any) -> bool:
            stamp = stamps[key]
            return stamp is not None and self._generations.version_stamp(key) is stamp

        left = dict(lifetimes)
        for index in sorted(missed, reverse=True):
            left = {key: self._expiry.of_copy(index, ttl) for key, ttl in left.items()}
            copies = [
                (key, entries[key], ttl)
                for key, ttl in left.items()
                if (ttl is None or ttl > 0) and unchanged(key)
            ]
            if copies:
                yield index, self._backfill(index, copies, version)
            changed = [key for key, _, _ in copies if not unchanged(key)]
            if changed:
                yield index, DeleteMany(changed, version)

    def changing(self, mutation: Mutation | Mutations, calls: Calls[T], drop: Drop) -> Calls[T]:
        """Make the calls of a change; then `drop` the copies that may be older than the change.

        That is where another change overlapped with it, and where it ended early.
        """
        try:
            mutation.begin()
            result = yield from calls
            if mutation.overlapped():
                yield from self.drop(drop)
        except GeneratorExit:  # nobody drives these calls any more
            raise
        except BaseException as error:
            yield from self._drop_after(error, drop)
            raise
        finally:
            try:
                mutation.end()
            except BaseException:  # interrupted: without this no reader would ever fill them again
                mutation.end()
                raise
        return result

    def drop(self, drop: Drop) -> Calls[None]:
        """Take the keys out of every layer above."""
        for index in self.indexes:
            yield index, drop()

    def _drop_after(self, error: BaseException, drop: Drop) -> Calls[None]:
        """Drop after `error` ended a change early.

        A caller that is to end (cancelled, interrupted) waits for no layer: those that could keep it
        waiting note what they miss.
        """
        for index in self.indexes:
            try:
                if interrupts(error) and not self._layers[index].direct:
                    self._layers[index].miss(drop())
                else:
                    yield index, drop()
            except Exception:  # noqa: BLE001, S112 - what ended the change is raised on
                continue

    def _backfill(
        self, index: int, entries: Sequence[tuple[Any, Any, Any]], version: Any
    ) -> Backfill:
        """Return how a layer is filled: one that other processes write only where a key is free."""
        return Backfill(entries, version, only_free=self._layers[index].shared)
