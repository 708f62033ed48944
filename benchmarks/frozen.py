"""The rows with a Redis that has just been frozen, and the one about memory."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.load import calls_per_second, fill, reads_and_writes, whatever_comes
from benchmarks.measure import Spread
from benchmarks.setup import Bench, cache

#: The figure, and both sides of it.
Figures = tuple[Spread, float, float]


def against_memory(bench: Bench) -> Figures:
    """Calls per second of the chain with its Redis frozen, and of the chain without Redis."""
    return _frozen(bench, reads_and_writes(cache("outage_without")))


def against_local_memory(bench: Bench) -> Figures:
    """The same, and of the local memory above it, called by itself."""
    return _frozen(bench, reads_and_writes(cache("frozen_near")))


def against_ignoring(bench: Bench) -> Figures:
    """The same, and of django-redis with its errors ignored and a short socket timeout."""
    return _frozen(bench, reads_and_writes(cache("ignoring")))


def against_fallback(bench: Bench) -> Figures:
    """The same, and of django-cache-fallback before a django-redis with that timeout."""
    return _frozen(bench, reads_and_writes(cache("falling_back")))


def against_installed(bench: Bench) -> Figures:
    """The same, and of django-redis with no options at all: its calls may outlast the outage."""
    chain, reference = _ready("outage"), cache("installed")
    seconds = max(1.0, 2 * bench.seconds)
    with bench.frozen.frozen():
        one = calls_per_second(reads_and_writes(chain), seconds)
        work = whatever_comes(reads_and_writes(reference))
        other = calls_per_second(work, seconds, release=bench.frozen.resume)
    other = max(1 / seconds, other)
    return Spread.of([one / other]), one, other


def _frozen(bench: Bench, reference: Callable[[int], object]) -> Figures:
    """Freeze the server and load both by turns; the chain's first turn meets the fresh outage."""
    chain = _ready("outage")
    subject = reads_and_writes(chain)
    turns = max(2, round(2 * bench.seconds))
    seconds = 2 * bench.seconds / turns
    least = 1 / seconds  # where not one call has ended, say that one has
    with bench.frozen.frozen():
        pairs = [
            (
                calls_per_second(subject, seconds),
                max(least, calls_per_second(reference, seconds)),
            )
            for _ in range(turns)
        ]
    one, other = (sum(side) / turns for side in zip(*pairs, strict=True))
    spread = Spread.of([one / other for one, other in pairs])
    return Spread(one / other, spread.low, spread.high), one, other


def _ready(alias: str) -> Any:
    """Return the chain as it is before an outage."""
    from django_resilient_cache import breakers

    chain = cache(alias)
    breakers["frozen"].reset()
    fill(chain)
    return chain


def memory(bench: Bench) -> Figures:
    """Megabytes that the package holds before and after distinct keys went in and out."""
    chain = cache("two_memories")
    package = Path(str(sys.modules["django_resilient_cache"].__file__)).parent
    own = tracemalloc.Filter(inclusive=True, filename_pattern=f"{package}/*")

    def held() -> float:
        gc.collect()
        traces = tracemalloc.take_snapshot().filter_traces([own]).traces
        return sum(trace.size for trace in traces) / 1e6

    tracemalloc.start()
    try:
        _in_and_out(chain, 0, 1000)  # what is made once is there
        before = held()
        _in_and_out(chain, 1000, 1000 + bench.entries)
        after = held()
    finally:
        tracemalloc.stop()
    return Spread.of([after - before]), after, before


def _in_and_out(chain: Any, first: int, last: int) -> None:
    for number in range(first, last):
        key = f"distinct-{number}"
        chain.get_or_set(key, number)
        chain.get(key)
        chain.delete(key)
        chain.get(key)
