"""A chain over Sentinel: the master hangs, another takes its place, and what was missed is repaired."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.core.cache import caches

from django_resilient_cache import State, breakers
from django_resilient_cache.layer.registry import registry
from tests import services
from tests.entries import CHAIN, DJANGO_REDIS, MEMORY
from tests.services.replication import SERVICE, watched

pytestmark = pytest.mark.slow

LIMIT, GRACE = 0.1, 0.05


@pytest.fixture
def servers():
    pytest.importorskip("django_redis")
    with watched() as made:
        yield made


@pytest.fixture
def cache(servers, settings) -> Any:
    settings.CACHES = {
        "default": {"BACKEND": CHAIN, "LOCATION": ["memory", "redis"]},
        "memory": {"BACKEND": MEMORY, "LOCATION": "sentinel"},
        "redis": {
            "BACKEND": DJANGO_REDIS,
            "LOCATION": f"redis://{SERVICE}/0",
            "OPTIONS": {
                "CLIENT_CLASS": "django_redis.client.SentinelClient",
                "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
                "SENTINELS": servers.addresses,
            },
            "RESILIENCE": {
                "OPERATION_TIMEOUT": LIMIT,
                "RESET_TIMEOUT": 0.3,
                "MAX_RESET_TIMEOUT": 0.6,
            },
        },
    }
    return caches["default"]


def stored(server, key):
    return b"$-1" not in server.ask(f"GET :1:{key}\r\n".encode(), enough=b"\r\n")


def well():
    return (
        registry.layer("redis").missed_changes.in_sync and breakers["redis"].state is State.CLOSED
    )


def test_a_failover(cache, servers):
    for key in ("replaced", "deleted", "left"):
        cache.set(key, "old")
    assert services.wait_until(lambda: stored(servers.replica, "left"))
    servers.master.freeze()
    took = []

    def timed(function, *args):
        start = time.monotonic()
        result = function(*args)
        took.append(time.monotonic() - start)
        return result

    timed(cache.set, "replaced", "new")
    timed(cache.delete, "deleted")
    while not any(each.takes_writes(servers.replica) for each in servers.sentinels):
        assert timed(cache.get, "replaced") in ("new", None)  # the memory keeps it for 5 s
        assert timed(cache.get, "deleted") is None
        timed(cache.set, "other", "new")
        time.sleep(0.05)
    assert services.wait_until(well), registry.snapshot()

    assert sorted(took)[-3] <= LIMIT + GRACE
    assert timed(cache.get, "deleted") is None
    assert timed(cache.get, "left") == "old"
    assert not stored(servers.replica, "deleted")
    timed(cache.set, "replaced", "newest")
    assert services.wait_until(lambda: stored(servers.replica, "replaced"))
