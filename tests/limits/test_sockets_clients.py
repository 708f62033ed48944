"""Which clients the sockets limit takes on, and what it says of the others."""

from __future__ import annotations

import pytest
import redis
from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from django.test import override_settings
from redis.connection import Connection

from django_resilient_cache.limits.sockets import SocketsLimit, unsupported

from .sockets import BACKENDS, DJANGO, DJANGO_REDIS, assert_cut, call, get, put


class OurConnection(Connection):
    """A subclass of a known class is known."""


class OurClient(RedisCacheClient):
    """The same."""


class OurCache(RedisCache):
    def __init__(self, server, params):
        super().__init__(server, params)
        self._class = OurClient


class ForeignClient:
    def __init__(self, servers, **options):
        pass


class ForeignCache(RedisCache):
    def __init__(self, server, params):
        super().__init__(server, params)
        self._class = ForeignClient


class ForeignPool:
    pass


def _reason(backend=DJANGO_REDIS, **options):
    if backend == DJANGO_REDIS:
        pytest.importorskip("django_redis")
    cache = {"BACKEND": backend, "LOCATION": "redis://127.0.0.1:1/0", "OPTIONS": options}
    with override_settings(CACHES={"default": cache}):
        return unsupported("default")


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_backend_as_installed_is_known(backend):
    assert _reason(backend) is None


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        (DJANGO, {"pool_class": "redis.connection.BlockingConnectionPool"}),
        (DJANGO, {"pool_class": redis.BlockingConnectionPool, "db": 3}),
        (DJANGO, {"connection_class": OurConnection}),
        (f"{__name__}.OurCache", {}),
        (DJANGO_REDIS, {"CONNECTION_POOL_CLASS": "redis.BlockingConnectionPool"}),
        (DJANGO_REDIS, {"CLIENT_CLASS": "django_redis.client.HerdClient"}),
        (DJANGO_REDIS, {"CLIENT_CLASS": "django_redis.client.ShardClient"}),
        (DJANGO_REDIS, {"CONNECTION_POOL_KWARGS": {"max_connections": 3}}),
        (DJANGO_REDIS, {"CONNECTION_POOL_KWARGS": {"connection_class": OurConnection}}),
    ],
)
def test_variants_of_known_classes_are_known(backend, options):
    assert _reason(backend, **options) is None


@pytest.mark.parametrize(
    ("backend", "options", "named"),
    [
        (DJANGO, {"pool_class": ForeignPool}, "ForeignPool"),
        (DJANGO, {"connection_class": ForeignPool}, "ForeignPool"),
        (f"{__name__}.ForeignCache", {}, "ForeignClient"),
        (DJANGO, {"cache_config": object()}, "client-side caching"),
        (DJANGO_REDIS, {"CONNECTION_POOL_CLASS": f"{__name__}.ForeignPool"}, "ForeignPool"),
        (DJANGO_REDIS, {"CONNECTION_FACTORY": f"{__name__}.ForeignPool"}, "ForeignPool"),
        (DJANGO_REDIS, {"CLIENT_CLASS": f"{__name__}.ForeignPool"}, "ForeignPool"),
        (DJANGO_REDIS, {"CLIENT_CLASS": "django_redis.client.SentinelClient"}, "Sentinel"),
        (DJANGO_REDIS, {"REDIS_CLIENT_CLASS": "redis.cluster.RedisCluster"}, "RedisCluster"),
        (DJANGO_REDIS, {"CLIENT_CLASS": "no.such.Client"}, "cannot be imported"),
        ("django.core.cache.backends.locmem.LocMemCache", {}, "LocMemCache"),
    ],
)
def test_anything_else_is_named(backend, options, named):
    assert named in _reason(backend, **options)


@pytest.mark.parametrize(
    ("version", "known"), [("8.1.0", True), ("9.0.0b1", False), ("4.5.5", False)]
)
def test_versions_not_known_to_work_are_named(version, known, monkeypatch):
    monkeypatch.setattr(redis, "__version__", version)

    reason = _reason(DJANGO)

    assert reason is None if known else reason == f"redis {version} is not a version known to work"


# django-redis warns of what its own backend passes to it.
@pytest.mark.filterwarnings("ignore:get on sharded client:UserWarning")
def test_sharded_servers_are_guarded_each(own_valkey):
    pytest.importorskip("django_redis")
    cache = {
        "BACKEND": DJANGO_REDIS,
        "LOCATION": [own_valkey.url[:-1] + "1", own_valkey.url[:-1] + "2"],
        "OPTIONS": {"CLIENT_CLASS": "django_redis.client.ShardClient"},
    }
    numbers = range(10)
    with override_settings(CACHES={"default": cache}):
        limit = SocketsLimit("default")
        for number in numbers:
            call(limit, put, f"key{number}", number, budget=2.0)
        assert [call(limit, get, f"key{number}", budget=2.0) for number in numbers] == list(numbers)
        own_valkey.freeze()
        for number in numbers[:4]:
            assert_cut(limit, get, f"key{number}")
        limit.close()
