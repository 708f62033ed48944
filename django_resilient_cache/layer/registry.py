"""This process's layers by alias.  Backends ask once and keep what they got."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.core.signals import setting_changed
from django.db import connections

from django_resilient_cache import conf
from django_resilient_cache.adapters.transactions import Transactions
from django_resilient_cache.breaker import CircuitBreaker
from django_resilient_cache.concurrency import forks
from django_resilient_cache.concurrency.background import INTERVAL, background
from django_resilient_cache.layer.guard import Guard
from django_resilient_cache.layer.layer import Layer
from django_resilient_cache.layer.telemetry import Telemetry
from django_resilient_cache.timeouts.strategy import make_awaited, make_limit
from django_resilient_cache.timeouts.time_limit import AwaitedLimit, TimeLimit

logger = logging.getLogger("django_resilient_cache")


class Registry:
    """Layers, made when first asked for; made anew when CACHES changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._layers: dict[str, Layer] = {}
        self._on_reset: list[Callable[[], None]] = []
        #: Whether the first use of a chain starts the thread, not only the first thing to do.
        self.background_from_first_use = False
        forks.reset_in_child(self._reset_after_fork)

    def layer(self, alias: str) -> Layer:
        """Return the layer of `alias`; raises ImproperlyConfigured where its settings are wrong."""
        layer = self._layers.get(alias)
        if layer is None:
            made = _layer_of(alias)
            with self._lock:
                layer = self._layers.setdefault(alias, made)
        return layer

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return state and counters of each layer in use, as plain values."""
        return {alias: layer.snapshot() for alias, layer in list(self._layers.items())}

    def reset(self) -> None:
        """Forget all layers, as if nothing had been called; connections and threads are let go."""
        with self._lock:
            layers, self._layers = self._layers, {}
        for forget in self._on_reset:
            forget()
        for layer in layers.values():
            layer.close()

    def on_reset(self, forget: Callable[[], None]) -> None:
        """Call `forget` whenever the layers are forgotten: it may hold some of them."""
        self._on_reset.append(forget)

    def tend(self) -> float | None:
        """Repair and try what needs it; the background thread's tick, see `Layer.tend`."""
        waits = [_tended(layer) for layer in list(self._layers.values())]
        return min((wait for wait in waits if wait is not None), default=None)

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()


def make_layer(
    config: conf.LayerConfig,
    limit: TimeLimit,
    *,
    awaited: AwaitedLimit | None = None,
    transactions: Transactions | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Layer:
    """Return a layer that is guarded as `config` says, by this limit."""
    telemetry = Telemetry(config.alias, clock)
    guard = Guard(config, limit, telemetry, awaited=awaited, transactions=transactions, clock=clock)
    return Layer(config, guard, telemetry, clock)


def _layer_of(alias: str) -> Layer:
    config = conf.layer_config(alias)
    limit = make_limit(config)
    awaited = make_awaited(config, limit)
    transactions = Transactions(alias) if config.family.database else None
    return make_layer(config, limit, awaited=awaited, transactions=transactions)


class Breakers(Mapping[str, CircuitBreaker]):
    """The breakers of this process by alias: every alias that is a layer of some chain.

    Raises KeyError for another alias.
    """

    def __getitem__(self, alias: str) -> CircuitBreaker:
        if alias not in self._aliases():
            raise KeyError(f"{alias!r} is not a layer of any chain in CACHES")
        return registry.layer(alias).breaker

    def __iter__(self) -> Iterator[str]:
        return iter(self._aliases())

    def __len__(self) -> int:
        return len(self._aliases())

    @staticmethod
    def _aliases() -> dict[str, None]:
        chains = conf.chain_aliases()
        return dict.fromkeys(layer for chain in chains for layer in conf.layers_of(chain))


def _tended(layer: Layer) -> float | None:
    """Tend one layer; whatever is wrong there must not keep the others waiting."""
    try:
        return layer.tend()
    except Exception:
        logger.exception("Tending %r failed", layer.alias)
        return INTERVAL


registry = Registry()
breakers = Breakers()
background.add_tick(registry.tend)
background.on_idle(connections.close_all)  # of the background thread only


def _caches_changed(*, setting: str, **kwargs: object) -> None:
    if setting == "CACHES":
        registry.reset()


setting_changed.connect(_caches_changed, dispatch_uid="django_resilient_cache.layer.registry")
