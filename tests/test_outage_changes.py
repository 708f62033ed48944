"""Row 14 with a real server: whatever a layer missed, and however, is never read again.

The layer that fails is a `FaultyCache` over django-redis, so the thread limit gives its calls up
and they land late, for real; frozen servers and killed connections are in test_repair.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import caches

from django_resilient_cache import State, breakers
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.testing import faults
from tests import services
from tests.entries import CHAIN, DJANGO_REDIS
from tests.simulated_chain import FAULTY

pytestmark = pytest.mark.slow

KEYS = [f"key{n}" for n in range(5)]

CHANGES: dict[str, Callable[[Any], object]] = {
    "delete": lambda cache: [cache.delete(key) for key in KEYS],
    "set": lambda cache: [cache.set(key, "new") for key in KEYS],
    "set_many": lambda cache: cache.set_many(dict.fromkeys(KEYS, "new")),
    "delete_many": lambda cache: cache.delete_many(KEYS),
    "clear": lambda cache: cache.clear(),
}


@pytest.fixture
def cache(valkey: services.ValkeyServer, settings: Any) -> Any:
    def faulty(behind: str) -> dict[str, Any]:
        resilience = {"OPERATION_TIMEOUT": 0.1, "MAX_FAILURES": 3, "RESET_TIMEOUT": 0.3}
        return {"BACKEND": FAULTY, "LOCATION": behind, "RESILIENCE": resilience}

    settings.CACHES = {
        "default": {"BACKEND": CHAIN, "LOCATION": ["upper", "authority"]},
        "upper": faulty("upper behind"),
        "authority": faulty("authority behind"),
        "upper behind": {"BACKEND": DJANGO_REDIS, "LOCATION": valkey.url, "KEY_PREFIX": "u"},
        "authority behind": {
            "BACKEND": DJANGO_REDIS,
            # Another database: django-redis shares connections by address, clear() is FLUSHDB.
            "LOCATION": valkey.url.removesuffix("/0") + "/1",
            "KEY_PREFIX": "a",
        },
    }
    return caches["default"]


def well(alias: str) -> bool:
    return registry.layer(alias).missed_changes.in_sync and breakers[alias].state is State.CLOSED


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("fault", ["fail", "lose_answers", "hang", "slow"])
@pytest.mark.parametrize("broken", ["upper", "authority"])
def test_nothing_older_is_read_after_a_change(cache, broken, fault, change):
    cache.set_many(dict.fromkeys(KEYS, "old"), timeout=None)
    cache.set("untouched", "old")
    trouble = faults(broken)
    if fault == "slow":
        trouble.slow(0.15)
    else:
        getattr(trouble, fault)()
    CHANGES[change](cache)
    seen: set[Any] = set()

    def read() -> None:
        seen.update(cache.get_many(KEYS).values())
        seen.update(cache.get(key) for key in KEYS)

    read()
    trouble.heal()
    ends = time.monotonic() + 10
    while not (well("upper") and well("authority")) and time.monotonic() < ends:
        read()
        time.sleep(0.005)
    assert well(broken), registry.snapshot()
    read()
    assert seen <= {"new", None}
    behind = [caches[f"{alias} behind"].get_many(KEYS) for alias in ("upper", "authority")]
    assert {value for found in behind for value in found.values()} <= {"new"}
    if change != "clear":
        assert cache.get("untouched") == "old"
    cache.set(KEYS[0], "newest")
    assert cache.get(KEYS[0]) == "newest"
