"""`python -m benchmarks outage`: three set-ups go through one outage, second by second."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain as concatenated
from time import perf_counter

from benchmarks.load import THREADS, Call, fill, paced, reads_and_writes
from benchmarks.servers import Server
from benchmarks.setup import LIMIT, cache

#: Seconds that a thread does something else between two calls.
PAUSE = 0.001

#: What the set-ups are asked to do, in one line.
LOAD = (
    f"{THREADS} threads of one process, {PAUSE * 1e3:g} ms between two calls, one write to nine "
    f"reads; time limit and socket timeout {LIMIT:g} s"
)

#: Seconds that one point of the picture stands for.
BUCKET = 0.5


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds of each part."""

    healthy: float = 6.0
    frozen: float = 12.0
    back: float = 8.0


@dataclass(frozen=True, slots=True)
class Point:
    """What happened in one bucket: seconds since the start, calls per second, seconds."""

    time: float
    throughput: float
    p99: float


@dataclass(frozen=True, slots=True)
class Course:
    """One set-up's way through the outage."""

    name: str
    points: list[Point]


#: Name and alias of each set-up.
SETUPS = (
    ("memory alone", "memory"),
    ("django-redis, errors ignored", "ignoring"),
    ("this chain: memory, then Redis", "outage"),
)


def courses(server: Server, phases: Phases, tell: Callable[[str], object]) -> list[Course]:
    """Take each set-up through the phases, one after the other."""
    made = []
    for name, alias in SETUPS:
        tell(f"{name} ...")
        made.append(Course(name, _course(server, alias, phases)))
    return made


def _course(server: Server, alias: str, phases: Phases) -> list[Point]:
    fill(cache(alias))
    try:
        with paced(reads_and_writes(cache(alias)), PAUSE) as calls:
            begin = perf_counter()
            time.sleep(phases.healthy)
            server.freeze()
            time.sleep(phases.frozen)
            server.resume()
            time.sleep(phases.back)
            end = perf_counter()
    finally:
        server.resume()
    return _points(list(concatenated(*calls)), begin, end)


def _points(calls: Sequence[Call], begin: float, end: float) -> list[Point]:
    buckets: list[list[float]] = [[] for _ in range(int((end - begin) / BUCKET))]
    for at, seconds in calls:
        number = int((at - begin) / BUCKET)
        if 0 <= number < len(buckets):
            buckets[number].append(seconds)
    return [
        Point((number + 0.5) * BUCKET, len(bucket) / BUCKET, _p99(bucket))
        for number, bucket in enumerate(buckets)
        if bucket
    ]


def _p99(seconds: Sequence[float]) -> float:
    if len(seconds) == 1:
        return seconds[0]
    return statistics.quantiles(seconds, n=100, method="inclusive")[-1]


def typical(course: Course, begin: float, end: float) -> Point:
    """Return the medians of a part, in seconds since the start."""
    points = [point for point in course.points if begin <= point.time < end]
    return Point(
        (begin + end) / 2,
        statistics.median(point.throughput for point in points),
        statistics.median(point.p99 for point in points),
    )
