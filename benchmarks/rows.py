"""The rows of the table: what is measured, against what, and which figure is the goal."""

from __future__ import annotations

from benchmarks import beside, crowds, frozen, peers, single
from benchmarks.result import Goal, Result, Row
from benchmarks.setup import Bench


def frozen_memory(bench: Bench) -> Result:
    return Result(*frozen.against_memory(bench), unit="/s")


def frozen_local_memory(bench: Bench) -> Result:
    return Result(*frozen.against_local_memory(bench), unit="/s")


def frozen_ignoring(bench: Bench) -> Result:
    return Result(*frozen.against_ignoring(bench), unit="/s")


def frozen_fallback(bench: Bench) -> Result:
    return Result(*frozen.against_fallback(bench), unit="/s")


def frozen_installed(bench: Bench) -> Result:
    return Result(*frozen.against_installed(bench), unit="/s")


def repair_redis(bench: Bench) -> Result:
    return Result(*beside.one_layer(bench))


def repair_near(bench: Bench) -> Result:
    return Result(*beside.near(bench))


def board_frozen(bench: Bench) -> Result:
    return Result(*beside.board(bench))


def memory(bench: Bench) -> Result:
    return Result(*frozen.memory(bench), unit="MB")


def _of_threads(name: str, work: str, alias: str, bare: str, least: float) -> list[Row]:
    """Return the rows of a work at several numbers of threads."""
    against = "the layer alone, as many threads"
    return [
        Row(
            f"{name}-{number}-thread{'s' if number > 1 else ''}",
            f"{work}, {number} thread{'s' if number > 1 else ''}",
            against,
            Goal(least, at_most=False),
            crowds.threads(alias, bare, number),
        )
        for number in (1, 2, 4, 8)
    ]


ROWS = (
    Row(
        "nearest-hit",
        "get, hit in the nearest layer (local memory)",
        "LocMem.get",
        Goal(1.10),
        single.nearest_hit,
    ),
    Row(
        "redis-sockets",
        "Redis get through a one-layer chain, sockets",
        "django-redis get",
        Goal(1.05),
        single.redis_sockets,
    ),
    Row("redis-thread", "the same, thread", "django-redis get", Goal(1.6), single.redis_thread),
    Row(
        "memcached-sockets",
        "Memcached get through a one-layer chain, sockets",
        "pymemcache get",
        Goal(1.10),
        single.memcached_sockets,
        needs="pymemcache",
    ),
    Row(
        "get-many",
        "get_many of 100 in the nearest layer",
        "LocMem.get_many",
        Goal(1.05),
        single.get_many,
    ),
    Row(
        "backfill",
        "near miss, Redis hit, backfill with its TTL",
        "django-redis get",
        Goal(1.25),
        single.backfill,
    ),
    Row(
        "aget-nearest",
        "aget, hit in the nearest layer (local memory)",
        "LocMem.aget",
        Goal(0.03),
        single.aget_nearest,
    ),
    Row(
        "aget-django-redis",
        "aget of Redis through a one-layer chain",
        "django-redis aget",
        Goal(1.0),
        single.aget_redis,
    ),
    Row(
        "aget-redis",
        "the same",
        "Django's RedisCache aget",
        Goal(1.0),
        single.aget_django_redis_backend,
    ),
    Row(
        "breaker-circuitbreaker",
        "breaker.call, closed, no-op",
        "circuitbreaker",
        Goal(1.0),
        peers.circuitbreaker,
        needs="circuitbreaker",
    ),
    Row(
        "breaker-pybreaker",
        "the same",
        "pybreaker",
        Goal(0.5),
        peers.pybreaker,
        needs="pybreaker",
    ),
    Row(
        "breaker-purgatory",
        "the same",
        "purgatory",
        Goal(1.0),
        peers.purgatory,
        needs="purgatory",
    ),
    Row(
        "breaker-aiobreaker",
        "the same",
        "aiobreaker",
        Goal(1.0),
        peers.aiobreaker,
        needs="aiobreaker",
    ),
    Row(
        "open-layer",
        "get, near miss, the layer below open",
        "the chain without it",
        Goal(0.5, "us"),
        single.open_layer,
    ),
    Row(
        "open-layer-between",
        "the same, a third layer below that one",
        "the chain without it",
        Goal(0.5, "us"),
        single.open_layer_between,
    ),
    *_of_threads("nearest-hit", "hits in local memory", "nearest", "memory", 0.91),
    *_of_threads("redis", "Redis gets, one-layer chain", "one_layer", "redis", 0.95),
    Row(
        "nearest-hit-1000-tasks",
        "aget, hits in local memory, 1,000 tasks",
        "LocMem.aget",
        Goal(33, at_most=False),
        crowds.tasks("nearest", "memory"),
    ),
    Row(
        "redis-1000-tasks",
        "aget of Redis, one-layer chain, 1,000 tasks",
        "django-redis aget",
        Goal(1.0, at_most=False),
        crowds.tasks("one_layer_patient", "redis_patient"),
    ),
    Row(
        "frozen-memory",
        "Redis frozen, 8 threads",
        "the chain without Redis",
        Goal(0.9, at_most=False),
        frozen_memory,
    ),
    Row(
        "frozen-locmem",
        "the same",
        "LocMem alone",
        Goal(0.9, at_most=False),
        frozen_local_memory,
    ),
    Row(
        "frozen-ignoring",
        "the same",
        "django-redis, errors ignored",
        Goal(100, at_most=False),
        frozen_ignoring,
    ),
    Row(
        "frozen-fallback",
        "the same",
        "django-cache-fallback",
        Goal(100, at_most=False),
        frozen_fallback,
        needs="cache_fallback",
    ),
    Row(
        "frozen-installed",
        "the same",
        "django-redis as installed",
        Goal(100, at_most=False),
        frozen_installed,
    ),
    Row(
        "repair-redis",
        "Redis get, p99 during a repair of 100,000 keys",
        "p99 without",
        Goal(1.1),
        repair_redis,
    ),
    Row(
        "repair-near",
        "the same, hits in local memory above it",
        "p99 without",
        Goal(1.1),
        repair_near,
    ),
    Row(
        "board-frozen",
        "Redis get, p99 while the board's server hangs",
        "p99 without",
        Goal(1.05),
        board_frozen,
    ),
    Row(
        "memory",
        "100,000 distinct keys in and out",
        "the chain's own memory before",
        Goal(0.1, "MB"),
        memory,
    ),
)
