"""How a backend's connections are made to keep to the current budget: new pools, of guarded classes."""

from __future__ import annotations

from typing import Any

from django_resilient_cache.adapters.memcached import family_name
from django_resilient_cache.timeouts.sockets.connecting import Connectors
from django_resilient_cache.timeouts.sockets.pymemcache import guard_pymemcache
from django_resilient_cache.timeouts.sockets.redis import guarded_pool_class
from django_resilient_cache.timeouts.sockets.redis_sentinel import (
    disconnect_sentinels,
    guard_sentinels,
)

#: Where ShardClient keeps its servers, whose pools it makes in its constructor.
_SHARDS = ("_serverdict", "_server_dict")


def guard(backend: Any) -> None:
    """Make all connections of the instance `backend` keep to the current budget.

    It is fresh, of an alias that `unsupported` has nothing against, and nobody else's.  Its pools
    are made here, for good: an instance is shared by threads, and the backends do not expect that
    while they make them.
    """
    connectors = Connectors()
    family = family_name(backend)
    if family == "pymemcache":
        guard_pymemcache(backend, connectors)
    elif family == "redis":
        _guard_djangos(backend._cache, connectors)
    else:
        _guard_package(backend.client, connectors)


def disconnect(backend: Any) -> None:
    """Close the connections of an instance that went through `guard`."""
    family = family_name(backend)
    if family == "pymemcache":
        backend._cache.disconnect_all()
        return
    owner = backend._cache if family == "redis" else backend.client.connection_factory
    for pool in list(owner._pools.values()):
        pool.disconnect()
    if hasattr(owner, "_sentinel"):
        disconnect_sentinels(owner._sentinel)


def _guard_djangos(client: Any, connectors: Connectors) -> None:
    """Guard Django's own RedisCacheClient."""
    client._pool_class = guarded_pool_class(client._pool_class, connectors)
    client._pools = {
        index: client._pool_class.from_url(server, **client._pool_options)
        for index, server in enumerate(client._servers)
    }


def _guard_package(client: Any, connectors: Connectors) -> None:
    """Guard a client of django-redis or django-valkey."""
    factory = client.connection_factory
    factory.pool_cls = guarded_pool_class(factory.pool_cls, connectors)
    # With the dictionary of its class, the pool first made for a URL in this process would
    # serve: with the options of another alias, and not guarded.
    factory._pools = {}
    if hasattr(factory, "_sentinel"):
        guard_sentinels(factory._sentinel, connectors)
    shards = next((name for name in _SHARDS if hasattr(client, name)), None)
    if shards is not None:
        setattr(client, shards, client.connect())
    else:
        client._clients = [client.connect(index) for index in range(len(client._server))]
