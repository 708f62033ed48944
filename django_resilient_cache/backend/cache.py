"""`ResilientCache`: Django's cache API over a chain of other aliases.

Each operation asks its chain for steps, and a driver makes the layer calls that those ask for.  What
the calls are is in chain/chain.py.  The async methods stand beside the sync ones and mean the same.
"""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.core.cache import BaseCache
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.exceptions import SynchronousOnlyOperation

from django_resilient_cache.adapters.commands import MISSING, Get
from django_resilient_cache.adapters.outcome import MISS, Kind, Outcome
from django_resilient_cache.backend.bound_chain import BoundChain, Names, Shortcut, process
from django_resilient_cache.chain.chain import Steps
from django_resilient_cache.chain.single_flight import Flight
from django_resilient_cache.conf.chain_settings import named
from django_resilient_cache.exceptions import CounterUnavailable
from django_resilient_cache.timeouts.deadline import remaining


class ResilientCache(BaseCache):
    """A chain of other configured aliases, nearest first, the authority last.

    Constructing one never raises: mistakes in the settings are reported by `manage.py check` and
    raised as ImproperlyConfigured at the first use.  It mostly is what its authority is: see
    `make_key`, `version` and the other properties.
    """

    def __init__(self, location: Any, params: dict[str, Any]) -> None:
        # A wrong KEY_FUNCTION, say, is for the checks and the first use to tell.
        super().__init__({})
        self._location = location
        self._params = params
        self._bound_chain: BoundChain | None = None
        #: In one attribute, because a class with `__getattr__` looks each one up the slow way.
        self._shortcut: Shortcut | None = None

    def _bound(self) -> BoundChain:
        bound = self._bound_chain
        if bound is None:
            bound = self._bound_chain = process.bind(self._location, self._params)
            self._shortcut = bound.shortcut
        return bound

    def make_key(self, key: Any, version: Any = None) -> Any:
        """Return the key as the authority stores it; with a KEY_PREFIX, as the chain hands it on."""
        bound = self._bound()
        if version is None:
            version = bound.keys.version
        if bound.keys.composes:
            return bound.keys.compose(key, version)
        return bound.authority.make_key(key, version)

    # Decided by the authority

    def add(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> bool:
        """Write the entry if the authority does not have the key; False also without its answer."""
        bound = self._bound()
        return bool(bound.run(bound.add(key, value, timeout, version)).value)

    async def aadd(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> bool:
        steps = partial(self._bound().add, key, value, timeout, version)
        return bool((await self._akept(value, steps)).value)

    # Reading

    def get(self, key: Any, default: Any = None, version: Any = None) -> Any:
        """Return the value of the nearest layer that has it, else `default`."""
        found, first = self._get_nearest(key, version)
        return found if found is not MISSING else self._get_below(key, default, version, first)

    async def aget(self, key: Any, default: Any = None, version: Any = None) -> Any:
        found, first = self._get_nearest(key, version)
        if found is not MISSING:
            return found
        return await self._aget_below(key, default, version, first)

    def _get_nearest(self, key: Any, version: Any) -> tuple[Any, Outcome | None]:
        """Return the nearest layer's hit, else MISSING and its outcome if it was asked, in place.

        `Keys.resolve`, `Layer.execute` and `Chain.get` are written out here for a hit.
        """
        first = None
        if (shortcut := self._shortcut) is not None:
            breaker, missed_changes, counters, get, own_version, plain_length = shortcut
            if (permit := breaker.shared_permit) is not None and missed_changes.in_sync:
                if version is None:
                    version = own_version
                if not (
                    type(key) is str
                    and len(key) <= plain_length
                    and key.isprintable()
                    and " " not in key
                    and version is own_version
                ):
                    self._bound().keys.resolve(key, version)  # it may want to warn
                try:
                    value = get(key, MISSING, version)
                except Exception as error:  # noqa: BLE001 - classified: passed on or counted
                    guard = self._bound().layers[0].guard
                    first = guard.classified(error, Get(key, version), permit)
                else:
                    if breaker.has_failures:
                        permit.success()
                    if value is not MISSING:
                        counters.hits += 1
                        return value, None
                    counters.misses += 1
                    first = MISS
        return MISSING, first

    def _get_below(self, key: Any, default: Any, version: Any, first: Outcome | None) -> Any:
        bound = self._bound_chain or self._bound()
        keys = bound.keys
        key, version = (keys.resolve if first is None else keys.name)(key, version)
        below = 1
        if first is MISS:
            below += bound.rejected_below()
            if below == len(bound.layers):
                return default
        if bound.only is None:
            outcome = bound.run(bound.chain.get(key, version, first, below))
        else:
            outcome = first or bound.only.execute(bound.backends[0], Get(key, version))
            if bound.raises and not outcome.answered:
                bound.raise_unavailable([(0, outcome)])
        return outcome.value if outcome.kind is Kind.HIT else default

    async def _aget_below(self, key: Any, default: Any, version: Any, first: Outcome | None) -> Any:
        bound = self._bound_chain or self._bound()
        keys = bound.keys
        key, version = (keys.resolve if first is None else keys.name)(key, version)
        below = 1
        if first is MISS:
            below += bound.rejected_below()
            if below == len(bound.layers):
                return default
        outcome = await bound.arun(bound.chain.get(key, version, first, below))
        return outcome.value if outcome.kind is Kind.HIT else default

    # Writing

    def set(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> None:
        """Write the entry to every layer, authority first; `timeout` in seconds."""
        bound = self._bound()
        bound.run(bound.set(key, value, timeout, version))

    async def aset(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> None:
        await self._akept(value, partial(self._bound().set, key, value, timeout, version))

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        """Give the entry a new TTL; False if it is missing, also without the authority's answer."""
        bound = self._bound()
        return bool(bound.run(bound.touch(key, timeout, version)).value)

    async def atouch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        bound = self._bound()
        return bool((await bound.arun(bound.touch(key, timeout, version))).value)

    def delete(self, key: Any, version: Any = None) -> bool:
        """Delete from every layer; return the authority's word, else the next one's."""
        bound = self._bound()
        return bool(bound.run(bound.delete(key, version)).value)

    async def adelete(self, key: Any, version: Any = None) -> bool:
        bound = self._bound()
        return bool((await bound.arun(bound.delete(key, version))).value)

    def get_many(self, keys: Iterable[Any], version: Any = None) -> dict[Any, Any]:
        """Return the entries found: one call per layer, for the keys still missing."""
        bound = self._bound()
        steps, names = bound.get_many(keys, version)
        return {} if steps is None else bound.found(names, bound.run(steps))

    async def aget_many(self, keys: Iterable[Any], version: Any = None) -> dict[Any, Any]:
        bound = self._bound()
        steps, names = bound.get_many(keys, version)
        return {} if steps is None else bound.found(names, await bound.arun(steps))

    def get_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> Any:
        """Return the entry, or `default` (called, if it can be) after writing it.

        One computation per key and process: others wait for it, no longer than their own
        `deadline()`, and get copies.  Without the authority the layers above keep the value.
        """
        flights = process.single_flight
        completed = flights.completed
        value, first = self._get_nearest(key, version)
        if value is not MISSING:
            return value
        bound = self._bound()
        name, number = bound.keys.name(key, version)
        stamp_of = process.generations.version_stamp
        given = stamp_of(name)  # as old as `default`, if that is the value
        value = self._get_below(key, MISSING, version, first)
        if value is not MISSING:
            return value
        if not callable(default):
            return bound.run(bound.keep(name, default, timeout, number, given)).value

        def compute(flight: Flight) -> Any:
            if flights.completed != completed:  # perhaps this very key: look again
                found = bound.run(bound.chain.get(name, number))
                if found.kind is Kind.HIT:
                    return found.value
            before = stamp_of(name)
            value = default()
            if flight.outdated:
                return value
            return bound.run(bound.keep(name, value, timeout, number, before, flight)).value

        return flights.run((bound.config.layers, str(name), str(number)), compute, remaining)

    async def aget_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> Any:
        """As `get_or_set`; what `default` returns is awaited if it can be."""
        flights = process.single_flight
        completed = flights.completed
        value, first = self._get_nearest(key, version)
        if value is not MISSING:
            return value
        bound = self._bound()
        name, number = bound.keys.name(key, version)
        stamp_of = process.generations.version_stamp
        given = stamp_of(name)  # as old as `default`, if that is the value
        value = await self._aget_below(key, MISSING, version, first)
        if value is not MISSING:
            return value
        if not callable(default):
            steps = partial(bound.keep, name, default, timeout, number, given)
            return (await self._akept(default, steps)).value

        async def compute(flight: Flight) -> Any:
            if flights.completed != completed:  # perhaps this very key: look again
                found = await bound.arun(bound.chain.get(name, number))
                if found.kind is Kind.HIT:
                    return found.value
            before = stamp_of(name)
            value = default()
            if inspect.isawaitable(value):
                value = await value
            if flight.outdated:
                return value
            steps = partial(bound.keep, name, value, timeout, number, before, flight)
            return (await self._akept(value, steps)).value

        return await flights.arun((bound.config.layers, str(name), str(number)), compute, remaining)

    def has_key(self, key: Any, version: Any = None) -> bool:
        """Return whether the nearest layer that answers yes, or else the authority, has the key."""
        bound = self._bound()
        return bound.run(bound.has_key(key, version)).kind is Kind.HIT

    async def ahas_key(self, key: Any, version: Any = None) -> bool:
        bound = self._bound()
        return (await bound.arun(bound.has_key(key, version))).kind is Kind.HIT

    def incr(self, key: Any, delta: Any = 1, version: Any = None) -> Any:
        """Return the value increased by `delta`.

        Raises ValueError if the key is missing, and CacheUnavailable, which is one too, without
        the authority's answer.
        """
        bound = self._bound()
        return bound.counted(bound.run(bound.incr(key, delta, version), CounterUnavailable))

    async def aincr(self, key: Any, delta: Any = 1, version: Any = None) -> Any:
        bound = self._bound()
        return bound.counted(await bound.arun(bound.incr(key, delta, version), CounterUnavailable))

    def decr(self, key: Any, delta: Any = 1, version: Any = None) -> Any:
        """Return the value decreased by `delta`; raises as `incr` does."""
        bound = self._bound()
        return bound.counted(bound.run(bound.decr(key, delta, version), CounterUnavailable))

    async def adecr(self, key: Any, delta: Any = 1, version: Any = None) -> Any:
        bound = self._bound()
        return bound.counted(await bound.arun(bound.decr(key, delta, version), CounterUnavailable))

    def set_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> list[Any]:
        """Write the entries to every layer; return the keys that no layer took."""
        values = dict(data.items())
        if not values:
            return []
        bound = self._bound()
        steps, names = bound.set_many(values, timeout, version)
        return [names[name] for name in bound.run(steps).value]

    async def aset_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> list[Any]:
        values = dict(data.items())
        if not values:
            return []
        names: Names = {}

        def set_many() -> Steps:
            steps, own_names = self._bound().set_many(values, timeout, version)
            names.update(own_names)
            return steps

        refused = (await self._akept(list(values.values()), set_many)).value
        return [names[name] for name in refused]

    def delete_many(self, keys: Iterable[Any], version: Any = None) -> None:
        """Delete from every layer."""
        bound = self._bound()
        steps = bound.delete_many(keys, version)
        if steps is not None:
            bound.run(steps)

    async def adelete_many(self, keys: Iterable[Any], version: Any = None) -> None:
        bound = self._bound()
        steps = bound.delete_many(keys, version)
        if steps is not None:
            await bound.arun(steps)

    def clear(self) -> None:
        """Clear every layer."""
        bound = self._bound()
        bound.run(bound.clear())

    async def aclear(self) -> None:
        bound = self._bound()
        await bound.arun(bound.clear())

    def close(self, **kwargs: Any) -> None:
        """Nothing to close: Django closes the layers, which are aliases of their own."""

    async def _akept(self, value: object, steps: Callable[[], Steps]) -> Outcome:
        """Make the calls that keep `value`; return their outcome.

        One that queries the database when it is pickled (a QuerySet, a lazy user) cannot do so in
        an event loop.  It is pickled where Django's async code has its connections, and has the
        result then.
        """
        bound = self._bound()
        try:
            return await bound.arun(steps())
        except SynchronousOnlyOperation:
            await sync_to_async(pickle.dumps)(value)
        return await bound.arun(steps())

    # What it is among Django's caches

    @property
    def version(self) -> Any:
        """The chain's own VERSION, else the authority's."""
        return self._bound().keys.version

    @version.setter
    def version(self, value: Any) -> None:
        """BaseCache sets it; what counts is in the settings."""

    @property
    def key_prefix(self) -> Any:
        """The chain's own KEY_PREFIX, else the authority's."""
        return self._bound().key_prefix

    @key_prefix.setter
    def key_prefix(self, value: Any) -> None:
        """As for `version`."""

    @property
    def default_timeout(self) -> Any:
        """The chain's own TIMEOUT in seconds, else the authority's."""
        return self._bound().default_timeout

    @default_timeout.setter
    def default_timeout(self, value: Any) -> None:
        """As for `version`."""

    @property
    def key_func(self) -> Any:
        """The chain's own KEY_FUNCTION, else the authority's."""
        bound = self._bound()
        return bound.keys.key_func if bound.keys.composes else bound.authority.key_func

    @key_func.setter
    def key_func(self, value: Any) -> None:
        """As for `version`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        layers = named(self.__dict__.get("_location")) or ["..."]
        raise AttributeError(
            f"A chain of caches has no attribute {name!r}. "
            f'If its layer has one, use that: caches["{layers[-1]}"].{name}'
        )
