"""Transitions are told in order, outside the lock, whatever the callback does."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from django_resilient_cache.breaker import State, Transition
from tests import breaker_kit
from tests.breaker_kit import (
    Broken,
    Interrupted,
    answers,
    close_by_trials,
    fail,
    make_trial_due,
    open_it,
    to_half_open,
    trial_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

clock, make = breaker_kit.clock, breaker_kit.make


def test_each_transition_is_told_in_order_with_reason_error_and_wait(make, clock):
    events: list[Transition] = []
    breaker = make(
        name="redis",
        max_failures=2,
        reset_timeout=4.0,
        half_open_successes=1,
        on_change=events.append,
    )
    open_it(breaker)
    error = events[0].error
    assert isinstance(error, Broken)
    assert breaker.last_error == f"Broken: {error}"
    close_by_trials(breaker, clock)
    breaker.force_open("maintenance")
    breaker.force_closed("done")
    breaker.auto()
    breaker.force_open()
    breaker.reset("by hand")
    closed, opened, half = State.CLOSED, State.OPEN, State.HALF_OPEN
    forced_open, forced_closed = State.FORCED_OPEN, State.FORCED_CLOSED
    assert events == [
        Transition("redis", closed, opened, "2 failures in a row", error, 4.0),
        Transition("redis", opened, half, "open for 4.0 s", None, 0.0),
        Transition("redis", half, closed, "1 successful trials", None, 0.0),
        Transition("redis", closed, forced_open, "maintenance", None, 0.0),
        Transition("redis", forced_open, forced_closed, "done", None, 0.0),
        Transition("redis", forced_closed, closed, "automatic again", None, 0.0),
        Transition("redis", closed, forced_open, "forced open", None, 0.0),
        Transition("redis", forced_open, closed, "by hand", None, 0.0),
    ]


def test_a_failed_trial_and_the_rate_rule_name_themselves(make, clock):
    events: list[Transition] = []
    breaker = make(max_failures=3, on_change=events.append)
    to_half_open(breaker, clock)
    breaker.reset()
    open_it(breaker)
    trial_of(breaker, clock).failure()
    assert events[-1].reason == "a trial failed"
    assert events[-1].retry_after == 8.0
    breaker = make(failure_rate=0.5, min_calls=1, on_change=events.append)
    fail(breaker)
    assert events[-1].reason == "failure rate of 50% reached"


def test_what_changes_no_state_is_not_told(make):
    events: list[Transition] = []
    breaker = make(on_change=events.append)
    breaker.reset()
    fail(breaker, 2)
    breaker.call(answers)
    breaker.auto()
    assert events == []
    breaker.force_open()
    breaker.force_open()
    assert len(events) == 1


def test_a_callback_may_use_the_breaker_and_the_order_is_kept(make, clock):
    seen: list[tuple[State, State]] = []

    def on_change(event: Transition) -> None:
        seen.append((event.old, event.new))
        assert breaker.retry_after >= 0.0
        if event.new is State.OPEN:
            breaker.force_closed()
            assert breaker.call(answers) == "answer"
        elif event.new is State.FORCED_CLOSED:
            breaker.reset()

    breaker = make(max_failures=1, on_change=on_change)
    fail(breaker)
    assert seen == [
        (State.CLOSED, State.OPEN),
        (State.OPEN, State.FORCED_CLOSED),
        (State.FORCED_CLOSED, State.CLOSED),
    ]


def test_a_callback_that_raises_is_logged_and_harms_nobody(make, clock, caplog):
    def on_change(event: Transition) -> None:
        raise Broken("in the callback")

    breaker = make(name="redis", on_change=on_change)
    with caplog.at_level(logging.ERROR, "django_resilient_cache"):
        open_it(breaker)
        close_by_trials(breaker, clock)
    assert len(caplog.records) == 3
    assert "'redis'" in caplog.records[0].getMessage()


def test_an_interrupt_in_a_callback_passes_on_and_loses_no_trial_and_no_event(make, clock):
    """The trial it came with is not made, so its permit goes back."""
    seen: list[State] = []

    def on_change(event: Transition) -> None:
        seen.append(event.new)
        if event.new is State.HALF_OPEN:
            raise Interrupted

    breaker = make(on_change=on_change, half_open_successes=1)
    open_it(breaker)
    make_trial_due(breaker, clock)
    with pytest.raises(Interrupted):
        breaker.call(answers)
    assert breaker.state is State.HALF_OPEN
    breaker.call(answers)
    assert breaker.state is State.CLOSED
    assert seen == [State.OPEN, State.HALF_OPEN, State.CLOSED]


class LateLock:
    """Lets something happen after the last look at what is to be told, before the release."""

    def __init__(self, between: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._between: Callable[[], None] | None = between

    def acquire(self, blocking: bool = True) -> bool:
        return self._lock.acquire(blocking=blocking)

    def release(self) -> None:
        between, self._between = self._between, None
        if between is not None:
            between()
        self._lock.release()


def test_what_happens_while_the_teller_is_about_to_stop_is_told_by_it(make):
    """The other thread found it still telling and left it to it."""
    events: list[Transition] = []
    breaker = make(on_change=events.append)
    breaker._delivering = LateLock(breaker.force_closed)
    breaker.force_open()
    assert [event.new for event in events] == [State.FORCED_OPEN, State.FORCED_CLOSED]
