"""The thread limit: callers wait no longer than told, whatever the client does."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import BaseCache, caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.management import call_command
from django.db import transaction
from django.test import override_settings

from django_resilient_cache.layer.registry import registry
from django_resilient_cache.timeouts.threads import worker
from django_resilient_cache.timeouts.threads.thread_limit import ThreadLimit
from django_resilient_cache.timeouts.threads.worker import ThreadCall, Worker
from django_resilient_cache.timeouts.time_limit import BulkheadFull, TimedOut
from tests.calls import FunctionCall
from tests.entries import DATABASE, chain
from tests.services import wait_until

pytestmark = pytest.mark.usefixtures("still_agent")

SHORT = 0.02
#: Longer than any test takes.
LONG = 60.0


class Closing(LocMemCache):
    """Notes which instances were closed."""

    closed: list[BaseCache] = []

    def close(self, **kwargs: Any) -> None:
        self.closed.append(self)


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    Closing.closed.clear()
    entry = {"BACKEND": f"{__name__}.Closing", "LOCATION": "layer"}
    with override_settings(CACHES={"default": entry, "layer": entry}):
        yield


def call(
    limit: ThreadLimit, operation: Callable[..., Any], *args: Any, budget: float | None = LONG
) -> Any:
    return limit.call(FunctionCall(operation, *args), budget, trial=False)


class Hang:
    """An operation that does not end before it is told to."""

    def __init__(self) -> None:
        self._released = threading.Event()
        self.started = 0
        self.ended = 0
        self.raws: list[BaseCache] = []

    def __call__(self, raw: BaseCache) -> str:
        self.raws.append(raw)
        self.started += 1
        self._released.wait()
        self.ended += 1
        return "late"

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def hang() -> Iterator[Hang]:
    made = Hang()
    yield made
    made.release()
    wait_until(lambda: made.ended == made.started)


def own_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "resilient-cache-layer"]


@pytest.fixture
def limit(_no_threads_left: None) -> Iterator[ThreadLimit]:
    made = ThreadLimit("layer", 3)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_threads_left(hang: Hang) -> Iterator[None]:
    yield
    hang.release()
    assert wait_until(lambda: not own_threads())


def abandon(limit: ThreadLimit, hang: Hang, times: int = 1) -> None:
    for _ in range(times):
        started = hang.started
        with pytest.raises(TimedOut):
            call(limit, hang, budget=SHORT)
        assert wait_until(lambda: hang.started > started)  # noqa: B023  # called in this round


def test_a_result_comes_back_and_so_does_an_error(limit: ThreadLimit) -> None:
    def fails(raw: BaseCache) -> None:
        raise LookupError("inside")

    assert call(limit, lambda raw, *args: args, 1, 2) == (1, 2)
    assert call(limit, lambda raw: None, budget=None) is None
    with pytest.raises(LookupError, match="inside") as caught:
        call(limit, fails)
    assert "fails" in [entry.name for entry in caught.traceback]


def test_threads_have_a_backend_instance_of_their_own(limit: ThreadLimit) -> None:
    mine = caches["layer"]
    theirs = call(limit, lambda raw: raw)
    assert theirs is not mine
    assert call(limit, lambda raw: raw) is theirs, "kept between calls"
    assert call(limit, lambda raw: caches["layer"]) is not mine


def test_the_callers_context_stays_with_the_caller(limit: ThreadLimit) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")
    variable.set("the caller's")
    assert call(limit, lambda raw: variable.get()) == "nothing"
    threading.Thread(target=lambda: call(limit, lambda raw: variable.set("leaked"))).start()
    assert variable.get() == "the caller's"


def test_a_call_is_cut_at_the_end_of_its_budget(limit: ThreadLimit, hang: Hang) -> None:
    began = time.monotonic()
    with pytest.raises(TimedOut) as caught:
        call(limit, hang, budget=SHORT)
    assert time.monotonic() - began < 5
    assert 0 <= caught.value.server_seconds <= SHORT


def test_threads_are_bounded_and_an_abandoned_call_keeps_its_place(
    limit: ThreadLimit, hang: Hang
) -> None:
    abandon(limit, hang, 3)
    assert len(own_threads()) == 3
    for _ in range(5):
        with pytest.raises(BulkheadFull):
            call(limit, hang, budget=SHORT)
    assert hang.started == 3, "nobody else was let in"
    hang.release()
    assert call(limit, lambda raw: "after") == "after"
    assert len(own_threads()) == 3


def test_who_finds_no_place_for_calls_that_hang_knows_for_how_long_they_did(
    limit: ThreadLimit, hang: Hang
) -> None:
    """Else a layer that hangs, in a process too busy to blame it, would cost every call its limit."""

    def given() -> float:
        with pytest.raises(BulkheadFull) as caught:
            call(limit, hang, budget=0.1)
        return caught.value.server_seconds

    abandon(limit, hang, 3)
    assert 0 < max(given() for _ in range(5)) <= 0.1
    hang.release()
    assert wait_until(lambda: len(limit._idle) == 3)
    assert limit._hanging == 0


def test_calls_that_others_still_wait_for_are_no_hung_ones(limit: ThreadLimit, hang: Hang) -> None:
    waiting = [threading.Thread(target=lambda: call(limit, hang)) for _ in range(3)]
    for thread in waiting:
        thread.start()
    assert wait_until(lambda: hang.started == 3)
    with pytest.raises(BulkheadFull) as caught:
        call(limit, hang, budget=SHORT)
    assert caught.value.server_seconds == 0
    hang.release()
    for thread in waiting:
        thread.join(LONG)


def test_calls_from_before_the_limit_was_closed_are_not_counted_after_it(
    limit: ThreadLimit, hang: Hang
) -> None:
    abandon(limit, hang, 3)
    limit.close()
    assert limit._hanging == 0
    hang.release()
    assert call(limit, lambda raw: "after") == "after"
    assert wait_until(lambda: limit._started == 1)
    assert limit._hanging == 0


def test_the_wait_for_a_place_is_not_the_layers(limit: ThreadLimit, hang: Hang) -> None:
    """With many callers it would open the breaker of a layer that is well."""
    other = Hang()
    abandon(limit, hang, 3)
    threading.Timer(0.15, hang.release).start()
    try:
        with pytest.raises(TimedOut) as caught:
            call(limit, other, budget=0.65)
    finally:
        other.release()
    assert 0 <= caught.value.server_seconds <= 0.51


def test_a_trial_does_not_wait_for_a_place(limit: ThreadLimit, hang: Hang) -> None:
    abandon(limit, hang, 3)
    began = time.monotonic()
    with pytest.raises(BulkheadFull):
        limit.call(FunctionCall(hang), LONG, trial=True)
    assert time.monotonic() - began < LONG / 2


def test_a_caller_gets_the_place_that_becomes_free(limit: ThreadLimit, hang: Hang) -> None:
    abandon(limit, hang, 3)
    results: list[Any] = []
    waiting = [
        threading.Thread(target=lambda: results.append(call(limit, lambda raw: "in time")))
        for _ in range(6)
    ]
    for thread in waiting:
        thread.start()
    assert wait_until(lambda: len(limit._queue.waiting) == 6)
    hang.release()
    for thread in waiting:
        thread.join(LONG)
    assert results == ["in time"] * 6


@pytest.mark.parametrize("when", ["at once", "when a place is free"])
def test_who_waits_for_a_place_is_turned_away_once_the_layer_is_refused(
    limit: ThreadLimit, hang: Hang, when: str
) -> None:
    abandon(limit, hang, 3)
    turned_away: list[bool] = []

    def wait() -> None:
        with pytest.raises(BulkheadFull):
            call(limit, hang)
        turned_away.append(True)

    async def await_() -> None:
        with pytest.raises(BulkheadFull):
            await limit.acall(FunctionCall(hang), LONG, trial=False)
        turned_away.append(True)

    waiting = [
        threading.Thread(target=wait),
        threading.Thread(target=asyncio.run, args=(await_(),)),
    ]
    for thread in waiting:
        thread.start()
    assert wait_until(lambda: len(limit._queue.waiting) == 2)
    limit.is_rejecting = lambda: True
    if when == "at once":
        limit.reject_waiting()
    else:
        hang.release()
    for thread in waiting:
        thread.join(LONG / 2)
    assert turned_away == [True, True]
    assert hang.started == 3
    hang.release()
    assert wait_until(lambda: len(limit._idle) == 3), "the places are free"
    assert call(limit, lambda raw: "did not wait") == "did not wait"


def test_a_layer_that_is_slow_withholds_nothing(limit: ThreadLimit, hang: Hang) -> None:
    """All places hang before and after, but others than before: it does answer."""
    abandon(limit, hang, 3)
    found: list[BulkheadFull] = []

    def wait() -> None:
        with pytest.raises(BulkheadFull) as caught:
            call(limit, hang, budget=10 * SHORT)
        found.append(caught.value)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert wait_until(lambda: len(limit._queue.waiting) == 1)
    with limit._lock:  # one has come back, and the next one to have its place hangs already
        limit._came_back += 1
    waiting.join(LONG)
    assert found[0].server_seconds == 0.0

    def withheld() -> float:
        with pytest.raises(BulkheadFull, match="calls that hang hold all places") as caught:
            call(limit, hang, budget=SHORT)
        return caught.value.server_seconds

    # Who wakes late blames nobody; on a busy machine that is most of them.
    assert any(withheld() > 0.0 for _ in range(20))


def test_a_place_that_is_free_when_the_time_is_over_is_given_back(
    limit: ThreadLimit, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandon(limit, hang, 3)

    def too_late(try_take: Callable[[], Worker | None], seconds: float) -> Worker | None:
        hang.release()
        assert wait_until(lambda: len(limit._idle) == 3)
        time.sleep(seconds)
        return try_take()

    monkeypatch.setattr(limit._queue, "take", too_late)
    with pytest.raises(BulkheadFull):
        call(limit, hang, budget=SHORT)
    assert len(limit._idle) == 3
    assert hang.started == 3


def test_where_no_thread_can_be_started_there_is_no_place(
    limit: ThreadLimit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuses)
        for _ in range(10):
            with pytest.raises(BulkheadFull, match="can't start new thread"):
                call(limit, lambda raw: "answer")
    assert call(limit, lambda raw: "answer") == "answer"


def test_a_late_result_is_dropped_with_the_instance_that_brought_it(
    limit: ThreadLimit, hang: Hang
) -> None:
    """Its connection may hold half an answer: another key's, for the next caller."""
    abandon(limit, hang)
    (used,) = hang.raws
    assert Closing.closed == []
    hang.release()
    assert wait_until(lambda: Closing.closed == [used])
    assert wait_until(lambda: bool(limit._idle))
    assert call(limit, lambda raw: raw) is not used
    assert call(limit, lambda raw: "another") == "another"


def test_an_instance_that_cannot_be_closed_is_let_go_all_the_same(
    limit: ThreadLimit, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: BaseCache, **kwargs: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(Closing, "close", fails)
    abandon(limit, hang)
    hang.release()
    assert wait_until(lambda: bool(limit._idle))
    assert call(limit, lambda raw: raw) is not hang.raws[0]


class Jumps:
    """A clock that reads what it is told, and then stands still."""

    def __init__(self, *readings: float) -> None:
        self._readings = list(readings)

    def __call__(self) -> float:
        return self._readings.pop(0) if len(self._readings) > 1 else self._readings[0]


def test_a_starved_process_gave_the_other_side_less(hang: Hang) -> None:
    """Who wakes late has been short of processor time, and so was the call."""
    for late, given in ((0.0, 0.02), (0.004, 0.004), (1.0, 0.0)):
        limit = ThreadLimit("layer", 3, clock=Jumps(100.0, 100.0, 100.0 + SHORT + late))
        started = hang.started

        def caller(limit: ThreadLimit = limit) -> Any:
            with pytest.raises(TimedOut) as caught:
                call(limit, hang, budget=SHORT)
            return caught.value.server_seconds

        # The first call's thread may itself be late: it has to have begun to be blamed.
        found = caller()
        assert wait_until(lambda: hang.started > started)  # noqa: B023  # called in this round
        assert found == pytest.approx(given, abs=1e-6) or found == 0.0
        limit.close()


def test_a_call_that_never_began_blames_nobody(limit: ThreadLimit) -> None:
    thread_call = ThreadCall(FunctionCall(lambda raw: None))
    assert limit._timed_out(thread_call, 5.0, began=100.0, sent=100.0).server_seconds == 0.0


def test_closing_ends_idle_threads_now_and_busy_ones_after_their_call(
    limit: ThreadLimit, hang: Hang
) -> None:
    abandon(limit, hang)
    call(limit, lambda raw: None)
    assert len(own_threads()) == 2
    limit.close()
    assert wait_until(lambda: len(own_threads()) == 1)
    hang.release()
    assert wait_until(lambda: not own_threads())
    assert call(limit, lambda raw: "again") == "again"
    assert len(own_threads()) == 1


def test_closing_and_calling_go_together(limit: ThreadLimit) -> None:
    results: list[int] = []

    def caller() -> None:
        results.extend(call(limit, lambda raw, n: n, number) for number in range(200))

    callers = [threading.Thread(target=caller) for _ in range(3)]
    for thread in callers:
        thread.start()
    while any(thread.is_alive() for thread in callers):
        limit.close()
        time.sleep(0.001)
    assert sorted(results) == sorted(list(range(200)) * 3)
    limit.close()
    assert wait_until(lambda: not own_threads())
    assert limit._started == 0


def test_what_a_call_was_given_is_let_go_with_it(limit: ThreadLimit) -> None:
    class Value:
        pass

    value = Value()
    gone = weakref.ref(value)
    call(limit, lambda raw, each: None, value)
    with pytest.raises(LookupError):
        call(limit, _raise_lookup, value)
    del value
    assert wait_until(lambda: gone() is None)


def _raise_lookup(raw: BaseCache, *args: Any) -> None:
    raise LookupError


@pytest.mark.slow
def test_memory_stays_flat(limit: ThreadLimit, hang: Hang) -> None:
    abandon(limit, hang, 3)
    for _ in range(300):
        with pytest.raises(BulkheadFull):
            limit.call(FunctionCall(hang), LONG, trial=True)
    gc.collect()
    assert sum(type(each) is ThreadCall for each in gc.get_objects()) <= 3
    hang.release()
    for number in range(300):
        call(limit, lambda raw, each: each, number)
    del number
    gc.collect()
    assert wait_until(lambda: not any(type(each) is ThreadCall for each in gc.get_objects()))
    assert len(own_threads()) <= 3


def test_idle_threads_close_their_database_connections(
    limit: ThreadLimit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some seconds, not after each call: connecting costs ten times the query."""
    closed_by: list[str] = []

    class Connections:
        @staticmethod
        def close_all() -> None:
            closed_by.append(threading.current_thread().name)

    monkeypatch.setattr(worker, "connections", Connections)
    monkeypatch.setattr(worker, "IDLE_SECONDS", LONG)
    call(limit, lambda raw: None)
    call(limit, lambda raw: None)
    assert closed_by == []
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.01)
    call(limit, lambda raw: None)
    assert wait_until(lambda: closed_by == ["resilient-cache-layer"])
    assert call(limit, lambda raw: "works") == "works"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(limit: ThreadLimit, hang: Hang) -> None:
    abandon(limit, hang, 2)
    call(limit, lambda raw: None)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if call(limit, lambda raw: "alive", budget=10) == "alive" else 2
        finally:
            os._exit(status)
    assert wait_until(lambda: os.waitpid(child, os.WNOHANG) != (0, 0)) is not None


@pytest.mark.django_db
def test_inside_a_transaction_a_database_cache_is_called_in_place() -> None:
    """On another connection it would not see what the transaction wrote, nor end with it."""
    call_command("createcachetable", "atomic_cache")
    resilience = {"OPERATION_TIMEOUT": LONG, "TIMEOUT_STRATEGY": "thread"}
    settings = {
        "default": chain("database"),
        "database": {"BACKEND": DATABASE, "LOCATION": "atomic_cache", "RESILIENCE": resilience},
    }
    with override_settings(CACHES=settings):
        cache = caches["default"]
        before = threading.active_count()
        cache.set("kept", 1)
        with pytest.raises(LookupError), transaction.atomic():
            cache.set("k", 1)
            assert cache.get("k") == 1
            raise LookupError
        assert cache.get("k") is None, "rolled back with the rest"
        assert cache.get("kept") == 1
        assert registry.layer("database").guard.strategy == "thread"
        assert threading.active_count() == before


@pytest.mark.django_db(transaction=True)
def test_outside_a_transaction_it_is_not() -> None:
    resilience = {"OPERATION_TIMEOUT": LONG, "TIMEOUT_STRATEGY": "thread"}
    settings = {
        "default": chain("database"),
        "database": {"BACKEND": DATABASE, "LOCATION": "atomic_cache", "RESILIENCE": resilience},
    }
    with override_settings(CACHES=settings):
        transactions = registry.layer("database").guard._transactions
        assert transactions is not None
        assert transactions.in_place() is None
        with transaction.atomic():
            assert transactions.in_place() is not None


SCRIPT = """
    import signal, sys, threading, time
    import django
    from django.conf import settings

    settings.configure(CACHES={
        "default": {
            "BACKEND": "django_resilient_cache.backend.ResilientCache", "LOCATION": ["hung"],
        },
        "hung": {
            "BACKEND": "django_resilient_cache.testing.FaultyCache", "LOCATION": "real",
            "RESILIENCE": {"OPERATION_TIMEOUT": 0.05},
        },
        "real": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    })
    django.setup()
    from django.core.cache import cache
    from django_resilient_cache.testing import faults

    faults("hung").hang()
    signal.signal(signal.SIGTERM, lambda *args: sys.exit(0))
    assert cache.get("k", "default") == "default"
    assert faults("hung").hanging == 1
    print("hung", flush=True)
    if sys.argv[1] == "stay":
        while True:  # a signal that comes just before a long sleep would have to wait for its end
            time.sleep(0.02)
"""


@pytest.mark.exclusive
@pytest.mark.parametrize("how", ["leave", "stay"])
def test_a_process_with_a_hung_call_exits_at_once(how: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), how],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"hung\n"
        began = time.monotonic()
        if how == "stay":
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert time.monotonic() - began < 1.0
    finally:
        process.kill()
        process.communicate()


def test_a_thread_lives_on_where_its_connections_cannot_be_looked_at(
    limit: ThreadLimit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> None:
        raise LookupError("from the call")

    def broken() -> None:
        raise RuntimeError("from looking")

    monkeypatch.setattr(worker, "close_old_connections", broken)
    with pytest.raises(LookupError, match="from the call"):
        call(limit, fails, budget=5.0)
    assert call(limit, lambda raw: "answer") == "answer"
    assert len(own_threads()) == 1
