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

from django_resilient_cache.conf.families import family_of

from .connecting import Helpers
from .memcached import family_name
from .memcached_sockets import guard_pymemcache
from .redis_sockets import guarded_pool_class

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


@dataclass(frozen=True)
class _Adapter:
    """A Django backend for one of the clients."""

    backend: str
    packages: tuple[str, ...]
    slots: tuple[_Slot, ...]
    pool_kwargs: str | None


def _pool_slot(name: str, client: str) -> _Slot:
    path = f"{client}.connection.ConnectionPool"
    return _Slot(name, path, (path,))


_ADAPTERS = (
    _Adapter(
        "django.core.cache.backends.redis.RedisCache",
        ("redis",),
        (_pool_slot("pool_class", "redis"),),
        None,
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
            ),
            _pool_slot("CONNECTION_POOL_CLASS", "valkey"),
            _Slot("BASE_CLIENT_CLASS", "valkey.client.Valkey", ("valkey.client.Valkey",)),
        ),
        "CONNECTION_POOL_KWARGS",
    ),
)


#: How clients and factories come to a connection.
_CONNECTING = (
    "_connect",
    "connect",
    "get_client",
    "get_connection",
    "get_connection_pool",
    "get_or_create_connection_pool",
)
#: How pymemcache's HashClient comes to a server and what it does when that fails.
_CALLING = ("_get_client", "_mark_failed_server", "_safely_run_func", "add_server")
#: Whose ways of doing so are known.
_PACKAGES = frozenset({"redis", "valkey", "django_redis", "django_valkey", "pymemcache"})


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
    for slot in adapter.slots:
        yield from _slot_obstacle(slot, options)
    connection = options.get(adapter.pool_kwargs, {}) if adapter.pool_kwargs else options
    yield from _connection_obstacles(connection, adapter.packages[0])
    if adapter.pool_kwargs is None:
        made: Any = caches.create_connection(alias)
        client = made._class
        if not _derives(client, "django.core.cache.backends.redis.RedisCacheClient"):
            yield f"the sockets strategy does not know the client class {_path(client)}"


def _version_obstacle(package: str) -> Iterator[str]:
    version = str(import_module(package).__version__)
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    first, end = KNOWN_VERSIONS[package]
    if not first <= numbers < end:
        yield f"{package.replace('_', '-')} {version} is not a version known to work"


def _slot_obstacle(slot: _Slot, options: Mapping[str, Any]) -> Iterator[str]:
    named = options.get(slot.name) or (slot.setting and getattr(settings, slot.setting, None))
    cls = named or slot.default
    if isinstance(cls, str):
        cls = import_string(cls)
    if not any(_derives(cls, known) for known in slot.known):
        yield f"the sockets strategy does not know the {slot.name} {_path(cls)}"
    yield from _overriding_obstacle(cls, _CONNECTING)
    if any(
        "sentinel" in _path(each).lower()
        for each in cls.__mro__
        if ".commands." not in each.__module__
    ):
        yield f"the sockets strategy does not know Sentinel yet ({slot.name} {_path(cls)})"


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


def _derives(cls: type, path: str) -> bool:
    return any(_path(each) == path for each in cls.__mro__)


def _path(cls: Any) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def guard(raw: Any) -> None:
    """Make all connections of the backend instance `raw` keep to the armed budget.

    `raw` is fresh, of an alias that `unsupported` has nothing against, and nobody else's.
    Its pools are made here, for good: an instance is shared by threads, and the backends do
    not expect that while they make them.
    """
    helpers = Helpers()
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
    if hasattr(client, "_serverdict"):  # sharded: its pools were made in its constructor
        client._serverdict = client.connect()
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
