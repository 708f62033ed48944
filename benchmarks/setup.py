"""The settings that everything here is measured under."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.servers import Memcached, Server

CHAIN = "django_resilient_cache.backend.ResilientCache"
MEMORY = "django.core.cache.backends.locmem.LocMemCache"
DJANGO_REDIS = "django_redis.cache.RedisCache"
PYMEMCACHE = "django.core.cache.backends.memcached.PyMemcacheCache"

DJANGO = "django.core.cache.backends.redis.RedisCache"

#: Told to be silent, so that no row times a terminal.
LOGGERS = ("django_resilient_cache", "cache_fallback")

#: Seconds: the limit of a guarded layer, and the socket timeout of the bare client beside it.
LIMIT = 0.1

SHORT_TIMEOUTS = {"SOCKET_TIMEOUT": LIMIT, "SOCKET_CONNECT_TIMEOUT": LIMIT}


@dataclass(frozen=True, slots=True)
class Bench:
    """What a row may use: one server that stays well, one to be frozen, seconds to spend."""

    healthy: Server
    frozen: Server
    seconds: float
    entries: int
    """Distinct keys of the row that watches memory."""
    memcached: Memcached = field(default_factory=Memcached)
    """Started by the rows that are about it."""


def configure(bench: Bench) -> None:
    """Configure Django once for all rows; caches that a row does not use cost nothing."""
    import django
    from django.conf import settings

    settings.configure(
        CACHES=_caches(bench),
        INSTALLED_APPS=["django_resilient_cache"],
        RESILIENT_CACHE_CONTROL_ALIAS="board",
        LOGGING={"version": 1, "loggers": {name: {"level": "CRITICAL"} for name in LOGGERS}},
    )
    django.setup()


def cache(alias: str) -> Any:
    """Return the backend itself: the proxy `django.core.cache.cache` costs as much again."""
    from django.core.cache import caches

    return caches[alias]


def _caches(bench: Bench) -> dict[str, dict[str, Any]]:
    healthy, frozen = bench.healthy.url(), bench.frozen.url()
    guard = {"OPERATION_TIMEOUT": LIMIT}
    return {
        "default": _memory("default"),
        "memory": _memory("memory"),
        "redis": _redis(healthy),
        "redis_django": {"BACKEND": DJANGO, "LOCATION": healthy},
        # For a thousand callers at once in one process: they wait for each other.
        "redis_patient": _redis(healthy, RESILIENCE={"OPERATION_TIMEOUT": 60}),
        "redis_threads": _redis(healthy, RESILIENCE={"TIMEOUT_STRATEGY": "thread"}),
        # For a breaker that is open longer than any run.
        "away": {
            "BACKEND": "django.core.cache.backends.dummy.DummyCache",
            "RESILIENCE": {"RESET_TIMEOUT": 3600, "MAX_RESET_TIMEOUT": 3600},
        },
        "nearest": _chain("memory", "redis"),
        "memory_only": _chain("memory"),
        "one_layer": _chain("redis"),
        "one_layer_django": _chain("redis_django"),
        "one_layer_patient": _chain("redis_patient"),
        "one_layer_threads": _chain("redis_threads"),
        "below": _memory("below"),
        "two_memories": _chain("memory", "below"),
        "away_last": _chain("memory", "away"),
        "away_between": _chain("memory", "away", "below"),
        "memcached": {"BACKEND": PYMEMCACHE, "LOCATION": bench.memcached.location},
        "one_layer_memcached": _chain("memcached"),
        "frozen": _redis(frozen, RESILIENCE=guard),
        "frozen_near": _memory("frozen_near"),
        "repaired_redis": _redis(frozen, KEY_PREFIX="repaired", RESILIENCE=guard),
        "repaired_near_memory": _memory("repaired_near", TIMEOUT=3600),
        "repaired": _chain("repaired_redis"),
        "repaired_near": _chain("repaired_near_memory", "repaired_redis"),
        "board": {"BACKEND": DJANGO, "LOCATION": bench.healthy.url(1)},
        # The same beside them, which misses nothing.
        "rested_redis": _redis(frozen, KEY_PREFIX="rested", RESILIENCE=guard),
        "rested_near_memory": _memory("rested_near", TIMEOUT=3600),
        "rested": _chain("rested_redis"),
        "rested_near": _chain("rested_near_memory", "rested_redis"),
        "outage": _chain("frozen_near", "frozen"),
        "outage_without": _chain("frozen_near"),
        # A database for each: django-redis shares pools between aliases of one URL.
        "ignoring": _redis(
            bench.frozen.url(1), OPTIONS={"IGNORE_EXCEPTIONS": True, **SHORT_TIMEOUTS}
        ),
        "installed": _redis(bench.frozen.url(2)),
        # The aliases that django-cache-fallback knows.
        "falling_back": {"BACKEND": "cache_fallback.FallbackCache"},
        "main_cache": _redis(bench.frozen.url(3), OPTIONS=SHORT_TIMEOUTS),
        "fallback_cache": _memory("fallback"),
    }


def _chain(*layers: str) -> dict[str, Any]:
    return {"BACKEND": CHAIN, "LOCATION": list(layers)}


def _memory(name: str, **more: Any) -> dict[str, Any]:
    return {"BACKEND": MEMORY, "LOCATION": name, "OPTIONS": {"MAX_ENTRIES": 10_000}, **more}


def _redis(url: str, **more: Any) -> dict[str, Any]:
    return {"BACKEND": DJANGO_REDIS, "LOCATION": url, **more}
