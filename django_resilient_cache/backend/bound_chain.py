"""A chain bound to this process: its layers, keys and defaults, found out at the first use.

Under ASGI each request has backend instances of its own, so most of it is found out once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.core.cache import BaseCache, caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT

from django_resilient_cache import conf
from django_resilient_cache.adapters.instances import is_silenced, private_instance
from django_resilient_cache.adapters.outcome import Kind, Outcome
from django_resilient_cache.backend import drivers
from django_resilient_cache.breaker import CircuitBreaker
from django_resilient_cache.chain.chain import Chain, Steps, Unanswered
from django_resilient_cache.chain.expiry import LayerTraits
from django_resilient_cache.chain.generations import Generations
from django_resilient_cache.chain.keys import Keys
from django_resilient_cache.chain.single_flight import Flight, SingleFlight
from django_resilient_cache.concurrency.background import background
from django_resilient_cache.conf import ChainConfig
from django_resilient_cache.conf.backends import is_stateless
from django_resilient_cache.exceptions import CacheUnavailable, CounterUnavailable
from django_resilient_cache.layer.counters import Counters
from django_resilient_cache.layer.layer import Layer
from django_resilient_cache.layer.missed_changes import MissedChanges
from django_resilient_cache.layer.registry import registry

#: Seconds by which a per-process layer without a TIMEOUT of its own may differ from a shared one
#: below it.
NEAR_SECONDS = 5.0

#: The keys as the layers are given them, mapped to the caller's.
Names = dict[Any, Any]


class Shortcut(NamedTuple):
    """What a hit in the nearest layer needs, where that layer is called in place."""

    breaker: CircuitBreaker
    missed_changes: MissedChanges
    counters: Counters
    get: Callable[..., Any]
    """The nearest layer's `get`, which takes the caller's key."""
    version: Any
    """The chain's own version."""
    plain_length: int
    """Keys of plain characters up to this length need no second look; see `Keys`."""


class BoundChain:
    """The layers of one chain: in this process, or in one thread or task of it.

    Raises ImproperlyConfigured with every mistake in the settings of the layers.
    """

    def __init__(self, config: ChainConfig, params: Mapping[str, Any]) -> None:
        self.config = config
        self.layers = tuple(registry.layer(alias) for alias in config.layers)
        #: Whether it does for all threads and tasks of the process.
        self.serves_all = all(map(_serves_all, self.layers))
        instances = [_instance(layer) for layer in self.layers]
        #: The instances to call in place; None: the layer's limit has one of its own.
        self.backends = tuple(
            instance if layer.guard.direct else None
            for instance, layer in zip(instances, self.layers, strict=True)
        )
        self.authority: BaseCache = instances[-1]
        #: The layer of a chain that has no other.
        self.only: Layer | None = self.layers[0] if len(self.layers) == 1 else None
        self.raises = config.on_unavailable == "raise"
        self.chain = Chain(
            [_traits(self.layers, i, instance) for i, instance in enumerate(instances)],
            process.generations,
        )
        self.keys = Keys(config, params, instances[0], self.authority)
        self.key_prefix = (
            params.get("KEY_PREFIX", "") if self.keys.composes else self.authority.key_prefix
        )
        self.default_timeout = (
            BaseCache(dict(params)).default_timeout
            if config.own_timeout
            else self.authority.default_timeout
        )
        self.shortcut = self._shortcut()
        self._lower = tuple((layer.breaker, layer.guard.counters) for layer in self.layers[1:])

    # Making the calls

    def run(self, steps: Steps, unavailable: type[CacheUnavailable] = CacheUnavailable) -> Outcome:
        """Make the calls that `steps` ask for and return their outcome.

        `unavailable`: what is raised under "raise" where the authority did not answer.
        """
        outcome, unanswered = drivers.run(steps, self.layers, self.backends)
        if unanswered and self.raises:
            self.raise_unavailable(unanswered, unavailable)
        return outcome

    async def arun(
        self, steps: Steps, unavailable: type[CacheUnavailable] = CacheUnavailable
    ) -> Outcome:
        """As `run`, while the event loop goes on."""
        outcome, unanswered = await drivers.arun(steps, self.layers, self.backends)
        if unanswered and self.raises:
            self.raise_unavailable(unanswered, unavailable)
        return outcome

    def raise_unavailable(
        self, unanswered: Unanswered, error: type[CacheUnavailable] = CacheUnavailable
    ) -> None:
        """Raise what the calls without an answer mean, if the authority's is among them.

        Where that one answered, or a layer above it had a hit, the others are not missed.
        """
        if all(index != self.chain.authority for index, _ in unanswered):
            return
        errors = {
            self.config.layers[index]: outcome.error or self.layers[index].refusal()
            for index, outcome in unanswered
        }
        raise error("no layer of the cache could tell", errors)

    def rejected_below(self) -> int:
        """Return how many of the layers right below the nearest reject a read, and count it there.

        None under "raise", where errors have to be named.
        """
        rejected = 0
        if not self.raises:
            for breaker, counters in self._lower:
                if breaker.shared_permit is not None or not breaker.is_rejecting:
                    break
                counters.rejected += 1
                rejected += 1
        return rejected

    # What an operation asks for, by the caller's keys

    def add(self, key: Any, value: Any, timeout: Any, version: Any) -> Steps:
        key, version = self.keys.resolve(key, version)
        return self.chain.add(key, value, self._timeout(timeout), version)

    def set(self, key: Any, value: Any, timeout: Any, version: Any) -> Steps:
        key, version = self._changing(key, version)
        return self.chain.set(key, value, self._timeout(timeout), version)

    def touch(self, key: Any, timeout: Any, version: Any) -> Steps:
        key, version = self.keys.resolve(key, version)
        return self.chain.touch(key, self._timeout(timeout), version)

    def delete(self, key: Any, version: Any) -> Steps:
        return self.chain.delete(*self._changing(key, version))

    def get_many(self, keys: Iterable[Any], version: Any) -> tuple[Steps | None, Names]:
        """Return the steps (None: there are no keys) and the names of the keys."""
        names, version = self.keys.resolve_many(keys, version)
        return self.chain.get_many(list(names), version) if names else None, names

    def found(self, names: Names, outcome: Outcome) -> dict[Any, Any]:
        """Return what `get_many` found by the keys that the caller used."""
        found: dict[Any, Any] = outcome.value or {}
        if not self.keys.composes:
            return found
        return {names[name]: value for name, value in found.items()}

    def has_key(self, key: Any, version: Any) -> Steps:
        return self.chain.has_key(*self.keys.resolve(key, version))

    def incr(self, key: Any, delta: Any, version: Any) -> Steps:
        key, version = self._changing(key, version)
        return self.chain.incr(key, delta, version)

    def decr(self, key: Any, delta: Any, version: Any) -> Steps:
        key, version = self._changing(key, version)
        return self.chain.decr(key, delta, version)

    def counted(self, outcome: Outcome) -> Any:
        """Return the new value of a counter; there is none without the authority."""
        if not outcome.answered:
            self.raise_unavailable([(self.chain.authority, outcome)], CounterUnavailable)
        return outcome.value

    def set_many(self, data: Mapping[Any, Any], timeout: Any, version: Any) -> tuple[Steps, Names]:
        """Return the steps and the names of the keys; `data` is not empty."""
        names, version = self.keys.resolve_many(data, version)
        process.single_flight.outdate(names, version)
        entries = {name: data[key] for name, key in names.items()}
        return self.chain.set_many(entries, self._timeout(timeout), version), names

    def delete_many(self, keys: Iterable[Any], version: Any) -> Steps | None:
        """Return the steps; None: there are no keys."""
        names, version = self.keys.resolve_many(keys, version)
        if not names:
            return None
        process.single_flight.outdate(names, version)
        return self.chain.delete_many(list(names), version)

    def clear(self) -> Steps:
        process.single_flight.outdate()
        return self.chain.clear()

    def keep(
        self,
        key: Any,
        value: Any,
        timeout: Any,
        version: Any,
        stamp: object,
        flight: Flight | None = None,
    ) -> Steps:
        """Add what `get_or_set` found missing; HIT with what is there then.

        `key` and `version` are as the layers are given them.  `stamp`: the key's from before the
        value was computed.  `flight`: in which it was; a change in this process meanwhile is not
        undone.  What was computed is the answer, whether or not a layer could keep it.
        """
        outcome, _ = yield from self.chain.add(key, value, self._timeout(timeout), version, stamp)
        if outcome.answered and not outcome.value:  # another process was quicker
            quicker, _ = yield from self.chain.get(key, version)
            if quicker.kind is Kind.HIT:
                return quicker, []
        elif flight is not None and flight.outdated:
            process.single_flight.outdate((key,), version)
            yield from self.chain.delete(key, version)
        return Outcome(Kind.HIT, value), []

    def _changing(self, key: Any, version: Any) -> tuple[Any, Any]:
        """Return key and version as the layers are given them; what computes it is outdated."""
        key, version = self.keys.resolve(key, version)
        process.single_flight.outdate((key,), version)
        return key, version

    def _timeout(self, timeout: Any) -> Any:
        """Return the timeout to pass on; a chain without a TIMEOUT leaves defaults to its layers."""
        if timeout is DEFAULT_TIMEOUT and self.config.own_timeout:
            return self.default_timeout
        return timeout

    def _shortcut(self) -> Shortcut | None:
        nearest, backend, keys = self.layers[0], self.backends[0], self.keys
        if backend is None or not nearest.guard.in_place:
            return None
        return Shortcut(
            nearest.breaker,
            nearest.missed_changes,
            nearest.guard.counters,
            keys.composing(backend.get),
            keys.version,
            keys.plain_length,
        )


def _serves_all(layer: Layer) -> bool:
    """Whether one instance does for all threads and tasks.

    That is told of those that are called in place.  All others are only asked for keys and
    defaults: their limits have instances of their own.
    """
    return not layer.guard.direct or is_stateless(layer.config.backend)


def _instance(layer: Layer) -> BaseCache:
    private = private_instance(layer.alias)
    if not layer.guard.direct or not layer.nearest or is_silenced(private):
        return private
    callers: BaseCache = caches[layer.alias]
    return callers


def _traits(layers: tuple[Layer, ...], index: int, instance: BaseCache) -> LayerTraits:
    layer = layers[index]
    config = layer.config
    above_shared = any(not below.config.family.per_process for below in layers[index + 1 :])
    cap = config.timeout if config.own_timeout else None
    if config.family.per_process and above_shared and not config.own_timeout:
        cap = NEAR_SECONDS
    return LayerTraits(
        direct=layer.guard.direct,
        miss=layer.miss,
        shared=not config.family.per_process,
        cap=cap,
        default_timeout=instance.default_timeout,
    )


@dataclass(slots=True)
class _Known:
    """A chain as it is written, as it was read, and what all its backends may share of it."""

    location: object
    params: Mapping[str, Any]
    config: ChainConfig
    bound: BoundChain | None = None


class Process:
    """What the chains of this process share."""

    def __init__(self) -> None:
        self._chains: list[_Known] = []
        self.generations = Generations()
        self.single_flight = SingleFlight()
        registry.on_reset(self.reset)

    def bind(self, location: object, params: Mapping[str, Any]) -> BoundChain:
        """Return the chain with these settings, bound to this process.

        Raises ImproperlyConfigured with every mistake in them and in those of its layers.
        """
        if registry.background_from_first_use:
            background.ensure_running()
        known = self._known(location, params)
        if known.bound is not None:
            return known.bound
        bound = BoundChain(known.config, params)
        if bound.serves_all:
            known.bound = bound
        return bound

    def _known(self, location: object, params: Mapping[str, Any]) -> _Known:
        for known in self._chains:
            if known.location == location and known.params == params:
                return known
        known = _Known(location, params, conf.chain_config(location, params))
        self._chains.append(known)
        return known

    def reset(self) -> None:
        """Forget all chains and what was under way on them."""
        if self._chains:
            self._chains = []
            self.generations.reset()
            self.single_flight.reset()


process = Process()
