"""Which clients the sockets limit takes on, and what it says of the others."""

from __future__ import annotations

import pytest
import redis
from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from django.test import override_settings
from redis.connection import Connection

from django_resilient_cache.timeouts.sockets.supported_clients import unsupported

from .sockets import BACKENDS, DJANGO, DJANGO_REDIS, DJANGO_VALKEY


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


class ConnectingClient(RedisCacheClient):
    """Connects in a way of its own."""

    def get_client(self, key=None, *, write=False):
        return redis.Redis()


class ClusterClient(RedisCacheClient):
    """Leaves the rest to a client of another kind."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._client = redis.RedisCluster


class ConnectingCache(RedisCache):
    def __init__(self, server, params):
        super().__init__(server, params)
        self._class = ConnectingClient


class ClusterCache(RedisCache):
    def __init__(self, server, params):
        super().__init__(server, params)
        self._class = ClusterClient


def _sentinel(package="django_redis", **options):
    return {
        "CLIENT_CLASS": f"{package}.client.SentinelClient",
        "CONNECTION_FACTORY": f"{package}.pool.SentinelConnectionFactory",
        "SENTINELS": [("127.0.0.1", 1)],
        **options,
    }


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
        (DJANGO_REDIS, _sentinel()),
        (DJANGO_REDIS, _sentinel(CLIENT_CLASS="django_redis.client.DefaultClient")),
        (DJANGO_REDIS, _sentinel(SENTINEL_KWARGS={"password": "secret"})),
        (DJANGO_REDIS, _sentinel(CONNECTION_POOL_CLASS="redis.sentinel.SentinelConnectionPool")),
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
        (f"{__name__}.ConnectingCache", {}, "ConnectingClient has a get_client() of its own"),
        (f"{__name__}.ClusterCache", {}, "redis.cluster.RedisCluster"),
        (DJANGO, {"pool_class": "redis.sentinel.SentinelConnectionPool"}, "no Sentinel in pool"),
        (
            DJANGO_REDIS,
            {"CONNECTION_POOL_CLASS": "redis.sentinel.SentinelConnectionPool"},
            "no Sentinel in CONNECTION_POOL_CLASS",
        ),
        (DJANGO_REDIS, _sentinel(SENTINEL_KWARGS={"connection_pool": object()}), "pool of its own"),
        (DJANGO_REDIS, _sentinel(SENTINEL_KWARGS={"cache_config": object()}), "caching"),
        (
            DJANGO_REDIS,
            {"REDIS_CLIENT_KWARGS": {"single_connection_client": True}},
            "single_connection_client",
        ),
        (DJANGO_REDIS, {"REDIS_CLIENT_CLASS": "redis.cluster.RedisCluster"}, "RedisCluster"),
        (DJANGO_REDIS, {"CLIENT_CLASS": "no.such.Client"}, "cannot be imported"),
        ("django.core.cache.backends.locmem.LocMemCache", {}, "LocMemCache"),
    ],
)
def test_anything_else_is_named(backend, options, named):
    assert named in _reason(backend, **options)


def test_a_factory_of_sentinels_of_its_own_is_named():
    made = pytest.importorskip("django_redis.pool").SentinelConnectionFactory
    own = type("OwnFactory", (made,), {"__init__": lambda self, options: None})

    assert "OwnFactory has a __init__() of its own" in _reason(**_sentinel(CONNECTION_FACTORY=own))


def test_django_valkeys_sentinel_client_brings_its_factory():
    pytest.importorskip("django_valkey")
    options = _sentinel("django_valkey")
    del options["CONNECTION_FACTORY"]

    assert _reason(DJANGO_VALKEY, **options) is None


@pytest.mark.parametrize(
    ("version", "known"), [("8.1.0", True), ("9.0.0b1", False), ("4.5.5", False)]
)
def test_versions_not_known_to_work_are_named(version, known, monkeypatch):
    monkeypatch.setattr(redis, "__version__", version)

    reason = _reason(DJANGO)

    assert reason is None if known else reason == f"redis {version} is not a version known to work"
