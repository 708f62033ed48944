"""Which clients the sockets limit knows, and how it gets into them."""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.utils.module_loading import import_string

from django_resilient_cache.adapters.memcached import family_name
from django_resilient_cache.conf.backends import family_of
from django_resilient_cache.timeouts.sockets.connecting import Connectors
from django_resilient_cache.timeouts.sockets.pymemcache import guard_pymemcache
from django_resilient_cache.timeouts.sockets.redis import guarded_pool_class
from django_resilient_cache.timeouts.sockets.redis_sentinel import (
    disconnect_sentinels,
    guard_sentinels,
)

#: Versions that were shown to keep to a budget: from, up to but without.
KNOWN_VERSIONS = {
    "redis": ((4, 6), (9,)),
    "valkey": ((6,), (7,)),
    "django_redis": ((6,), (8,)),
    "django_valkey": ((0, 4), (0, 5)),
    "pymemcache": ((3, 4), (5,)),
}

#: Why clients of these families, whose neighbours it knows, are out of its reach.
_OUT_OF_REACH = {
    "pylibmc": "pylibmc is written in C, and its sockets are out of reach",
    "memcached": "the sockets strategy does not know its client",
}


@dataclass(frozen=True)
class _Slot:
    """A class that a user may replace: where it is named, and what it must derive from."""

    name: str
    default: str
    known: tuple[str, ...]
    setting: str | None = None
    #: The attribute of the class in CLIENT_CLASS that names the default in its place.
    client_default: str = ""


@dataclass(frozen=True)
class _Adapter:
    """A Django backend for one of the clients."""

    backend: str
    packages: tuple[str, ...]
    slots: tuple[_Slot, ...]
    #: Where in OPTIONS the arguments of connections and of the client stand; None: there itself.
    pool_kwargs: str | None = None
    client_kwargs: str | None = None


def _pool_slot(name: str, client: str) -> _Slot:
    path = f"{client}.connection.ConnectionPool"
    return _Slot(name, path, (path,))


_ADAPTERS = (
    _Adapter(
        "django.core.cache.backends.redis.RedisCache",
        ("redis",),
        (_pool_slot("pool_class", "redis"),),
    ),
    _Adapter(
        "django_redis.cache.RedisCache",
        ("redis", "django_redis"),
        (
            _Slot(
                "CLIENT_CLASS",
                "django_redis.client.DefaultClient",
                ("django_redis.client.default.DefaultClient",),
            ),
            _Slot(
                "CONNECTION_FACTORY",
                "django_redis.pool.ConnectionFactory",
                ("django_redis.pool.ConnectionFactory",),
                "DJANGO_REDIS_CONNECTION_FACTORY",
            ),
            _pool_slot("CONNECTION_POOL_CLASS", "redis"),
            _Slot("REDIS_CLIENT_CLASS", "redis.client.Redis", ("redis.client.Redis",)),
        ),
        "CONNECTION_POOL_KWARGS",
        "REDIS_CLIENT_KWARGS",
    ),
    _Adapter(
        "django_valkey.cache.ValkeyCache",
        ("valkey", "django_valkey"),
        (
            _Slot(
                "CLIENT_CLASS",
                "django_valkey.client.DefaultClient",
                (
                    "django_valkey.client.default.DefaultClient",
                    "django_valkey.client.default.HashClient",
                ),
            ),
            _Slot(
                "CONNECTION_FACTORY",
                "django_valkey.pool.ConnectionFactory",
                ("django_valkey.pool.ConnectionFactory",),
                "DJANGO_VALKEY_CONNECTION_FACTORY",
                "CONNECTION_FACTORY_PATH",
            ),
            _pool_slot("CONNECTION_POOL_CLASS", "valkey"),
            _Slot("BASE_CLIENT_CLASS", "valkey.client.Valkey", ("valkey.client.Valkey",)),
        ),
        "CONNECTION_POOL_KWARGS",
        "BASE_CLIENT_KWARGS",
    ),
)


#: How clients and factories come to a connection.
_CONNECTING = (
    "_connect",
    "_get_connection_pool",
    "connect",
    "get_client",
    "get_connection",
    "get_connection_pool",
    "get_or_create_connection_pool",
)
#: How pymemcache's HashClient comes to a server and what it does when that fails.
_CALLING = ("_get_client", "_mark_failed_server", "_safely_run_func", "add_server")
#: Whose ways of doing so are known.
_PACKAGES = frozenset({"django", "redis", "valkey", "django_redis", "django_valkey", "pymemcache"})


def unsupported(alias: str) -> str | None:
    """Return why the sockets limit cannot keep `alias`, as a clause; None: it can.

    Nothing is connected to.
    """
    params: Mapping[str, Any] = caches.settings[alias]
    if not hasattr(select, "poll"):
        return "this platform has no poll()"
    try:
        return next(_obstacles(alias, params), None)
    except ImportError as error:
        return f"its client cannot be imported ({error})"


def _obstacles(alias: str, params: Mapping[str, Any]) -> Iterator[str]:
    backend = import_string(params["BACKEND"])
    family = family_of(backend).name
    if family in _OUT_OF_REACH:
        yield _OUT_OF_REACH[family]
    elif family == "pymemcache":
        yield from _pymemcache_obstacles(alias)
    else:
        yield from _redis_obstacles(alias, params, backend)


def _pymemcache_obstacles(alias: str) -> Iterator[str]:
    yield from _version_obstacle("pymemcache")
    made: Any = caches.create_connection(alias)
    client = made._class
    if not _derives(client, "pymemcache.client.hash.HashClient"):
        yield f"the sockets strategy does not know the client class {_path(client)}"
        return
    yield from _overriding_obstacle(client, _CALLING)
    yield from _overriding_obstacle(client.client_class, _CONNECTING)
    if not _derives(client.client_class, "pymemcache.client.base.Client"):
        yield f"the sockets strategy does not know the client class {_path(client.client_class)}"
    if made._options.get("socket_module", socket) is not socket:
        yield "it has a socket_module of its own"


def _redis_obstacles(alias: str, params: Mapping[str, Any], backend: type) -> Iterator[str]:
    adapter = next((each for each in _ADAPTERS if _derives(backend, each.backend)), None)
    if adapter is None:
        yield f"{params['BACKEND']} is no backend that the sockets strategy knows"
        return
    for package in adapter.packages:
        yield from _version_obstacle(package)
    options = params.get("OPTIONS") or {}
    filled = _filled(adapter, options)
    for slot in adapter.slots:
        yield from _slot_obstacle(slot, filled[slot.name])
    connection = options.get(adapter.pool_kwargs, {}) if adapter.pool_kwargs else options
    yield from _connection_obstacles(connection, adapter.packages[0])
    yield from _client_obstacles(options.get(adapter.client_kwargs))
    yield from _sentinel_obstacles(adapter, filled, options)
    if adapter.client_kwargs is None:
        yield from _djangos_obstacles(alias)


def _djangos_obstacles(alias: str) -> Iterator[str]:
    """Django's own backend names its client in two classes that a project can derive from."""
    made: Any = caches.create_connection(alias)
    kind = made._class
    if not _derives(kind, "django.core.cache.backends.redis.RedisCacheClient"):
        yield f"the sockets strategy does not know the client class {_path(kind)}"
        return
    yield from _overriding_obstacle(kind, _CONNECTING)
    client = made._cache._client
    if not _derives(client, "redis.client.Redis"):
        yield f"the sockets strategy does not know the client {_path(client)}"


def _version_obstacle(package: str) -> Iterator[str]:
    version = str(import_module(package).__version__)
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    first, end = KNOWN_VERSIONS[package]
    if not first <= numbers < end:
        yield f"{package.replace('_', '-')} {version} is not a version known to work"


def _filled(adapter: _Adapter, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the class in each slot of `adapter`, as its backend finds it."""
    filled: dict[str, Any] = {}
    for slot in adapter.slots:
        cls = (
            options.get(slot.name)
            or (slot.setting and getattr(settings, slot.setting, None))
            or getattr(filled.get("CLIENT_CLASS"), slot.client_default, None)
            or slot.default
        )
        filled[slot.name] = import_string(cls) if isinstance(cls, str) else cls
    return filled


def _slot_obstacle(slot: _Slot, cls: Any) -> Iterator[str]:
    if not any(_derives(cls, known) for known in slot.known):
        yield f"the sockets strategy does not know the {slot.name} {_path(cls)}"
    yield from _overriding_obstacle(cls, _CONNECTING)


def _sentinel_obstacles(
    adapter: _Adapter, filled: Mapping[str, Any], options: Mapping[str, Any]
) -> Iterator[str]:
    """Sentinels are reached through what the packages' own factory makes of OPTIONS, or not at all."""
    client, *around = adapter.packages
    factory = filled.get("CONNECTION_FACTORY")
    if around and _derives(factory, f"{around[0]}.pool.SentinelConnectionFactory"):
        yield from _overriding_obstacle(factory, ("__init__",))
        yield from _client_obstacles(options.get("SENTINEL_KWARGS"))
        yield from _connection_obstacles(options.get("SENTINEL_KWARGS") or {}, client)
        return
    for name, cls in filled.items():
        if _derives(cls, f"{client}.sentinel.SentinelConnectionPool"):
            yield f"the sockets strategy knows no Sentinel in {name} without SentinelConnectionFactory"


def _overriding_obstacle(cls: Any, names: tuple[str, ...]) -> Iterator[str]:
    """A class of the user's own that connects in a way of its own could leave our classes out."""
    for name in names:
        maker = str(getattr(getattr(cls, name, None), "__module__", "redis"))
        if maker.partition(".")[0] not in _PACKAGES:
            yield f"{_path(cls)} has a {name}() of its own"


def _connection_obstacles(options: Mapping[str, Any], client: str) -> Iterator[str]:
    named = options.get("connection_class")
    if named is not None and not _derives(named, f"{client}.connection.AbstractConnection"):
        yield f"the sockets strategy does not know the connection_class {_path(named)}"
    if any(options.get(name) for name in ("cache", "cache_config", "cache_enabled")):
        yield "client-side caching leaves messages on idle connections"


def _client_obstacles(options: Mapping[str, Any] | None) -> Iterator[str]:
    for name in ("connection_pool", "single_connection_client"):
        if (options or {}).get(name):
            yield f"its client has a {name} of its own"


def _derives(cls: Any, path: str) -> bool:
    return any(_path(each) == path for each in getattr(cls, "__mro__", ()))


def _path(cls: Any) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


#: Where ShardClient keeps its servers, whose pools it makes in its constructor.
_SHARDS = ("_serverdict", "_server_dict")


def guard(raw: Any) -> None:
    """Make all connections of the backend instance `raw` keep to the armed budget.

    `raw` is fresh, of an alias that `unsupported` has nothing against, and nobody else's.
    Its pools are made here, for good: an instance is shared by threads, and the backends do
    not expect that while they make them.
    """
    helpers = Connectors()
    if family_name(raw) == "pymemcache":
        guard_pymemcache(raw, helpers)
        return
    if hasattr(raw, "_cache"):  # Django's own
        client = raw._cache
        client._pool_class = guarded_pool_class(client._pool_class, helpers)
        client._pools = {
            index: client._pool_class.from_url(server, **client._pool_options)
            for index, server in enumerate(client._servers)
        }
        return
    client = raw.client
    factory = client.connection_factory
    factory.pool_cls = guarded_pool_class(factory.pool_cls, helpers)
    # With the dictionary of its class, the pool first made for a URL in this process would
    # serve: with the options of another alias, and not guarded.
    factory._pools = {}
    if hasattr(factory, "_sentinel"):
        guard_sentinels(factory._sentinel, helpers)
    shards = next((name for name in _SHARDS if hasattr(client, name)), None)
    if shards is not None:
        setattr(client, shards, client.connect())
    else:
        client._clients = [client.connect(index) for index in range(len(client._server))]


def disconnect(raw: Any) -> None:
    """Close the connections of a backend instance that went through `guard`."""
    if family_name(raw) == "pymemcache":
        raw._cache.disconnect_all()
        return
    owner = raw._cache if hasattr(raw, "_cache") else raw.client.connection_factory
    for pool in list(owner._pools.values()):
        pool.disconnect()
    if hasattr(owner, "_sentinel"):
        disconnect_sentinels(owner._sentinel)
