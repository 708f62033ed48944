"""The rows with many callers at once: threads of one process, and tasks of one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

from benchmarks.load import calls_per_second
from benchmarks.measure import LEAST_PAIRS, Spread
from benchmarks.result import Result
from benchmarks.setup import Bench, cache

#: Seconds of one turn of the threads.
TURN = 0.25

TASKS = 1000

#: Calls that each task makes in one turn.
CALLS = 3


def threads(alias: str, bare: str, number: int) -> Callable[[Bench], Result]:
    """Return the row in which so many threads read through a chain and through its layer alone."""

    def measure(bench: Bench) -> Result:
        cache(bare).set("key", "value", None)
        subject, reference = (partial(_read, cache(one)) for one in (alias, bare))
        seconds = min(TURN, bench.seconds)
        return _by_turns(
            lambda: calls_per_second(subject, seconds, number),
            lambda: calls_per_second(reference, seconds, number),
            bench,
        )

    return measure


def _read(one: Any, number: int) -> object:
    return one.get("key")


def tasks(alias: str, bare: str) -> Callable[[Bench], Result]:
    """Return the row in which a thousand tasks read at once."""

    def measure(bench: Bench) -> Result:
        cache(bare).set("key", "value", None)
        calls = CALLS if bench.seconds > 1 else 1
        with asyncio.Runner() as runner:
            return _by_turns(
                lambda: runner.run(_crowd(cache(alias), calls)),
                lambda: runner.run(_crowd(cache(bare), calls)),
                bench,
            )

    return measure


async def _crowd(one: Any, calls: int) -> float:
    """Let all tasks read at once; return the calls per second."""

    async def read() -> None:
        for _ in range(calls):
            assert await one.aget("key") == "value"

    begin = perf_counter()
    await asyncio.gather(*(read() for _ in range(TASKS)))
    return TASKS * calls / (perf_counter() - begin)


def _by_turns(subject: Callable[[], float], reference: Callable[[], float], bench: Bench) -> Result:
    """Return the calls per second of both and how they relate."""
    subject(), reference()  # connections and threads are made
    pairs: list[tuple[float, float]] = []
    end = perf_counter() + bench.seconds
    while len(pairs) < LEAST_PAIRS or perf_counter() < end:
        if len(pairs) % 2:
            one, other = subject(), reference()
        else:
            other, one = reference(), subject()
        pairs.append((one, other))
    one, other = (Spread.of(side).median for side in zip(*pairs, strict=True))
    return Result(Spread.of([one / other for one, other in pairs]), one, other, unit="/s")
