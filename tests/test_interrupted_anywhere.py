"""An interruption at any point of an operation at which Python handles signals.

That is where a function is entered and where a call of C code is back.  Whatever it leaves undone:
nothing is locked, no layer is blamed, and nobody reads what is older than what the authority has.
"""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from django.core.cache import BaseCache, caches
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

import django_resilient_cache
from django_resilient_cache import State
from django_resilient_cache.backend.bound_chain import process
from django_resilient_cache.chain import single_flight
from django_resilient_cache.concurrency.background import background
from django_resilient_cache.layer.registry import registry
from tests.contract.recorder import attempt
from tests.entries import MEMORY, chain
from tests.services import wait_until
from tests.simulated_chain import few_stripes

pytestmark = pytest.mark.slow

PACKAGE = str(Path(django_resilient_cache.__file__).parent)
#: Not the data path: what is sent to the agent's thread, and what is made at first use.
#: And what only looks at an exception.
ELSEWHERE = (
    *("background.py", "telemetry.py", "bound_chain.py", "planned.py", "registry.py"),
    *("conf", "testing", "error_classification.py", "interruption.py"),
)


class Alarm(Exception):
    """Of a task's time limit, say."""


def handler(signum: int, frame: FrameType | None) -> None:
    raise Alarm


class Interrupter:
    """Raises at one point of what is called inside the block, as a signal's handler would."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.where = ""

    def __enter__(self) -> Interrupter:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, arg: object) -> None:
        if event not in ("call", "c_return") or (event == "call" and _delegates(frame)):
            return
        if event == "c_return" and getattr(arg, "__name__", "") == "__enter__":
            return  # see "What can still go wrong": from Python 3.14 on it leaves any lock locked
        file = frame.f_code.co_filename
        if not file.startswith(PACKAGE) or file[len(PACKAGE) + 1 :].startswith(ELSEWHERE):
            return
        self.left -= 1
        if self.left < 0:
            sys.setprofile(None)
            self.where = f"{file[len(PACKAGE) + 1 :]}:{frame.f_lineno} {event} {arg}"
            handler(14, frame)


def _delegates(frame: FrameType) -> bool:
    """Whether it is resumed in a `yield from`, where Python handles no signals."""
    instruction = frame.f_code.co_code[frame.f_lasti :][:2]
    return instruction[0] == dis.opmap["RESUME"] and instruction[1] & 3 > 1


OPERATIONS: dict[str, Callable[[BaseCache], Any]] = {
    "set": lambda cache: cache.set("k", "new"),
    "delete": lambda cache: cache.delete("k"),
    "set_many": lambda cache: cache.set_many({"k": "new", "other": "new"}),
    "delete_many": lambda cache: cache.delete_many(["k", "other"]),
    "clear": lambda cache: cache.clear(),
    "incr": lambda cache: cache.incr("n"),
    "touch": lambda cache: cache.touch("k", 100),
    "add": lambda cache: cache.add("a", "added"),
    "get_or_set": lambda cache: cache.get_or_set("a", lambda: "added"),
    "get": lambda cache: cache.get("below"),
    "get_many": lambda cache: cache.get_many(["below", "k"]),
}
KEYS = ("k", "n", "a", "other", "below")


class Far(LocMemCache):
    """An authority that may be away."""

    away = False

    def __getattribute__(self, name: str) -> Any:
        if name in ("get", "get_many", "set", "add", "incr", "touch", "delete", "clear"):
            Far.refuse()
        return super().__getattribute__(name)

    @classmethod
    def refuse(cls) -> None:
        if cls.away:
            raise ConnectionRefusedError("away")


@pytest.fixture(params=["in place", "thread"])
def cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[BaseCache]:
    for name in ("wake", "ensure_running", "send"):
        monkeypatch.setattr(background, name, lambda *args: None)
    settings = {
        "default": chain("near", "far"),
        "near": {"BACKEND": MEMORY, "LOCATION": "near", "TIMEOUT": 1000},
        "far": {
            "BACKEND": f"{__name__}.Far",
            "LOCATION": "far",
            "TIMEOUT": 1000,
            "RESILIENCE": {
                "MAX_FAILURES": 10**6,
                "FAILURE_RATE": None,
                "OPERATION_TIMEOUT": 20 if request.param == "thread" else None,
                "TIMEOUT_STRATEGY": "thread" if request.param == "thread" else "direct",
            },
        },
    }
    with few_stripes(8), override_settings(CACHES=settings):
        yield caches["default"]
    Far.away = False


def begin(cache: BaseCache, state: str) -> None:
    """Bring everything into the state before the operation."""
    Far.away = False
    registry.layer("far").missed_changes.forget()
    cache.clear()
    cache.set_many({"k": "old", "n": 1})
    caches["far"].set("below", "value")
    if state == "noted":
        Far.away = True
        cache.set_many({"k": "newer", "other": "newer"})
        Far.away = False
    Far.away = state == "away"


def is_free(lock: Any) -> bool:
    found: list[bool] = []

    def take() -> None:
        found.append(lock.acquire(timeout=5))
        lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return found == [True]


def check(cache: BaseCache, state: str) -> None:
    """What must hold wherever it was interrupted."""
    Far.away = False
    layer = registry.layer("far")
    assert layer.guard.counters.failures == 0 or state == "away"
    assert layer.breaker.state is State.CLOSED
    assert all(process.generations.version_stamp(key) is not None for key in KEYS), "still changing"
    assert process.single_flight.under_way == {}
    assert not single_flight._inside_computation.get()
    for lock in (layer.missed_changes._lock, process.single_flight._lock, layer.breaker._lock):
        assert is_free(lock)
    for key in KEYS:
        # Before and after: a call that was given up may still end in between.
        before, found, after = caches["far"].get(key), cache.get(key), caches["far"].get(key)
        read = (key, before, found, after)
        assert found in (None, before, after) or found in ("new", "newer", "added"), read
        assert found != "old" or state != "noted"
    assert wait_until(lambda: registry.tend() is None and layer.missed_changes.in_sync), (
        "not repaired"
    )
    cache.set("k", "after")
    cache.set("n", 7)
    assert (cache.get("k"), cache.incr("n")) == ("after", 8)
    caches["near"].clear()
    assert cache.get("k") == "after"
    assert caches["near"].get("k") == "after", "readers refill what lies above"


# In a generator that is being closed it reaches nobody.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("state", ["healthy", "away", "noted"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_interruption_at_any_point(name: str, state: str, cache: BaseCache) -> None:
    points = 0
    while True:
        begin(cache, state)
        registry.layer("far").guard.counters.failures = 0
        interrupter = Interrupter(points)
        try:
            with interrupter:
                attempt(OPERATIONS[name], cache)
        except Alarm:
            pass
        if not interrupter.where:
            break
        try:
            check(cache, state)
        except AssertionError as error:
            raise AssertionError(f"{error}; interrupted at {interrupter.where}") from None
        points += 1
    assert points > 10
