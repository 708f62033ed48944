"""The healthy paths whose bytecodes are counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.setup import cache


@dataclass(frozen=True, slots=True)
class HealthyPath:
    """One call that is counted; `prepare` runs before each and is not.

    What an `asynchronous` call returns is to be awaited.
    """

    name: str
    work: str
    call: Callable[[], Any]
    prepare: Callable[[], object] = lambda: None
    asynchronous: bool = False


def paths() -> list[HealthyPath]:
    """Return the paths, with everything there that they read."""
    from django_resilient_cache import CircuitBreaker

    memory, redis, two = cache("memory"), cache("redis"), cache("two_memories")
    nearest, one_layer, between = cache("nearest"), cache("one_layer"), cache("away_between")
    many = [f"many-{number}" for number in range(100)]
    memory.set_many(dict.fromkeys(["key", *many], "value"), None)
    redis.set_many(dict.fromkeys(["key", "below"], "value"), 3600)
    breaker = CircuitBreaker("counted")
    hold_open("away")

    def nothing() -> None: ...

    return [
        HealthyPath("get", "get, hit in the nearest layer", lambda: nearest.get("key")),
        HealthyPath("aget", "aget, the same", lambda: nearest.aget("key"), asynchronous=True),
        HealthyPath("get-many", "get_many, 100 hits there", lambda: nearest.get_many(many)),
        HealthyPath(
            "set", "set in two layers of local memory", lambda: two.set("key", "value", 60)
        ),
        HealthyPath("redis-get", "get, chain of one Redis layer", lambda: one_layer.get("key")),
        HealthyPath(
            "redis-aget",
            "aget, the same",
            lambda: one_layer.aget("key"),
            asynchronous=True,
        ),
        HealthyPath(
            "backfill",
            "get, near miss, Redis hit, backfill with its TTL",
            lambda: nearest.get("below"),
            prepare=lambda: memory.delete("below"),
        ),
        HealthyPath(
            "open-layer-between",
            "get, near miss, an open layer, a miss below it",
            lambda: between.get("missing"),
        ),
        HealthyPath("breaker-call", "breaker.call, closed, no-op", lambda: breaker.call(nothing)),
    ]


def hold_open(alias: str) -> None:
    """Open a breaker as failures leave it, not by an order."""
    from django_resilient_cache import State, breakers

    breaker = breakers[alias]
    breaker.reset()
    while breaker.state is State.CLOSED:
        breaker.acquire().failure()
