"""What a backend instance finds out at its first use: its layers, its keys, its defaults.

Under ASGI each request has backend instances of its own, so most of it is found out once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.core.cache import BaseCache, caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT

from django_resilient_cache.adapters.instances import is_silenced, private_instance
from django_resilient_cache.breaker import CircuitBreaker
from django_resilient_cache.chain.chain import Chain, Unanswered
from django_resilient_cache.chain.expiry import LayerTraits
from django_resilient_cache.chain.keys import Keys
from django_resilient_cache.conf import ChainConfig
from django_resilient_cache.exceptions import CacheUnavailable
from django_resilient_cache.layer.layer import Layer
from django_resilient_cache.layer.registry import registry

#: Seconds by which a per-process layer without a TIMEOUT of its own may differ from a shared one
#: below it.
NEAR_SECONDS = 5.0


#: Backends whose instances keep nothing in themselves.
_WITHOUT_A_STATE = frozenset(
    f"django.core.cache.backends.{name}"
    for name in (
        "db.DatabaseCache",
        "dummy.DummyCache",
        "filebased.FileBasedCache",
        "locmem.LocMemCache",
    )
)

#: What the short way of a `get` needs: the nearest layer, its breaker, its own `get`, the chain's
#: version and `Keys.room`.
Short = tuple[Layer, CircuitBreaker, Callable[..., Any], Any, int]


class Plan:
    """The layers of one chain: in this process, or in one thread or task of it.

    Raises ImproperlyConfigured with every mistake in the settings of the layers.
    """

    @classmethod
    def of(cls, location: object, params: Mapping[str, Any]) -> Plan:
        """Return the plan of the chain with these settings.

        Raises ImproperlyConfigured with every mistake in them and in those of its layers.
        """
        known = registry.chain(location, params)
        plan: Plan | None = known.plan
        if plan is None:
            plan = cls(known.config, params)
            if plan.shared:
                known.plan = plan
        return plan

    def __init__(self, config: ChainConfig, params: Mapping[str, Any]) -> None:
        self.config = config
        self.layers = tuple(registry.layer(alias) for alias in config.layers)
        #: Whether it does for all threads and tasks of the process.
        self.shared = all(map(_serves_all, self.layers))
        instances = [_instance(layer) for layer in self.layers]
        self.authority: BaseCache = instances[-1]
        #: The instances to call in place; None: the layer's limit has one of its own.
        self.raws = tuple(
            raw if layer.direct else None for raw, layer in zip(instances, self.layers, strict=True)
        )
        #: The layer of a chain that has no other.
        self.only: Layer | None = self.layers[0] if len(self.layers) == 1 else None
        self._lower = tuple((layer, layer.breaker) for layer in self.layers[1:])
        self.raises = config.on_unavailable == "raise"
        self.chain = Chain(
            [_position(self.layers, i, raw) for i, raw in enumerate(instances)],
            registry.generations,
        )
        self.keys = Keys(config, params, instances[0], self.authority)
        self.short = self._short()
        self._own_timeout = config.own_timeout
        self.default_timeout = (
            BaseCache(dict(params)).default_timeout
            if config.own_timeout
            else self.authority.default_timeout
        )

    def refused_below(self) -> int:
        """Return how many of the layers right below the nearest refuse a read, and count it there.

        None under "raise", where errors have to be named.
        """
        refused = 0
        if not self.raises:
            for layer, breaker in self._lower:
                if breaker.shared_permit is not None or not breaker.is_rejecting:
                    break
                layer.rejected += 1
                refused += 1
        return refused

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

    def timeout(self, timeout: Any) -> Any:
        """Return the timeout to pass on; a chain without a TIMEOUT leaves defaults to its layers."""
        if timeout is DEFAULT_TIMEOUT and self._own_timeout:
            return self.default_timeout
        return timeout

    def _short(self) -> Short | None:
        """Return the short way to the nearest layer, where that one is called in place."""
        near, raw, keys = self.layers[0], self.raws[0], self.keys
        if raw is None or not near.in_place:
            return None
        return near, near.breaker, keys.composing(raw.get), keys.version, keys.room


def _serves_all(layer: Layer) -> bool:
    """Whether one instance does for all threads and tasks.

    That is told of those that are called in place.  All others are only asked for keys and
    defaults: their limits have instances of their own.
    """
    return not layer.direct or layer.config.backend in _WITHOUT_A_STATE


def _instance(layer: Layer) -> BaseCache:
    own = private_instance(layer.alias)
    if not layer.direct or not layer.nearest or is_silenced(own):
        return own
    callers: BaseCache = caches[layer.alias]
    return callers


def _position(layers: tuple[Layer, ...], index: int, raw: BaseCache) -> LayerTraits:
    config = layers[index].config
    above_shared = any(not below.config.per_process for below in layers[index + 1 :])
    cap = config.timeout if config.own_timeout else None
    if config.per_process and above_shared and not config.own_timeout:
        cap = NEAR_SECONDS
    return LayerTraits(
        direct=layers[index].direct,
        shared=not config.per_process,
        cap=cap,
        default_timeout=raw.default_timeout,
    )
