"""The rows about a repair: how long reads of other keys take beside it, and how long they take else."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.load import KEYS, Call, fill, paced
from benchmarks.measure import Spread
from benchmarks.setup import Bench, cache

#: Threads that read, and seconds that each does something else between two reads.
THREADS = 2
PAUSE = 0.001

#: Windows of each kind, by turns: what else the machine does then meets both alike.
WINDOWS = 12

#: Keys of one call by which the outage's changes are made and prepared.
BATCH = 1000

#: Seconds within which a breaker must have closed.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Times:
    """The 99th percentile of the reads of a chain beside its repair and of one that needs none."""

    beside: float
    without: float


def one_layer(bench: Bench) -> tuple[Spread, float, float]:
    """Reads of Redis through a chain that has nothing else."""
    return _measure(bench, "repaired", "rested")


def near(bench: Bench) -> tuple[Spread, float, float]:
    """Reads of local memory above it."""
    return _measure(bench, "repaired_near", "rested_near")


def _measure(bench: Bench, repaired: str, rested: str) -> tuple[Spread, float, float]:
    from django_resilient_cache import breakers
    from django_resilient_cache.agent import agent
    from django_resilient_cache.registry import registry

    fill(cache(rested))
    _outage(bench, cache(repaired))
    windows = WINDOWS if bench.seconds > 1 else 1
    seconds = max(0.1, 4 * bench.seconds / WINDOWS)
    ledger, times = registry.layer("repaired_redis").ledger, []
    waiting = len(ledger)

    def beside_it() -> float:
        agent.wake()
        with _reading(cache(repaired)) as calls:
            time.sleep(seconds)
        return _p99(calls)

    def without_it() -> float:
        with agent.at_rest(PATIENCE), _reading(cache(rested)) as calls:
            time.sleep(seconds)
        return _p99(calls)

    for number in range(windows):
        if number % 2:
            without, beside = without_it(), beside_it()
        else:
            beside, without = beside_it(), without_it()
        times.append(Times(beside, without))
    assert bench.seconds <= 1 or 0 < len(ledger) < waiting, "no repair was seen"
    ledger.forget()
    breakers["repaired_redis"].reset()
    ratio = Spread.of([each.beside / each.without for each in times])
    beside = statistics.median(each.beside for each in times)
    without = statistics.median(each.without for each in times)
    return ratio, beside * 1e6, without * 1e6


def _outage(bench: Bench, chain: Any) -> None:
    """Let Redis miss the changes of all keys; return when it is read again."""
    from django_resilient_cache import State
    from django_resilient_cache.registry import registry

    redis = cache("repaired_redis")
    changed = [f"changed-{number}" for number in range(bench.entries)]
    for first in range(0, len(changed), BATCH):
        redis.set_many(dict.fromkeys(changed[first : first + BATCH], "old"), 3600)
    with bench.frozen.frozen():
        for number, key in enumerate(changed):
            chain.set(key, "new", 3600) if number % 2 else chain.delete(key)
    _until(lambda: registry.layer("repaired_redis").breaker.state is State.CLOSED)
    fill(chain)


@contextmanager
def _reading(chain: Any) -> Iterator[list[list[Call]]]:
    def read(number: int) -> object:
        return chain.get(KEYS[number % len(KEYS)])

    with paced(read, PAUSE, THREADS) as calls:
        yield calls


def _p99(calls: list[list[Call]]) -> float:
    seconds = [taken for thread in calls for _, taken in thread]
    return statistics.quantiles(seconds, n=100)[98]


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)
