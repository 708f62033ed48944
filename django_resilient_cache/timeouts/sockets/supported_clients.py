"""Which clients the sockets limit knows: a table, and what is looked at in an alias.

It keeps to a budget only where the client comes to its connections in a way that is known.  A
project may replace many of the classes involved: a subclass is fine, unless it connects in a way of
its own.
"""

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

from django_resilient_cache.conf.backends import family_of

#: Versions that were shown to keep to a budget: from, up to but without.
_VERSIONS = {
    "redis": ((4, 6), (9,)),
    "valkey": ((6,), (7,)),
    "django_redis": ((6,), (8,)),
    "django_valkey": ((0, 4), (0, 5)),
    "pymemcache": ((3, 4), (5,)),
}


@dataclass(frozen=True)
class _Slot:
    """A class that a project may replace: the option that names it, and what it derives from."""

    name: str
    default: str
    also: tuple[str, ...] = ()
    """Other classes that are known there."""
    setting: str = ""
    """The setting that names it for every alias."""
    client_attribute: str = ""
    """The attribute of the class in CLIENT_CLASS that names the default in its place."""


@dataclass(frozen=True)
class _RedisBackend:
    """A Django backend for redis-py or valkey-py."""

    name: str
    packages: tuple[str, ...]
    """The client, and what adapts it to Django."""
    slots: tuple[_Slot, ...]
    connection_options: str | None = None
    """Where in OPTIONS the arguments of connections stand; None: there itself."""
    client_options: str | None = None
    """Where in OPTIONS the arguments of the client stand; None: nowhere."""


_REDIS_BACKENDS = (
    _RedisBackend(
        "django.core.cache.backends.redis.RedisCache",
        ("redis",),
        (_Slot("pool_class", "redis.connection.ConnectionPool"),),
    ),
    _RedisBackend(
        "django_redis.cache.RedisCache",
        ("redis", "django_redis"),
        (
            _Slot("CLIENT_CLASS", "django_redis.client.default.DefaultClient"),
            _Slot(
                "CONNECTION_FACTORY",
                "django_redis.pool.ConnectionFactory",
                setting="DJANGO_REDIS_CONNECTION_FACTORY",
            ),
            _Slot("CONNECTION_POOL_CLASS", "redis.connection.ConnectionPool"),
            _Slot("REDIS_CLIENT_CLASS", "redis.client.Redis"),
        ),
        "CONNECTION_POOL_KWARGS",
        "REDIS_CLIENT_KWARGS",
    ),
    _RedisBackend(
        "django_valkey.cache.ValkeyCache",
        ("valkey", "django_valkey"),
        (
            _Slot(
                "CLIENT_CLASS",
                "django_valkey.client.default.DefaultClient",
                also=("django_valkey.client.default.HashClient",),
            ),
            _Slot(
                "CONNECTION_FACTORY",
                "django_valkey.pool.ConnectionFactory",
                setting="DJANGO_VALKEY_CONNECTION_FACTORY",
                client_attribute="CONNECTION_FACTORY_PATH",
            ),
            _Slot("CONNECTION_POOL_CLASS", "valkey.connection.ConnectionPool"),
            _Slot("BASE_CLIENT_CLASS", "valkey.client.Valkey"),
        ),
        "CONNECTION_POOL_KWARGS",
        "BASE_CLIENT_KWARGS",
    ),
)

#: Families whose neighbours it knows, and why they themselves are out of its reach.
_OUT_OF_REACH = {
    "pylibmc": "pylibmc is written in C, and its sockets are out of reach",
    "memcached": "the sockets strategy does not know its client",
}

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
#: The packages whose ways of doing so are known.
_PACKAGES = frozenset({"django", *_VERSIONS})


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
    yield from _version_obstacles("pymemcache")
    made: Any = caches.create_connection(alias)
    client = made._class
    if not _derives(client, "pymemcache.client.hash.HashClient"):
        yield f"the sockets strategy does not know the client class {_path(client)}"
        return
    yield from _overriding_obstacles(client, _CALLING)
    yield from _overriding_obstacles(client.client_class, _CONNECTING)
    if not _derives(client.client_class, "pymemcache.client.base.Client"):
        yield f"the sockets strategy does not know the client class {_path(client.client_class)}"
    if made._options.get("socket_module", socket) is not socket:
        yield "it has a socket_module of its own"


def _redis_obstacles(alias: str, params: Mapping[str, Any], cls: type) -> Iterator[str]:
    backend = next((each for each in _REDIS_BACKENDS if _derives(cls, each.name)), None)
    if backend is None:
        yield f"{params['BACKEND']} is no backend that the sockets strategy knows"
        return
    for package in backend.packages:
        yield from _version_obstacles(package)
    options = params.get("OPTIONS") or {}
    named = _named_classes(backend, options)
    for slot in backend.slots:
        yield from _slot_obstacles(slot, named[slot.name])
    where = backend.connection_options
    yield from _connection_obstacles(
        options.get(where, {}) if where else options, backend.packages[0]
    )
    yield from _client_obstacles(options.get(backend.client_options))
    yield from _sentinel_obstacles(backend, named, options)
    if len(backend.packages) == 1:
        yield from _djangos_obstacles(alias)


def _djangos_obstacles(alias: str) -> Iterator[str]:
    """Django's own backend names its client in two classes that a project can derive from."""
    made: Any = caches.create_connection(alias)
    if not _derives(made._class, "django.core.cache.backends.redis.RedisCacheClient"):
        yield f"the sockets strategy does not know the client class {_path(made._class)}"
        return
    yield from _overriding_obstacles(made._class, _CONNECTING)
    client = made._cache._client
    if not _derives(client, "redis.client.Redis"):
        yield f"the sockets strategy does not know the client {_path(client)}"


def _version_obstacles(package: str) -> Iterator[str]:
    version = str(import_module(package).__version__)
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    first, end = _VERSIONS[package]
    if not first <= numbers < end:
        yield f"{package.replace('_', '-')} {version} is not a version known to work"


def _named_classes(backend: _RedisBackend, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the class in each slot, as the backend finds it."""
    named: dict[str, Any] = {}
    for slot in backend.slots:
        cls = (
            options.get(slot.name)
            or (slot.setting and getattr(settings, slot.setting, None))
            or getattr(named.get("CLIENT_CLASS"), slot.client_attribute, None)
            or slot.default
        )
        named[slot.name] = import_string(cls) if isinstance(cls, str) else cls
    return named


def _slot_obstacles(slot: _Slot, cls: Any) -> Iterator[str]:
    if not any(_derives(cls, known) for known in (slot.default, *slot.also)):
        yield f"the sockets strategy does not know the {slot.name} {_path(cls)}"
    yield from _overriding_obstacles(cls, _CONNECTING)


def _sentinel_obstacles(
    backend: _RedisBackend, named: Mapping[str, Any], options: Mapping[str, Any]
) -> Iterator[str]:
    """Sentinels are reached through what the packages' own factory makes of OPTIONS, or not at all."""
    client, *around = backend.packages
    factory = named.get("CONNECTION_FACTORY")
    if around and _derives(factory, f"{around[0]}.pool.SentinelConnectionFactory"):
        yield from _overriding_obstacles(factory, ("__init__",))
        yield from _client_obstacles(options.get("SENTINEL_KWARGS"))
        yield from _connection_obstacles(options.get("SENTINEL_KWARGS") or {}, client)
        return
    for name, cls in named.items():
        if _derives(cls, f"{client}.sentinel.SentinelConnectionPool"):
            yield f"the sockets strategy knows no Sentinel in {name} without SentinelConnectionFactory"


def _overriding_obstacles(cls: Any, names: tuple[str, ...]) -> Iterator[str]:
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
