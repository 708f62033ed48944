"""The rows about the background thread: how long reads take beside a repair, and beside a board that hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.load import fill
from benchmarks.measure import Spread
from benchmarks.reads import by_turns
from benchmarks.setup import Bench, cache

#: Keys of one call by which the outage's changes are made and prepared.
BATCH = 1000

#: Seconds within which a breaker must have closed.
PATIENCE = 60.0


def one_layer(bench: Bench) -> tuple[Spread, float, float]:
    """Reads of Redis through a chain that has nothing else, beside its repair."""
    return _repair(bench, "repaired", "rested")


def near(bench: Bench) -> tuple[Spread, float, float]:
    """Reads of local memory above it."""
    return _repair(bench, "repaired_near", "rested_near")


def board(bench: Bench) -> tuple[Spread, float, float]:
    """Reads of Redis, where the board is in another Redis and that one hangs."""
    chain = cache("rested")
    fill(chain)

    @contextmanager
    def hung() -> Iterator[Any]:
        with bench.healthy.frozen():
            yield chain

    @contextmanager
    def well() -> Iterator[Any]:
        yield chain

    return by_turns(bench, hung, well)


def _repair(bench: Bench, repaired: str, rested: str) -> tuple[Spread, float, float]:
    from django_resilient_cache import breakers
    from django_resilient_cache.concurrency.background import background
    from django_resilient_cache.layer.registry import registry

    fill(cache(rested))
    _outage(bench, cache(repaired))
    ledger = registry.layer("repaired_redis").missed_changes
    waiting = len(ledger)

    @contextmanager
    def repairing() -> Iterator[Any]:
        background.wake()
        yield cache(repaired)

    @contextmanager
    def resting() -> Iterator[Any]:
        with background.paused(PATIENCE):
            yield cache(rested)

    found = by_turns(bench, repairing, resting)
    assert bench.seconds <= 1 or 0 < len(ledger) < waiting, "no repair was seen"
    ledger.forget()
    breakers["repaired_redis"].reset()
    return found


def _outage(bench: Bench, chain: Any) -> None:
    """Let Redis miss the changes of all keys; return when it is read again."""
    from django_resilient_cache import State
    from django_resilient_cache.layer.registry import registry

    redis = cache("repaired_redis")
    changed = [f"changed-{number}" for number in range(bench.entries)]
    for first in range(0, len(changed), BATCH):
        redis.set_many(dict.fromkeys(changed[first : first + BATCH], "old"), 3600)
    with bench.frozen.frozen():
        for number, key in enumerate(changed):
            chain.set(key, "new", 3600) if number % 2 else chain.delete(key)
    _until(lambda: registry.layer("repaired_redis").breaker.state is State.CLOSED)
    fill(chain)


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)
