"""Which limit an alias gets."""

from __future__ import annotations

import logging

from django.core.cache import caches

from django_resilient_cache import conf
from django_resilient_cache.adapters.memcached import strange_client as _strange_client
from django_resilient_cache.timeouts.direct import DirectLimit, OwnDirectLimit
from django_resilient_cache.timeouts.from_event_loop import (
    OrmThread,
    SocketsOnThreads,
)
from django_resilient_cache.timeouts.sockets import greenlets, supported_clients
from django_resilient_cache.timeouts.sockets.socket_limit import SocketsLimit
from django_resilient_cache.timeouts.threads.thread_limit import ThreadLimit
from django_resilient_cache.timeouts.time_limit import AwaitedLimit, TimeLimit

logger = logging.getLogger("django_resilient_cache")


def make_limit(config: conf.LayerConfig) -> TimeLimit:
    """Return the limit that keeps `config.operation_timeout`."""
    strategy, reason = choose(config)
    if strategy == "direct":
        direct = OwnDirectLimit if config.family.memcached else DirectLimit
        return direct(config.alias)
    if strategy == "sockets":
        return SocketsLimit(config.alias, config.max_concurrency)
    if reason is not None:
        logger.warning(
            "%r is called on threads, not limited on its sockets: %s", config.alias, reason
        )
    return ThreadLimit(config.alias, config.max_concurrency)


def choose(config: conf.LayerConfig) -> tuple[str, str | None]:
    """Return the strategy, and why it is not the sockets one where that was to be expected."""
    if config.operation_timeout is None or config.family.keeps_nothing:
        return "direct", None
    if config.timeout_strategy in ("direct", "thread"):
        return config.timeout_strategy, None
    if not config.family.asks_server:
        return "thread", None
    reason = supported_clients.unsupported(config.alias)
    return ("thread", reason) if reason else ("sockets", None)


def make_awaited(config: conf.LayerConfig, limit: TimeLimit) -> AwaitedLimit | None:
    """Return how the layer is called from an event loop; None: in place."""
    if isinstance(limit, ThreadLimit):
        return limit
    if isinstance(limit, SocketsLimit) and greenlets.AVAILABLE:
        return limit
    threads = ThreadLimit(config.alias, config.max_concurrency)
    if isinstance(limit, SocketsLimit):
        return SocketsOnThreads(limit, threads)
    if config.family.in_place:
        return None
    return OrmThread(config.alias) if config.family.database else threads


def strange_client(config: conf.LayerConfig) -> str | None:
    """Return the client of a Memcached layer, where what it does about errors is not known."""
    if not config.family.memcached:
        return None
    client = _strange_client(caches.create_connection(config.alias))
    return None if client is None else f"{client.__module__}.{client.__qualname__}"
