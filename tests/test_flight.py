"""Single flight: one computation per key, and nobody is worse off for it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from django_resilient_cache import deadline
from django_resilient_cache.backend.bound_chain import process
from django_resilient_cache.chain import single_flight as flight_module
from django_resilient_cache.chain.single_flight import SingleFlight
from tests.contract.api import at_once
from tests.entries import MEMORY, chain
from tests.services import wait_until
from tests.simulated_chain import simulated_chain

PATIENCE = 20.0


def unbounded() -> None:
    return None


class Slow:
    """A computation that ends when it is told to."""

    def __init__(self, value: Any = "computed") -> None:
        self.value = value
        self.started = 0
        self._go = threading.Event()

    def __call__(self) -> Any:
        self.started += 1
        self._go.wait(PATIENCE)
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value

    def go(self) -> None:
        self._go.set()


class Callers:
    """Threads and what became of their calls."""

    def __init__(self, *jobs: Callable[[], Any]) -> None:
        self.results: list[Any] = [None] * len(jobs)
        self._threads = [
            threading.Thread(target=self._run, args=(number, job))
            for number, job in enumerate(jobs)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int, job: Callable[[], Any]) -> None:
        try:
            self.results[number] = job()
        except BaseException as error:  # whatever it is, the test looks at it
            self.results[number] = error

    def join(self) -> list[Any]:
        for thread in self._threads:
            thread.join(PATIENCE)
        return self.results


def run(flights: SingleFlight, key: str, compute: Callable[[], Any], left: Any) -> Any:
    return flights.run((("chain",), key, "1"), lambda flight: compute(), left)


def waiters(flights: SingleFlight) -> int:
    return sum(flight.waiters for flight in list(flights.under_way.values()))


def test_one_computes_and_the_others_wait_for_it() -> None:
    flights, slow = SingleFlight(), Slow({"a": [1]})
    callers = Callers(*[lambda: run(flights, "k", slow, unbounded)] * 5)
    assert wait_until(lambda: waiters(flights) == 4)
    slow.go()
    results = callers.join()
    assert results == [{"a": [1]}] * 5
    assert slow.started == 1
    assert len({id(result) for result in results}) == 5, "each has a copy of its own"
    assert len({id(result["a"]) for result in results}) == 5
    assert flights.under_way == {}


class Registered(dict[Any, Any]):
    """Computations under way; something happens when one is asked for."""

    happens: Callable[[], object] | None = None

    def setdefault(self, key: Any, default: Any = None) -> Any:
        found = super().setdefault(key, default)
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()
        return found


def test_a_leader_that_ends_counts_whoever_is_just_joining() -> None:
    """Fails without the lock: nobody would be known to wait for the result."""
    flights, slow = SingleFlight(), Slow()
    flights.under_way = registered = Registered()
    leader = Callers(lambda: run(flights, "k", slow, unbounded))
    assert wait_until(lambda: slow.started == 1)

    def end_the_leader() -> None:
        slow.go()
        time.sleep(0.1)

    registered.happens = end_the_leader
    assert run(flights, "k", slow, unbounded) == "computed"
    assert leader.join() == ["computed"]
    assert slow.started == 1


def test_a_signals_handler_may_use_it_while_the_lock_is_held() -> None:
    flights = SingleFlight()
    flights.under_way = registered = Registered()
    registered.happens = lambda: run(flights, "other", flights.outdate, unbounded)
    callers = Callers(lambda: run(flights, "k", lambda: "value", unbounded))
    assert callers.join() == ["value"]


def test_other_keys_do_not_wait() -> None:
    flights, slow = SingleFlight(), Slow()
    callers = Callers(lambda: run(flights, "k", slow, unbounded))
    assert wait_until(lambda: slow.started == 1)
    assert run(flights, "other", lambda: 1, unbounded) == 1
    slow.go()
    callers.join()


def test_a_waiter_leaves_at_its_own_deadline_and_computes_itself() -> None:
    flights, slow = SingleFlight(), Slow()
    callers = Callers(lambda: run(flights, "k", slow, unbounded))
    assert wait_until(lambda: slow.started == 1)
    began = time.monotonic()
    assert run(flights, "k", lambda: "mine", lambda: 0.01) == "mine"
    assert run(flights, "k", lambda: "mine", lambda: -1.0) == "mine"
    assert time.monotonic() - began < 2
    slow.go()
    assert callers.join() == ["computed"]


def test_nobody_waits_for_one_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight_module, "_LONGEST_WAIT", 0.2)
    flights, slow = SingleFlight(), Slow()
    callers = Callers(lambda: run(flights, "k", slow, unbounded))
    assert wait_until(lambda: slow.started == 1)
    began = time.monotonic()
    assert run(flights, "k", lambda: "mine", unbounded) == "mine"
    waited = time.monotonic() - began
    assert run(flights, "k", lambda: "mine", unbounded) == "mine"
    assert waited < 2
    assert time.monotonic() - began < waited + 0.15, "it is the computation that has its time"
    slow.go()
    assert callers.join() == ["computed"]


def test_who_comes_after_a_change_does_not_wait_for_what_began_before() -> None:
    flights, slow = SingleFlight(), Slow("old")
    leader = Callers(lambda: run(flights, "k", slow, unbounded))
    assert wait_until(lambda: slow.started == 1)
    flights.outdate(["other"], "1")
    flights.outdate(["k"], "2")
    assert list(flights.under_way)
    flights.outdate(["k"], "1")
    assert run(flights, "k", lambda: "new", unbounded) == "new"
    slow.go()
    assert leader.join() == ["old"]
    assert flights.under_way == {}


class Interrupts:
    """A value in whose pickling an alarm goes off."""

    def __reduce__(self) -> Any:
        return self._handle(signal.SIGALRM, sys._getframe())

    def _handle(self, signum: int, frame: FrameType | None) -> Any:
        raise LookupError("alarm")


def test_an_alarm_while_the_result_is_copied_reaches_the_leader() -> None:
    flights, slow = SingleFlight(), Slow(Interrupts())
    leader = Callers(lambda: run(flights, "k", slow, unbounded))
    assert wait_until(lambda: slow.started == 1)
    others = Callers(lambda: run(flights, "k", lambda: "own", unbounded))
    assert wait_until(lambda: waiters(flights) == 1)
    slow.go()
    assert [str(end) for end in leader.join()] == ["alarm"]
    assert others.join() == ["own"]


@pytest.mark.parametrize("error", [LookupError("leader"), KeyboardInterrupt()], ids=repr)
def test_waiters_do_not_inherit_the_leaders_error(error: BaseException) -> None:
    flights, slow = SingleFlight(), Slow(error)
    leader = Callers(lambda: run(flights, "k", slow, unbounded))
    assert wait_until(lambda: slow.started == 1)
    others = Callers(*[lambda: run(flights, "k", lambda: "own", unbounded)] * 3)
    assert wait_until(lambda: waiters(flights) == 3)
    slow.go()
    assert leader.join() == [error]
    assert others.join() == ["own"] * 3
    assert flights.under_way == {}


def test_a_value_that_cannot_be_copied_is_computed_by_each() -> None:
    flights, slow = SingleFlight(), Slow(threading.Lock())
    leader = Callers(lambda: run(flights, "k", slow, unbounded))
    assert wait_until(lambda: slow.started == 1)
    others = Callers(lambda: run(flights, "k", lambda: "own", unbounded))
    assert wait_until(lambda: waiters(flights) == 1)
    slow.go()
    assert leader.join() == [slow.value]
    assert others.join() == ["own"]


def test_computations_that_need_each_others_keys_do_not_deadlock() -> None:
    flights = SingleFlight()
    both = threading.Barrier(2, timeout=PATIENCE)

    def compute(mine: str, other: str) -> str:
        both.wait()
        return mine + run(flights, other, lambda: f"({other} again)", unbounded)

    callers = Callers(
        lambda: run(flights, "a", lambda: compute("a", "b"), unbounded),
        lambda: run(flights, "b", lambda: compute("b", "a"), unbounded),
    )
    assert callers.join() == ["a(b again)", "b(a again)"]


def test_a_computation_that_asks_for_its_own_key_does_not_deadlock() -> None:
    flights = SingleFlight()
    result = run(flights, "k", lambda: run(flights, "k", lambda: "inner", unbounded), unbounded)
    assert result == "inner"


def test_a_fork_forgets_the_parents_flights() -> None:
    flights, slow = SingleFlight(), Slow()
    callers = Callers(lambda: run(flights, "k", slow, unbounded))
    assert wait_until(lambda: slow.started == 1)
    flights.reset()
    assert run(flights, "k", lambda: "the child's", unbounded) == "the child's"
    slow.go()
    assert callers.join() == ["computed"]


# Through a chain


@pytest.fixture(params=[["memory"], ["near", "memory"]], ids=str)
def _chain(request: pytest.FixtureRequest) -> Iterator[None]:
    settings = {
        "default": chain(*request.param),
        "prefixed": chain(*request.param, KEY_PREFIX="p"),
        "near": {"BACKEND": MEMORY, "LOCATION": "near"},
        "memory": {"BACKEND": MEMORY, "LOCATION": "memory"},
    }
    with override_settings(CACHES=settings):
        yield


@pytest.mark.usefixtures("_chain")
def test_get_or_set_computes_once_for_all_threads() -> None:
    slow = Slow([1])
    callers = Callers(*[lambda: caches["default"].get_or_set("k", slow)] * 4)
    assert wait_until(lambda: waiters(process.single_flight) == 3)
    slow.go()
    results = callers.join()
    assert results == [[1]] * 4
    assert slow.started == 1
    results[0].append(2)
    assert caches["default"].get("k") == [1]
    assert results[1] == [1]


@pytest.mark.usefixtures("_chain")
def test_get_or_set_of_different_versions_and_prefixes_are_different_flights() -> None:
    slow = Slow()
    callers = Callers(
        lambda: caches["default"].get_or_set("k", slow),
        lambda: caches["default"].get_or_set("k", slow, version=2),
        lambda: caches["prefixed"].get_or_set("k", slow),
        lambda: caches["default"].get_or_set("other", slow),
    )
    assert wait_until(lambda: slow.started == 4)
    slow.go()
    assert callers.join() == ["computed"] * 4


@pytest.mark.usefixtures("_chain")
def test_get_or_set_leaves_at_its_deadline() -> None:
    slow = Slow()
    callers = Callers(lambda: caches["default"].get_or_set("k", slow))
    assert wait_until(lambda: slow.started == 1)
    with deadline(0.01):
        assert caches["default"].get_or_set("k", lambda: "mine") == "mine"
    slow.go()
    callers.join()


@pytest.mark.usefixtures("_chain")
def test_get_or_set_within_get_or_set() -> None:
    cache = caches["default"]
    value = cache.get_or_set("outer", lambda: [cache.get_or_set("inner", lambda: 1)])
    assert (value, cache.get("inner"), cache.get("outer")) == ([1], 1, [1])


@pytest.mark.usefixtures("_chain")
def test_an_entry_written_meanwhile_by_somebody_else_wins() -> None:
    cache = caches["default"]

    def compute() -> str:
        caches["memory"].set("k", "quicker")
        return "slower"

    assert cache.get_or_set("k", compute) == "quicker"
    assert cache.get("k") == "quicker"


# A value given as it is, which is as old as the call


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("shape", [("memory", "authority"), ("upper", "authority")])
def test_a_given_value_does_not_replace_one_that_was_set_during_its_call(
    shape: tuple[str, ...], way: str
) -> None:
    with simulated_chain(*shape) as sim:
        sim.refuse("authority")
        sim.during("authority", "before", lambda: sim.cache.set("k", "newer"))
        if way == "sync":
            found = sim.cache.get_or_set("k", "given")
        else:
            found = at_once(sim.cache.aget_or_set, "k", "given")
        assert found in ("given", "newer")
        assert sim.cache.get("k") == "newer"
