"""How long reads take in windows of two kinds that take turns: what else happens meets both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from benchmarks.load import KEYS, Call, paced
from benchmarks.measure import Spread
from benchmarks.setup import Bench

#: Threads that read, and seconds that each does something else between two reads.
THREADS = 2
PAUSE = 0.001

#: Windows of each kind.
WINDOWS = 12

#: What is so in a window, and the chain that is read there.
Window: TypeAlias = Callable[[], AbstractContextManager[Any]]


def by_turns(bench: Bench, beside: Window, without: Window) -> tuple[Spread, float, float]:
    """Return how the 99th percentiles of the reads relate, and both in microseconds."""
    windows = WINDOWS if bench.seconds > 1 else 1
    seconds = max(0.1, 4 * bench.seconds / WINDOWS)
    found: dict[Window, list[float]] = {beside: [], without: []}
    for number in range(windows):
        for window in (without, beside) if number % 2 else (beside, without):
            found[window].append(_read(window, seconds))
    ratios = [one / other for one, other in zip(found[beside], found[without], strict=True)]
    one, other = (statistics.median(found[window]) * 1e6 for window in (beside, without))
    return Spread.of(ratios), one, other


def _read(window: Window, seconds: float) -> float:
    with window() as chain:

        def read(number: int) -> object:
            return chain.get(KEYS[number % len(KEYS)])

        with paced(read, PAUSE, THREADS) as calls:
            time.sleep(seconds)
    return _p99(calls)


def _p99(calls: list[list[Call]]) -> float:
    seconds = [taken for thread in calls for _, taken in thread]
    return statistics.quantiles(seconds, n=100)[98]
