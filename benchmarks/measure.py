"""Measuring one piece of work against another: small batches of each in turn, medians of ratios.

A machine's speed changes from one second to the next, with its load and its temperature; a ratio
of two batches that follow each other within milliseconds changes little.  Which of the two goes
first alternates as well.
"""

from __future__ import annotations

import asyncio
import statistics
import timeit
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, thread_time
from typing import Any

#: Seconds of one batch: many calls long, and short beside the changes of a machine's speed.
BATCH_SECONDS = 0.004
WAITING_BATCH_SECONDS = 0.02

#: Pairs of batches that are made at least, however short the run.
LEAST_PAIRS = 5


class Timed:
    """Something to be timed; `most` is the largest number of calls in a batch."""

    most = 100_000
    batch_seconds = BATCH_SECONDS

    def seconds(self, calls: int) -> float:
        """Return the seconds that so many calls took."""
        raise NotImplementedError

    def batch_size(self) -> int:
        """Return how many calls are a batch; finding out warms the work up as well."""
        calls = 1
        while calls < self.most and self.seconds(calls) < self.batch_seconds:
            calls *= 2
        return min(calls, self.most)


class Work(Timed):
    """A statement to be timed, with the names it uses.

    `before` runs before each batch, untimed.  Work that `waits` (for a server, for another thread)
    is timed by the clock on the wall, all other by the processor time of this thread, which other
    processes do not disturb.
    """

    def __init__(
        self,
        statement: str,
        before: str = "pass",
        most: int = Timed.most,
        *,
        waits: bool = False,
        **names: Any,
    ) -> None:
        self.most = most
        self.batch_seconds = WAITING_BATCH_SECONDS if waits else BATCH_SECONDS
        # timeit stops the garbage collector, which is a part of what a call costs.
        setup = f"import gc; gc.enable(); {before}"
        clock = perf_counter if waits else thread_time
        self._timer = timeit.Timer(statement, setup, clock, globals=names)

    def seconds(self, calls: int) -> float:
        return self._timer.timeit(calls)


class AsyncWork(Timed):
    """Calls to be awaited one after another in the runner's event loop; they may wait."""

    batch_seconds = WAITING_BATCH_SECONDS

    def __init__(self, call: Callable[[], Awaitable[Any]], runner: asyncio.Runner) -> None:
        self._call = call
        self._runner = runner

    def seconds(self, calls: int) -> float:
        return self._runner.run(self._awaited(calls))

    async def _awaited(self, calls: int) -> float:
        call = self._call
        begin = perf_counter()
        for _ in range(calls):
            await call()
        return perf_counter() - begin


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of what was measured, and the quartiles on both sides of it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one call of the work and of its reference took, in microseconds, and how they relate."""

    subject: Spread
    reference: Spread
    ratio: Spread
    extra: Spread
    pairs: int


def compare(subject: Timed, reference: Timed, seconds: float) -> Comparison:
    """Time both by turns for about so many seconds."""
    calls = min(work.batch_size() for work in (subject, reference))
    pairs: list[tuple[float, float]] = []
    end = perf_counter() + seconds  # of both together
    while len(pairs) < LEAST_PAIRS or perf_counter() < end:
        if len(pairs) % 2:
            one, other = subject.seconds(calls), reference.seconds(calls)
        else:
            other, one = reference.seconds(calls), subject.seconds(calls)
        if one > 0 and other > 0:  # some virtual machines' processor clocks stand still at times
            pairs.append((one / calls * 1e6, other / calls * 1e6))
    return Comparison(
        subject=Spread.of([one for one, _ in pairs]),
        reference=Spread.of([other for _, other in pairs]),
        ratio=Spread.of([one / other for one, other in pairs]),
        extra=Spread.of([one - other for one, other in pairs]),
        pairs=len(pairs),
    )
