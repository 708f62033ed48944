"""Entries of CACHES, and backends, for tests of the configuration."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import BaseCache, caches
from django.core.cache.backends.memcached import BaseMemcachedCache
from django.core.cache.backends.redis import RedisCache
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_resilient_cache import conf

CHAIN = "django_resilient_cache.backend.ResilientCache"
MEMORY = "django.core.cache.backends.locmem.LocMemCache"
DUMMY = "django.core.cache.backends.dummy.DummyCache"
FILE = "django.core.cache.backends.filebased.FileBasedCache"
DATABASE = "django.core.cache.backends.db.DatabaseCache"
REDIS = "django.core.cache.backends.redis.RedisCache"
DJANGO_REDIS = "django_redis.cache.RedisCache"
DJANGO_VALKEY = "django_valkey.cache.ValkeyCache"
VALKEY_CLUSTER = "django_valkey.cluster_cache.cache.ClusterValkeyCache"
PYMEMCACHE = "django.core.cache.backends.memcached.PyMemcacheCache"
PYLIBMC = "django.core.cache.backends.memcached.PyLibMCCache"
FAULTY = "django_resilient_cache.testing.FaultyCache"


class OwnRedisCache(RedisCache):
    """A project's subclass of a known backend."""


class OwnMemcachedCache(BaseMemcachedCache):
    """A Memcached client that Django does not know."""

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        library: Any = OwnMemcachedLibrary
        super().__init__(server, params, library=library, value_not_found_exception=KeyError)


class OwnMemcachedLibrary:
    class Client:
        def __init__(self, servers: Any, **options: Any) -> None:
            pass

        def disconnect_all(self) -> None:
            """Django's backends ask for it when they are closed."""


class OwnCache(BaseCache):
    """A backend of which nothing is known."""

    def __init__(self, location: Any, params: dict[str, Any]) -> None:
        super().__init__(params)


class CoroutineCache(BaseCache):
    """A backend for asynchronous code alone."""

    async def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return default


def own_key_function(key: str, key_prefix: str, version: int) -> str:
    return f"{key_prefix}/{version}/{key}"


def layer(backend: str = REDIS, resilience: Any = None, /, **entry: Any) -> dict[str, Any]:
    """A layer's entry in CACHES."""
    location = "cache:11211" if ".memcached." in backend else "redis://cache:6379/0"
    entry = {"BACKEND": backend, "LOCATION": location, **entry}
    return entry if resilience is None else entry | {"RESILIENCE": resilience}


def chain(*layers: str, **entry: Any) -> dict[str, Any]:
    """A chain's entry in CACHES."""
    return {"BACKEND": CHAIN, "LOCATION": list(layers), **entry}


def layer_refusal(**caches: Any) -> str:
    """Why the first of these aliases cannot be used as a layer."""
    with (
        override_settings(CACHES={"default": layer(MEMORY), **caches}),
        pytest.raises(ImproperlyConfigured) as caught,
    ):
        conf.layer_config(next(iter(caches)))
    return str(caught.value)


def chain_refusal(entry: dict[str, Any], **caches: Any) -> str:
    """Why this entry cannot be used as the default chain."""
    others = {"memory": layer(MEMORY), "redis": layer(), **caches}
    with (
        override_settings(CACHES={"default": entry, **others}),
        pytest.raises(ImproperlyConfigured) as caught,
    ):
        configured_chain("default")
    return str(caught.value)


def configured_chain(alias: str) -> conf.ChainConfig:
    """What a chain finds out from the arguments that Django makes it with."""
    cache: Any = caches.create_connection(alias)
    return conf.chain_config(cache._location, cache._params)
