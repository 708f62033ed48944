"""Threads that call a chain while something happens to it, each call timed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.cache import caches
from django.test import override_settings

from django_resilient_cache import State, breakers
from tests.entries import CHAIN, MEMORY
from tests.services.cache_tables import ROUTERS

LIMIT = 0.1
#: What a call may take beyond its limit.
GRACE = 0.05
#: Calls that may be slow before the breaker is open: those that fail, those already under way.
SLOW = 5 + 15


class Traffic:
    """Threads that call the chain "default", each call timed, until told to stop."""

    def __init__(self, call: Callable[[Any, int], object], threads: int) -> None:
        #: Seconds that each call took, in the order in which they ended.
        self.lengths: list[float] = []
        self.errors: list[BaseException] = []
        self._call = call
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]

    def _run(self, number: int) -> None:
        cache = caches["default"]
        count = 0
        while not self._stop.is_set():
            count += 1
            began = time.perf_counter()
            try:
                self._call(cache, number * 1_000_000 + count)
            except Exception as error:
                self.errors.append(error)
            self.lengths.append(time.perf_counter() - began)
            time.sleep(0.005)  # a request does other things too

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)


@contextmanager
def traffic(call: Callable[[Any, int], object], threads: int = 16) -> Iterator[Traffic]:
    """Traffic during the block; no exception may reach a caller."""
    with Traffic(call, threads) as running:
        yield running
    assert running.errors == []


def absent(cache: Any, number: int) -> None:
    """Ask for a key that no layer has, so that every layer is asked."""
    assert cache.get(f"absent-{number}") is None


def attempts(rule: Callable[[], str], times: int = 5) -> None:
    """A rule about lengths of time, on a machine that may be busy: one of a few attempts holds.

    `rule` returns what did not hold, "" for nothing.
    """
    found = []
    for _ in range(times):
        found.append(rule())
        if not found[-1]:
            return
    raise AssertionError("; ".join(found))


def wait_for(alias: str, state: State, seconds: float) -> float:
    """Wait until the breaker of an alias is in a state; return how many seconds that took."""
    began = time.perf_counter()
    while breakers[alias].state is not state:
        assert time.perf_counter() - began < seconds, breakers[alias]
        time.sleep(0.005)
    return time.perf_counter() - began


def too_slow(lengths: list[float]) -> str:
    slow = sum(length > 0.8 * LIMIT for length in lengths)
    longest = max(lengths)
    if slow <= SLOW and longest < LIMIT + GRACE:
        return ""
    return f"{slow} slow calls, the longest {longest:.3f} s"


@contextmanager
def chain_over(
    entry: dict[str, Any], *, near: dict[str, Any] | None = None, **resilience: Any
) -> Iterator[Any]:
    """CACHES with a chain of local memory, or another near layer, and a layer."""
    memory = {"BACKEND": MEMORY, "LOCATION": "m", "OPTIONS": {"MAX_ENTRIES": 10_000}}
    guard = {**entry.get("RESILIENCE", {}), "OPERATION_TIMEOUT": LIMIT, **resilience}
    settings = {
        "default": {"BACKEND": CHAIN, "LOCATION": ["memory", "layer"]},
        "memory": near or memory,
        "layer": {**entry, "RESILIENCE": guard},
    }
    with override_settings(CACHES=settings, DATABASE_ROUTERS=ROUTERS):
        yield caches["default"]
