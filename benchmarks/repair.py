"""The rows about a repair: how long reads of other keys take meanwhile, and how long they take else."""

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

#: Outages that a row goes through, unless it is to be quick.
ROUNDS = 3

#: Keys of one call by which the outage's changes are made and prepared.
BATCH = 1000

#: Seconds within which a breaker must have closed.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Times:
    """The 99th percentile of the reads before an outage and during the repair after it."""

    before: float
    during: float


def one_layer(bench: Bench) -> tuple[Spread, float, float]:
    """Reads of Redis through a chain that has nothing else."""
    return _measure(bench, "repaired")


def near(bench: Bench) -> tuple[Spread, float, float]:
    """Reads of local memory above it."""
    return _measure(bench, "repaired_near")


def _measure(bench: Bench, alias: str) -> tuple[Spread, float, float]:
    rounds = ROUNDS if bench.seconds > 1 else 1
    times = [_outage(bench, cache(alias)) for _ in range(rounds)]
    ratio = Spread.of([each.during / each.before for each in times])
    during, before = (statistics.median(side) for side in zip(*map(_both, times), strict=True))
    return ratio, during * 1e6, before * 1e6


def _both(times: Times) -> tuple[float, float]:
    return times.during, times.before


def _outage(bench: Bench, chain: Any) -> Times:
    """Let Redis miss the changes of all keys, and read others while that is being made up for."""
    from django_resilient_cache import State, breakers
    from django_resilient_cache.registry import registry

    layer, redis = registry.layer("repaired_redis"), cache("repaired_redis")
    changed = [f"changed-{number}" for number in range(bench.entries)]
    for first in range(0, len(changed), BATCH):
        redis.set_many(dict.fromkeys(changed[first : first + BATCH], "old"), 3600)
    fill(chain)
    seconds = max(0.2, 2 * bench.seconds)
    with _reading(chain) as before:
        time.sleep(seconds)
    with bench.frozen.frozen():
        for number, key in enumerate(changed):
            chain.set(key, "new", 3600) if number % 2 else chain.delete(key)
    _until(lambda: layer.breaker.state is State.CLOSED)
    fill(chain)
    waiting = len(layer.ledger)
    with _reading(chain) as during:
        time.sleep(seconds)
    assert bench.seconds <= 1 or 0 < len(layer.ledger) < waiting, "no repair was seen"
    layer.ledger.forget()
    breakers["repaired_redis"].reset()
    return Times(_p99(before), _p99(during))


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
