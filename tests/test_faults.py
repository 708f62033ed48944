"""Real outages: real servers frozen, killed, dripping, under threads.

Limit 0.1 s, five failures, a healthy local layer above; what holds is in the names.  Times are
those of real processes, so a rule about a call's length gets three attempts on a busy machine;
a rule about what is returned or counted gets one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.cache import caches

from django_resilient_cache import State, breakers, deadline
from django_resilient_cache.registry import registry
from tests import services

LIMIT = 0.1
MARGIN = 0.05
BACKENDS = {
    "django-redis": "django_redis.cache.RedisCache",
    "Django": "django.core.cache.backends.redis.RedisCache",
    "django-valkey": "django_valkey.cache.ValkeyCache",
}


def chain(
    url: str, *, backend: str = BACKENDS["django-redis"], **resilience: Any
) -> dict[str, Any]:
    """CACHES with a chain of local memory and a server."""
    if backend == BACKENDS["django-valkey"]:
        url = url.replace("redis://", "valkey://")
    guard = {"OPERATION_TIMEOUT": LIMIT, "RESET_TIMEOUT": 1, **resilience}
    return {
        "default": {
            "BACKEND": "django_resilient_cache.backend.ResilientCache",
            "LOCATION": ["memory", "redis"],
        },
        "memory": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": "faults",
            "OPTIONS": {"MAX_ENTRIES": 10_000},
        },
        "redis": {"BACKEND": backend, "LOCATION": url, "RESILIENCE": guard},
    }


class Traffic:
    """Threads that call the chain, each call timed, until told to stop."""

    def __init__(self, call: Callable[[Any, int], object], threads: int = 16) -> None:
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
            thread.join(10)

    def slow(self) -> int:
        return sum(length > LIMIT / 2 for length in list(self.lengths))


@contextmanager
def traffic(call: Callable[[Any, int], object], threads: int = 16) -> Iterator[Traffic]:
    with Traffic(call, threads) as running:
        yield running
    assert running.errors == []


def absent(cache: Any, number: int) -> None:
    """Ask for a key that no layer has, so that every layer is asked."""
    assert cache.get(f"absent-{number}") is None


def attempts(rule: Callable[[], bool], times: int = 3) -> bool:
    """Whether a rule about lengths of time holds in one of a few attempts."""
    return any(rule() for _ in range(times))


def wait_for(state: State, seconds: float) -> float:
    """Wait until the breaker of redis is in a state; return how long that took."""
    began = time.perf_counter()
    while breakers["redis"].state is not state:
        assert time.perf_counter() - began < seconds, breakers["redis"]
        time.sleep(0.005)
    return time.perf_counter() - began


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
def test_a_frozen_server_costs_each_call_its_limit_and_few_calls_that(
    backend: str, own_valkey: services.ValkeyServer, settings: Any
) -> None:
    """Row 1: no call over limit + 50 ms; at most 5 + 15 slow calls, then one per trial."""

    def holds() -> bool:
        settings.CACHES = chain(own_valkey.url, backend=backend, RESET_TIMEOUT=60)
        with traffic(absent) as running:
            time.sleep(0.2)
            own_valkey.freeze()
            began = len(running.lengths)
            wait_for(State.OPEN, 5)
            time.sleep(0.5)
            own_valkey.thaw()
        lengths = running.lengths[began:]
        slow = sum(length > LIMIT / 2 for length in lengths)
        assert registry.snapshot()["redis"]["strategy"] == "sockets"
        return slow <= 20 and max(lengths) < LIMIT + MARGIN

    assert attempts(holds)


def test_the_server_is_used_again_soon_after_it_resumes(
    own_valkey: services.ValkeyServer, settings: Any
) -> None:
    """Row 2: closed within 1.2 x the current reset time + limit + 0.5 s."""
    settings.CACHES = chain(own_valkey.url)
    with traffic(absent, threads=4):
        own_valkey.freeze()
        wait_for(State.OPEN, 5)
        own_valkey.thaw()
        assert wait_for(State.CLOSED, 10) < 1.2 * 1 + LIMIT + 0.5
    caches["default"].set("key", "value")
    assert caches["redis"].get("key") == "value"


def test_a_killed_server_opens_the_breaker_within_the_calls_in_flight(
    own_valkey: services.ValkeyServer, settings: Any
) -> None:
    """Row 3."""
    settings.CACHES = chain(own_valkey.url)
    with traffic(absent):
        time.sleep(0.2)
        own_valkey.kill()
        wait_for(State.OPEN, 5)
        layer = registry.snapshot()["redis"]
        assert layer["failures"] + layer["timeouts"] <= 20
        own_valkey.restart()
        wait_for(State.CLOSED, 10)


def test_a_dripping_server_costs_no_more_than_the_limit(settings: Any) -> None:
    """Row 5."""

    def holds() -> bool:
        with services.DrippingServer(every=0.08) as server:
            settings.CACHES = chain(server.url, RESET_TIMEOUT=60)
            with traffic(absent) as running:
                wait_for(State.OPEN, 5)
                time.sleep(0.3)
        return running.slow() <= 20 and max(running.lengths) < LIMIT + MARGIN

    assert attempts(holds)


def test_a_server_that_comes_and_goes_is_tried_again_each_time(
    own_valkey: services.ValkeyServer, settings: Any
) -> None:
    """Row 7: no permit is lost, and trials follow the back-off."""
    settings.CACHES = chain(own_valkey.url, RESET_TIMEOUT=0.2, MAX_RESET_TIMEOUT=0.8)
    with traffic(absent, threads=8):
        for _ in range(3):
            own_valkey.freeze()
            wait_for(State.OPEN, 5)
            before = registry.snapshot()["redis"]["timeouts"]
            time.sleep(1.5)
            # 0.2, 0.4, 0.8 s, each 20 % off at most: no more trials than fit.
            assert registry.snapshot()["redis"]["timeouts"] - before <= 5 + 8
            own_valkey.thaw()
            wait_for(State.CLOSED, 5)


@pytest.mark.parametrize("strategy", ["sockets", "thread"])
def test_hung_layers_cost_no_more_than_the_callers_deadline(
    strategy: str, own_valkey: services.ValkeyServer, settings: Any
) -> None:
    """Row 9: every layer hung, `deadline(0.3)`: 0.35 s at most, and nobody is blamed for it."""
    made = chain(own_valkey.url, OPERATION_TIMEOUT=5, TIMEOUT_STRATEGY=strategy)
    made["default"]["LOCATION"] = ["near", "redis"]
    made["near"] = {**made["redis"], "RESILIENCE": {"OPERATION_TIMEOUT": 4}}
    settings.CACHES = made
    cache = caches["default"]
    cache.set("key", "value")
    own_valkey.freeze()

    def holds() -> bool:
        began = time.perf_counter()
        with deadline(0.3):
            assert cache.get("key") is None
            assert cache.get_many(["key", "other"]) == {}
            cache.set("key", "newer")
        return time.perf_counter() - began < 0.35

    assert attempts(holds)
    assert {breaker.state for breaker in breakers.values()} == {State.CLOSED}


@pytest.mark.parametrize("strategy", ["sockets", "thread"])
def test_busy_threads_do_not_open_the_breaker_of_a_healthy_server(
    strategy: str, valkey: services.ValkeyServer, settings: Any
) -> None:
    """Row 20."""
    settings.CACHES = chain(valkey.url, TIMEOUT_STRATEGY=strategy)
    done = threading.Event()

    def burn() -> None:
        number = 0
        while not done.is_set():
            number += sum(range(1000))

    burners = [threading.Thread(target=burn) for _ in range(8)]
    caches["default"].set("key", "value")
    for burner in burners:
        burner.start()
    try:
        ends = time.monotonic() + 4
        while time.monotonic() < ends:
            caches["memory"].clear()
            caches["default"].get("key")
            assert breakers["redis"].state is State.CLOSED
    finally:
        done.set()
        for burner in burners:
            burner.join()
