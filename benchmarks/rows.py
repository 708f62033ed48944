"""The rows of the table: what is measured, against what, and which figure is the goal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from benchmarks import frozen, repair
from benchmarks.measure import Spread, Work, compare
from benchmarks.servers import NoServerError
from benchmarks.setup import Bench, cache


class NotMeasuredError(Exception):
    """Something that a row needs is not there; the message says what."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure to keep: at most `limit`, or at least."""

    limit: float
    unit: str = "x"
    at_most: bool = True

    def met(self, value: float) -> bool:
        """Whether the figure, as it is printed, keeps the goal."""
        value = round(value, 2)
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.limit:g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Result:
    """What a row found: the figure to hold against the goal, and both sides of it."""

    figure: Spread
    subject: float
    reference: float
    unit: str = "us"
    """Of both sides: "us" (microseconds a call), "/s" (calls per second) or "MB"."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    work: str
    against: str
    goal: Goal
    measure: Callable[[Bench], Result]


def _ratio(subject: Work, reference: Work, bench: Bench) -> Result:
    found = compare(subject, reference, bench.seconds)
    return Result(found.ratio, found.subject.median, found.reference.median)


def nearest_hit(bench: Bench) -> Result:
    memory, chain = cache("memory"), cache("nearest")
    memory.set("key", "value", None)
    statement = "cache.get('key')"
    return _ratio(Work(statement, cache=chain), Work(statement, cache=memory), bench)


def get_many(bench: Bench) -> Result:
    memory, chain = cache("memory"), cache("nearest")
    keys = [f"many-{number}" for number in range(100)]
    memory.set_many(dict.fromkeys(keys, "value"), None)
    statement = "cache.get_many(keys)"
    subject, reference = (Work(statement, cache=one, keys=keys) for one in (chain, memory))
    return _ratio(subject, reference, bench)


def redis_sockets(bench: Bench) -> Result:
    return _redis_get(bench, "one_layer", "redis", "sockets")


def redis_thread(bench: Bench) -> Result:
    return _redis_get(bench, "one_layer_threads", "redis_threads", "thread")


def _redis_get(bench: Bench, alias: str, layer: str, strategy: str) -> Result:
    return _get_through(bench, alias, "redis", strategy, layer)


def _get_through(
    bench: Bench, alias: str, bare: str, strategy: str, layer: str | None = None
) -> Result:
    from django_resilient_cache.registry import registry

    if registry.layer(layer or bare).strategy != strategy:
        raise NotMeasuredError(f"the {strategy} strategy does not know this client")
    reference, chain = cache(bare), cache(alias)
    reference.set("key", "value", None)
    statement = "cache.get('key')"
    subject, other = (Work(statement, waits=True, cache=one) for one in (chain, reference))
    return _ratio(subject, other, bench)


def memcached_sockets(bench: Bench) -> Result:
    try:
        with bench.memcached:
            return _get_through(bench, "one_layer_memcached", "memcached", "sockets")
    except (ImportError, NoServerError) as error:
        raise NotMeasuredError(str(error)) from None


def backfill(bench: Bench) -> Result:
    memory, redis, chain = cache("memory"), cache("redis"), cache("nearest")
    keys = [f"below-{number}" for number in range(200)]
    redis.set_many(dict.fromkeys(keys, "value"), 3600)
    # The near copies go before each batch, and no key is asked for twice in one.
    statement, before, names = "cache.get(next(keys))", "memory.clear()", cycle(keys)
    subject, reference = (
        Work(statement, before, len(keys), waits=True, cache=one, keys=names, memory=memory)
        for one in (chain, redis)
    )
    return _ratio(subject, reference, bench)


def breaker_circuitbreaker(bench: Bench) -> Result:
    try:
        from circuitbreaker import CircuitBreaker
    except ImportError as error:
        raise NotMeasuredError(str(error)) from None
    return _breaker(bench, CircuitBreaker(name="reference"))


def breaker_pybreaker(bench: Bench) -> Result:
    try:
        from pybreaker import CircuitBreaker
    except ImportError as error:
        raise NotMeasuredError(str(error)) from None
    return _breaker(bench, CircuitBreaker())


def _breaker(bench: Bench, other: Any) -> Result:
    from django_resilient_cache import CircuitBreaker

    def nothing() -> None: ...

    statement = "breaker.call(nothing)"
    ours = CircuitBreaker("subject")
    subject, reference = (Work(statement, breaker=one, nothing=nothing) for one in (ours, other))
    return _ratio(subject, reference, bench)


def open_layer(bench: Bench) -> Result:
    return _open_layer(bench, "away_last", "memory_only")


def open_layer_between(bench: Bench) -> Result:
    return _open_layer(bench, "away_between", "two_memories")


def _open_layer(bench: Bench, alias: str, other: str) -> Result:
    from django_resilient_cache import State, breakers

    breaker = breakers["away"]
    breaker.reset()
    while breaker.state is State.CLOSED:  # open as failures leave it, not by an order
        breaker.acquire().failure()
    statement = "cache.get('missing')"
    subject, reference = (Work(statement, cache=cache(one)) for one in (alias, other))
    found = compare(subject, reference, bench.seconds)
    assert breaker.retry_after > 0, "a trial came in between"
    return Result(found.extra, found.subject.median, found.reference.median)


def frozen_memory(bench: Bench) -> Result:
    return Result(*frozen.against_memory(bench), unit="/s")


def frozen_ignoring(bench: Bench) -> Result:
    return Result(*frozen.against_ignoring(bench), unit="/s")


def repair_redis(bench: Bench) -> Result:
    return Result(*repair.one_layer(bench))


def repair_near(bench: Bench) -> Result:
    return Result(*repair.near(bench))


def memory(bench: Bench) -> Result:
    return Result(*frozen.memory(bench), unit="MB")


ROWS = (
    Row(
        "nearest-hit",
        "get, hit in the nearest layer (local memory)",
        "LocMem.get",
        Goal(1.10),
        nearest_hit,
    ),
    Row(
        "redis-sockets",
        "Redis get through a one-layer chain, sockets",
        "django-redis get",
        Goal(1.05),
        redis_sockets,
    ),
    Row("redis-thread", "the same, thread", "django-redis get", Goal(1.6), redis_thread),
    Row(
        "memcached-sockets",
        "Memcached get through a one-layer chain, sockets",
        "pymemcache get",
        Goal(1.10),
        memcached_sockets,
    ),
    Row(
        "get-many",
        "get_many of 100 in the nearest layer",
        "LocMem.get_many",
        Goal(1.05),
        get_many,
    ),
    Row(
        "backfill",
        "near miss, Redis hit, backfill with its TTL",
        "django-redis get",
        Goal(1.25),
        backfill,
    ),
    Row(
        "breaker-circuitbreaker",
        "breaker.call, closed, no-op",
        "circuitbreaker",
        Goal(1.0),
        breaker_circuitbreaker,
    ),
    Row("breaker-pybreaker", "the same", "pybreaker", Goal(0.5), breaker_pybreaker),
    Row(
        "open-layer",
        "get, near miss, the layer below open",
        "the chain without it",
        Goal(0.5, "us"),
        open_layer,
    ),
    Row(
        "open-layer-between",
        "the same, a third layer below that one",
        "the chain without it",
        Goal(0.5, "us"),
        open_layer_between,
    ),
    Row(
        "frozen-memory",
        "Redis frozen, 8 threads",
        "the same load without Redis",
        Goal(0.9, at_most=False),
        frozen_memory,
    ),
    Row(
        "frozen-ignoring",
        "the same",
        "django-redis, errors ignored",
        Goal(100, at_most=False),
        frozen_ignoring,
    ),
    Row(
        "repair-redis",
        "Redis get, p99 during a repair of 100,000 keys",
        "p99 before the outage",
        Goal(1.1),
        repair_redis,
    ),
    Row(
        "repair-near",
        "the same, hits in local memory above it",
        "p99 before the outage",
        Goal(1.1),
        repair_near,
    ),
    Row(
        "memory",
        "100,000 distinct keys in and out",
        "the chain's own memory before",
        Goal(0.1, "MB"),
        memory,
    ),
)
