"""Subclasses of the clients that a project brings along: nothing of theirs is passed over."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.redis import RedisCache, RedisCacheClient

from django_resilient_cache import CacheUnavailable, breakers, is_circuit_open
from django_resilient_cache.timeouts.sockets.supported_clients import unsupported
from tests import services

django_redis = pytest.importorskip("django_redis")
from django_redis.cache import RedisCache as DjangoRedisCache  # noqa: E402 - after the skip
from django_redis.client import DefaultClient  # noqa: E402  # once Django is set up
from django_redis.pool import ConnectionFactory  # noqa: E402  # once Django is set up

HERE = __name__


class WrappingCache(DjangoRedisCache):  # type: ignore[misc]  # its base has no types
    """As one that signs or encrypts."""

    def set(self, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        return super().set(key, {"wrapped": value}, *args, **kwargs)

    def get(self, key: Any, default: Any = None, *args: Any, **kwargs: Any) -> Any:
        found = super().get(key, None, *args, **kwargs)
        return default if found is None else found["wrapped"]


class WrappingClient(RedisCacheClient):
    def set(self, key: Any, value: Any, timeout: Any) -> Any:
        return super().set(key, {"wrapped": value}, timeout)

    def get(self, key: Any, default: Any) -> Any:
        found = super().get(key, None)
        return default if found is None else found["wrapped"]


class WrappingDjangoCache(RedisCache):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._class = WrappingClient


class OwnFactory(ConnectionFactory):  # type: ignore[misc]  # its base has no types
    def connect(self, url: str) -> Any:
        return super().connect(url)


class OwnClient(DefaultClient):  # type: ignore[misc]  # its base has no types
    def connect(self, index: int = 0) -> Any:
        return super().connect(index)


def chain(url: str, mode: str = "miss", **redis: Any) -> dict[str, Any]:
    return {
        "default": {
            "BACKEND": "django_resilient_cache.backend.ResilientCache",
            "LOCATION": ["memory", "redis"],
            "OPTIONS": {"ON_UNAVAILABLE": mode},
        },
        "memory": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": "foreign",
        },
        "redis": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url, **redis},
    }


@pytest.mark.parametrize("backend", ["WrappingCache", "WrappingDjangoCache"])
def test_what_a_subclass_wraps_is_unwrapped_on_every_way(
    backend: str, valkey: services.ValkeyServer, settings: Any
) -> None:
    settings.CACHES = chain(valkey.url, BACKEND=f"{HERE}.{backend}")
    cache = caches["default"]
    cache.set("key", 5, 60)
    assert cache.get("key") == 5
    caches["memory"].clear()
    assert cache.get("key") == 5
    assert caches["memory"].get("key") == 5
    caches["memory"].clear()
    assert cache.get_or_set("key", 6) == 5


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"CONNECTION_FACTORY": f"{HERE}.OwnFactory"}, "OwnFactory has a connect() of its own"),
        ({"CLIENT_CLASS": f"{HERE}.OwnClient"}, "OwnClient has a connect() of its own"),
    ],
)
def test_a_class_that_connects_in_a_way_of_its_own_goes_to_threads(
    options: dict[str, Any], name: str, settings: Any
) -> None:
    settings.CACHES = chain("redis://127.0.0.1:1", OPTIONS=options)
    assert name in str(unsupported("redis"))


@pytest.mark.usefixtures("still_agent")
def test_while_the_authority_is_away_raise_raises_whatever_the_ledger_holds(settings: Any) -> None:
    with services.RefusedPort() as port:
        settings.CACHES = chain(port.url, "raise", RESILIENCE={"MAX_FAILURES": 1})
        cache = caches["default"]
        with pytest.raises(CacheUnavailable):
            cache.clear()
        for call in (
            lambda: cache.delete("key"),
            lambda: cache.get("key"),
            lambda: cache.get("other"),
            lambda: cache.get_many(["key", "other"]),
            lambda: cache.has_key("key"),
            lambda: cache.add("key", 1),
        ):
            with pytest.raises(CacheUnavailable) as caught:
                call()
            assert is_circuit_open(caught.value)
        assert breakers["redis"].state.value == "open"
