"""Several threads that use one cache, and what they got done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import Any

#: Threads of one worker process.
THREADS = 8

KEYS = [f"key-{number}" for number in range(100)]

#: What one turn of the load did: when it ended and how many seconds its cache call took.
Call = tuple[float, float]


def reads_and_writes(cache: Any) -> Callable[[int], object]:
    """Return one call of the load: one write to nine reads, all of keys that are there."""

    def work(number: int) -> object:
        key = KEYS[number % len(KEYS)]
        return cache.get(key) if number % 10 else cache.set(key, "value", None)

    return work


def whatever_comes(work: Callable[[int], object]) -> Callable[[int], object]:
    """Return the same work for a cache that raises: a call that has failed has ended, too."""

    def ending(number: int) -> None:
        with suppress(Exception):
            work(number)

    return ending


def fill(cache: Any) -> None:
    """Write what `reads_and_writes` reads."""
    for key in KEYS:
        cache.set(key, "value", None)


def calls_per_second(
    work: Callable[[int], object],
    seconds: float,
    threads: int = THREADS,
    release: Callable[[], object] = lambda: None,
) -> float:
    """Let all threads call `work(i)` without a pause; return the calls that ended per second.

    Where none did, one is said to have, so that there is something to divide by.  `release` is called when the time is up, before the threads are waited for.
    """
    done = [0] * threads
    numbers = iter(range(threads))

    def loop(stop: threading.Event) -> None:
        mine = next(numbers)
        while not stop.is_set():
            work(done[mine])
            done[mine] += 1

    with _threads(loop, threads) as (stop, _):
        begin = perf_counter()
        stop.wait(seconds)
        rate = max(1, sum(done)) / (perf_counter() - begin)
        stop.set()
        release()
    return rate


@contextmanager
def paced(
    work: Callable[[int], object], pause: float, threads: int = THREADS
) -> Iterator[list[list[Call]]]:
    """While the block runs, let all threads call `work(i)`, each pausing between its calls.

    What they did is in the list when the block is left.
    """

    def loop(stop: threading.Event) -> list[Call]:
        calls: list[Call] = []
        while not stop.is_set():
            begin = perf_counter()
            work(len(calls))
            end = perf_counter()
            calls.append((end, end - begin))
            time.sleep(pause)
        return calls

    with _threads(loop, threads) as (_, calls):
        yield calls


@contextmanager
def _threads(
    loop: Callable[[threading.Event], Any],
    number: int = THREADS,
) -> Iterator[tuple[threading.Event, list[Any]]]:
    """Run `loop(stop)` on all threads; their results are in the list after the block."""
    stop = threading.Event()
    results: list[Any] = []
    workers = [
        threading.Thread(target=lambda: results.append(loop(stop)), daemon=True)
        for _ in range(number)
    ]
    for worker in workers:
        worker.start()
    try:
        yield stop, results
    finally:
        stop.set()
        for worker in workers:
            worker.join()
