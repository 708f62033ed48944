"""One alias in this process: what each end of a call means for its breaker, counters and log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from django_resilient_cache import CircuitOpenError, OperationTimeout, State, deadline
from django_resilient_cache.adapters.commands import Add, Backfill, Delete, Get, Incr, Set
from django_resilient_cache.adapters.outcome import MISS, REJECTED, Kind, Outcome
from django_resilient_cache.breaker.states import BreakerConfig
from django_resilient_cache.conf import LayerConfig
from django_resilient_cache.conf.backends import OTHER
from django_resilient_cache.layer.registry import make_layer
from django_resilient_cache.layer.telemetry import QUIET_SECONDS
from django_resilient_cache.timeouts.time_limit import BulkheadFull, TimedOut, never
from tests.calls import FunctionCommand
from tests.clock import Clock

pytestmark = pytest.mark.usefixtures("still_agent")

LIMIT = 0.1


class FakeLimit:
    """Keeps a limit as it is told to."""

    strategy = "thread"

    def __init__(self) -> None:
        self.result: Any = MISS
        self.budgets: list[float | None] = []
        self.trials: list[bool] = []
        self.closed = self.turned_away = 0
        self.is_rejecting: Callable[[], bool] = never
        #: What happens while a caller waits for a place.
        self.meanwhile: Callable[[], object] = int

    def call(self, call: Any, budget: float | None, *, trial: bool) -> Any:
        self.budgets.append(budget)
        self.trials.append(trial)
        self.meanwhile()
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    def reject_waiting(self) -> None:
        self.turned_away += 1

    def close(self) -> None:
        self.closed += 1


class Bench:
    """A layer with everything around it at hand."""

    def __init__(self, seconds: float | None = LIMIT, **breaker: Any) -> None:
        self.clock = Clock()
        self.limit = FakeLimit()
        settings = {"max_failures": 3, "reset_timeout": 5.0, "half_open_successes": 1, **breaker}
        config = LayerConfig(
            alias="redis",
            backend="somewhere",
            family=OTHER,
            operation_timeout=seconds,
            timeout_strategy="auto",
            max_concurrency=16,
            breaker=BreakerConfig(**settings),
            own_timeout=False,
            timeout=None,
        )
        self.layer = make_layer(config, self.limit, clock=self.clock)

    def call(self, result: Any) -> Outcome:
        self.limit.result = result
        self.clock.forward(getattr(result, "server_seconds", 0.0))
        return self.layer.execute(None, Get("k", None))

    @property
    def failures_in_a_row(self) -> int:
        """How many, told by how many more open it."""
        missing = 0
        while self.layer.breaker.state is State.CLOSED:
            self.layer.breaker.acquire().failure(ConnectionError())
            missing += 1
        return self.layer.breaker.config.max_failures - missing


def test_answers_are_counted_and_passed_on() -> None:
    bench = Bench()
    for outcome in (Outcome(Kind.HIT, 1), MISS, Outcome(Kind.DONE)):
        assert bench.call(outcome) is outcome
    layer = bench.layer
    assert (layer.guard.counters.hits, layer.guard.counters.misses, layer.guard.counters.done) == (
        1,
        1,
        1,
    )
    assert (
        layer.guard.counters.failures,
        layer.guard.counters.timeouts,
        layer.guard.counters.rejected,
    ) == (0, 0, 0)


def test_a_failure_is_counted_and_opens() -> None:
    bench = Bench()
    error = ConnectionError("refused")
    for _ in range(3):
        outcome = bench.call(error)
        assert outcome.kind is Kind.FAILED
        assert outcome.error is error
    assert bench.layer.breaker.state is State.OPEN
    assert bench.call(MISS).kind is Kind.REJECTED
    assert len(bench.limit.budgets) == 3, "not called"
    assert (bench.layer.guard.counters.failures, bench.layer.guard.counters.rejected) == (3, 1)


def test_a_miss_is_a_success() -> None:
    bench = Bench()
    for _ in range(5):
        bench.call(ConnectionError())
        bench.call(ConnectionError())
        bench.call(MISS)
    assert bench.layer.breaker.state is State.CLOSED


def test_a_call_has_the_layers_limit_or_what_is_left_of_the_callers() -> None:
    bench = Bench()
    bench.call(MISS)
    with deadline(100):
        bench.call(MISS)
    with deadline(0.05):
        bench.call(MISS)
    full, also_full, cut = bench.limit.budgets
    assert (full, also_full) == (LIMIT, LIMIT)
    assert cut is not None
    assert cut <= 0.05


def test_a_time_out_is_a_failure() -> None:
    bench = Bench()
    outcome = bench.call(TimedOut(LIMIT))
    assert outcome.kind is Kind.TIMED_OUT
    assert isinstance(outcome.error, OperationTimeout)
    assert "0.1 s" in str(outcome.error)
    assert bench.layer.guard.counters.timeouts == 1
    assert bench.failures_in_a_row == 1


def test_a_process_short_of_time_blames_nobody_at_once() -> None:
    """What the other side was given adds up, and is forgotten at the first answer."""
    bench = Bench()
    for _ in range(20):
        bench.call(TimedOut(0.0))
    assert bench.failures_in_a_row == 0
    bench = Bench()
    for _ in range(10):
        bench.call(TimedOut(0.04))
        bench.call(TimedOut(0.04))
        bench.call(MISS)
    assert bench.failures_in_a_row == 0
    bench = Bench()
    for _ in range(3):
        bench.call(TimedOut(0.04))
    assert bench.failures_in_a_row == 1


def test_the_callers_shorter_deadline_blames_nobody_at_once() -> None:
    bench = Bench()
    with deadline(0.05):
        for _ in range(2):
            assert bench.call(TimedOut(0.03)).kind is Kind.TIMED_OUT
        assert bench.layer.guard.counters.timeouts == 2
    assert bench.failures_in_a_row == 0
    bench = Bench()
    with deadline(0.09):
        bench.call(TimedOut(0.09))
    assert bench.failures_in_a_row == 0, "however much of the limit that was"


def test_but_short_deadlines_add_up() -> None:
    """Else a site that always uses them never opens the breaker."""
    bench = Bench()
    with deadline(0.05):
        for _ in range(12):
            bench.call(TimedOut(0.034))
    assert bench.layer.breaker.state is State.OPEN


def test_nothing_left_of_a_deadline_asks_nobody() -> None:
    bench = Bench()
    with deadline(0):
        for _ in range(10):
            assert bench.call(MISS).kind is Kind.TIMED_OUT
    assert bench.limit.budgets == []
    assert bench.failures_in_a_row == 0


def test_without_a_limit_of_its_own_a_cut_call_blames_nobody() -> None:
    bench = Bench(seconds=None)
    with deadline(0.05):
        for _ in range(10):
            assert bench.call(TimedOut(0.05)).kind is Kind.TIMED_OUT
    assert bench.failures_in_a_row == 0


def test_who_waited_for_a_place_while_the_breaker_opened_is_refused() -> None:
    bench = Bench()
    assert not bench.limit.is_rejecting()
    bench.limit.meanwhile = bench.layer.breaker.force_open
    assert bench.call(BulkheadFull()) is REJECTED
    assert bench.limit.is_rejecting()
    assert (bench.layer.guard.counters.rejected, bench.layer.guard.counters.timeouts) == (1, 0)


def test_those_who_wait_for_a_place_are_turned_away_as_the_breaker_opens() -> None:
    bench = Bench(max_failures=2)
    seen = []
    for step in (
        lambda: bench.call(OSError("gone")),
        lambda: bench.call(OSError("gone")),
        bench.layer.breaker.reset,
        bench.layer.breaker.force_open,
        bench.layer.breaker.force_closed,
    ):
        step()
        seen.append(bench.limit.turned_away)
    assert seen == [0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("withheld", "failures"), [([0.1], 1), ([0.03] * 3, 0), ([0.03] * 4, 1), ([0.0] * 9, 0)]
)
def test_no_place_counts_for_as_long_as_calls_that_hang_hold_all(
    withheld: list[float], failures: int
) -> None:
    bench = Bench(seconds=0.1)
    for given in withheld:
        assert bench.call(BulkheadFull(given)).kind is Kind.TIMED_OUT
    assert bench.failures_in_a_row == failures


@pytest.mark.parametrize(
    ("operation", "args", "missed"),
    [
        (Set, ("key", 1, 60, 1), True),
        (Delete, ("key", 1), True),
        (partial(Backfill, only_free=False), ([("key", 1, 60)], 1), False),
        (partial(Backfill, only_free=True), ([("key", 1, 60)], 1), False),
        (Add, ("key", 1, 60, 1), False),
        (Incr, ("key", 1, 1), False),
    ],
)
@pytest.mark.parametrize("why", ["no place", "no time left"])
def test_a_change_that_was_never_made_is_missed_only_where_it_should_have_been(
    settings: Any, operation: Any, args: tuple[Any, ...], missed: bool, why: str
) -> None:
    """A backfill that found no place has written nothing: the layer goes on being read."""
    settings.CACHES = {**settings.CACHES, "redis": settings.CACHES["default"]}
    bench = Bench()
    bench.limit.result = BulkheadFull()
    with deadline(10.0 if why == "no place" else 0.0):
        assert bench.layer.execute(None, operation(*args)).kind is Kind.TIMED_OUT
    assert len(bench.layer.missed_changes) == missed
    assert bench.layer.missed_changes.in_sync is not missed


def test_no_place_is_no_failure_but_of_a_trial() -> None:
    bench = Bench()
    for _ in range(10):
        assert bench.call(BulkheadFull()).kind is Kind.TIMED_OUT
    assert bench.layer.breaker.state is State.CLOSED
    assert bench.failures_in_a_row == 0
    assert bench.layer.breaker.state is State.OPEN
    bench.clock.forward(10)
    assert bench.call(BulkheadFull()).kind is Kind.TIMED_OUT
    assert bench.limit.trials[-1] is True
    assert bench.layer.breaker.state is State.OPEN, "the trial failed"
    bench.clock.forward(30)
    assert bench.call(MISS).kind is Kind.MISS
    assert bench.layer.breaker.state is State.CLOSED


ENDS: list[BaseException] = [KeyboardInterrupt(), SystemExit(), NotImplementedError()]


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_a_trial_gives_its_permit_back_however_it_ends(end: BaseException) -> None:
    bench = Bench(reset_timeout=5.0)
    for _ in range(3):
        bench.call(ConnectionError())
    bench.clock.forward(10)
    with pytest.raises(type(end)):
        bench.call(end)
    assert bench.layer.breaker.state is State.HALF_OPEN
    assert bench.call(MISS).kind is Kind.MISS, "the next one is a trial"
    assert bench.layer.breaker.state is State.CLOSED


@pytest.mark.parametrize("spent", [TimedOut(0.01), None], ids=["cut short", "nothing left"])
def test_a_trial_cut_short_by_its_caller_gives_its_permit_back(spent: TimedOut | None) -> None:
    bench = Bench()
    for _ in range(3):
        bench.call(ConnectionError())
    bench.clock.forward(10)
    with deadline(0.05 if spent else 0):
        assert bench.call(spent or MISS).kind is Kind.TIMED_OUT
    assert bench.layer.breaker.state is State.HALF_OPEN
    assert bench.call(MISS).kind is Kind.MISS


def test_an_answer_in_the_form_of_an_exception_is_a_success() -> None:
    bench = Bench()
    bench.call(ConnectionError())
    bench.call(ConnectionError())
    bench.limit.result = ValueError("Key 'k' not found")
    with pytest.raises(ValueError, match="not found"):
        bench.layer.execute(None, Incr("k", 1, None))
    assert bench.failures_in_a_row == 0
    assert bench.layer.guard.counters.done == 1


def test_an_order_stands_whatever_fails() -> None:
    bench = Bench()
    bench.layer.breaker.force_closed()
    for _ in range(10):
        assert bench.call(ConnectionError()).kind is Kind.FAILED
    assert bench.layer.breaker.state is State.FORCED_CLOSED
    bench.layer.breaker.force_open()
    assert bench.call(MISS).kind is Kind.REJECTED
    refusal = bench.layer.refusal()
    assert isinstance(refusal, CircuitOpenError)
    assert (refusal.name, refusal.retry_after) == ("redis", float("inf"))


def test_a_call_in_place_needs_no_limit() -> None:
    bench = Bench()
    seen: list[Any] = []

    def note(raw: Any) -> Outcome:
        seen.append(raw)
        return MISS

    raw: Any = object()
    bench.layer.execute(raw, FunctionCommand(note))
    assert seen == [raw]
    assert bench.limit.budgets == []


# The log


def logged(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    texts = [r.getMessage() for r in caplog.records if r.levelno >= level]
    caplog.clear()
    return texts


def test_the_first_failure_and_each_transition_are_logged_never_each_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    with caplog.at_level(logging.INFO, "django_resilient_cache"):
        bench.call(ConnectionError("refused"))
        (first,) = logged(caplog)
        assert "'redis'" in first
        assert "ConnectionError" in first
        assert "refused" in first
        bench.call(ConnectionError("refused"))
        assert logged(caplog) == []
        bench.call(ConnectionError("refused"))
        (opened,) = logged(caplog)
        assert "closed -> open" in opened
        for _ in range(100):
            bench.call(MISS)
        assert logged(caplog) == []
        bench.clock.forward(10)
        bench.call(MISS)
        assert [text.split(" (")[0] for text in logged(caplog, logging.INFO)] == [
            "redis: open -> half-open",
            "redis: half-open -> closed",
        ]
        bench.call(ConnectionError("again"))
        assert len(logged(caplog)) == 1, "after it was closed, the next first failure"


def test_a_layer_that_keeps_failing_now_and_then_is_named_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    told = 0
    with caplog.at_level(logging.INFO, "django_resilient_cache"):
        for _ in range(100):
            bench.call(ConnectionError())
            bench.call(MISS)
            bench.clock.forward(QUIET_SECONDS / 20)
            told += len(logged(caplog))
    assert 4 <= told <= 6


def test_an_unreadable_entry_is_logged_in_its_own_right(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    with caplog.at_level(logging.INFO, "django_resilient_cache"):
        bench.call(ConnectionError())
        logged(caplog)
        unreadable = Outcome(Kind.DONE, {}, error=EOFError("cut off"))
        for _ in range(3):
            assert bench.call(unreadable) is unreadable
        (text,) = logged(caplog)
        assert "cannot be read back" in text
        assert "cut off" in text


def test_closing_it_closes_its_limit() -> None:
    bench = Bench()
    bench.layer.close()
    assert bench.limit.closed == 1


def test_a_snapshot_is_plain() -> None:
    import json

    bench = Bench()
    bench.call(ConnectionError("refused"))
    shown = bench.layer.snapshot()
    json.dumps(shown)
    assert shown["state"] == "closed"
    assert shown["failures"] == 1
    assert "ConnectionError" in str(shown["last_error"])
