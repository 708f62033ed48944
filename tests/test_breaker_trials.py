"""Trials: how many, what brings a permit back, and which results count no longer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from django_resilient_cache.breaker import CircuitBreaker, Permit, State
from tests import breaker_kit
from tests.breaker_kit import (
    Interrupted,
    answers,
    fail,
    make_trial_due,
    open_it,
    raise_interrupted,
    to_closed_again,
    to_half_open,
    to_open,
    trial_of,
)
from tests.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

clock, make = breaker_kit.clock, breaker_kit.make


# Trials: how many, and what brings a permit back


def test_only_the_allowed_number_of_trials_is_in_flight(make, clock):
    breaker = make(half_open_max_calls=2, half_open_successes=5)
    open_it(breaker)
    first = trial_of(breaker, clock)
    second = breaker.acquire()
    assert breaker.try_acquire() is None
    first.success()
    third = breaker.acquire()
    assert third.trial
    assert breaker.try_acquire() is None
    second.success()
    third.success()
    assert breaker.state is State.HALF_OPEN


def test_the_other_trials_in_flight_do_not_count_after_one_failed(make, clock):
    breaker = make(half_open_max_calls=3, half_open_successes=1)
    open_it(breaker)
    first, second, third = trial_of(breaker, clock), breaker.acquire(), breaker.acquire()
    first.failure()
    second.success()
    third.failure()
    assert breaker.state is State.OPEN
    assert breaker.retry_after == 8.0


def test_a_trial_that_never_returns_gives_its_permit_back_when_its_lease_ends(make, clock):
    breaker = make(trial_timeout=2.0, half_open_successes=1)
    open_it(breaker)
    lost = trial_of(breaker, clock)
    clock.forward(1.999)
    assert breaker.try_acquire() is None
    clock.forward(0.001)
    again = breaker.acquire()
    assert again.trial
    assert breaker.try_acquire() is None, "the lost one counts no longer, the new one does"
    lost.failure()
    assert breaker.state is State.HALF_OPEN, "a permit that was taken back decides nothing"
    again.success()
    assert breaker.state is State.CLOSED


def test_without_a_trial_timeout_the_lease_is_the_cap_of_the_reset_time(make, clock):
    breaker = make(max_reset_timeout=9.0)
    open_it(breaker)
    trial_of(breaker, clock)
    assert breaker.retry_after == 9.0


def test_trials_that_never_return_do_not_pile_up(make, clock):
    breaker = make(trial_timeout=1.0)
    open_it(breaker)
    make_trial_due(breaker, clock)
    for _ in range(100):
        assert breaker.acquire().trial
        clock.forward(1.0)
    assert len(breaker._trials._lease_ends) == 1


@pytest.mark.parametrize(
    "interrupt", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, Interrupted]
)
def test_an_interrupted_call_passes_on_uncounted_and_a_trial_gives_its_permit_back(
    make, clock, interrupt
):
    def interrupted() -> None:
        raise interrupt

    breaker = make(max_failures=1)
    with pytest.raises(interrupt):
        breaker.call(interrupted)
    assert breaker.state is State.CLOSED
    with pytest.raises(interrupt), breaker:
        interrupted()
    assert breaker.state is State.CLOSED
    open_it(breaker)
    make_trial_due(breaker, clock)
    for _ in range(3):
        with pytest.raises(interrupt):
            breaker.call(interrupted)
        with pytest.raises(interrupt), breaker:
            interrupted()
        assert breaker.state is State.HALF_OPEN
    breaker.call(answers)
    breaker.call(answers)
    assert breaker.state is State.CLOSED


def test_an_interrupt_does_not_break_the_row_of_failures(make):
    breaker = make(max_failures=2)
    fail(breaker)
    with pytest.raises(Interrupted):
        breaker.call(raise_interrupted)
    fail(breaker)
    assert breaker.state is State.OPEN


def test_a_released_trial_says_nothing_and_keeps_the_successes_so_far(make, clock):
    breaker = make(half_open_successes=2)
    open_it(breaker)
    trial_of(breaker, clock).success()
    breaker.acquire().release()
    assert breaker.state is State.HALF_OPEN
    breaker.acquire().success()
    assert breaker.state is State.CLOSED


def test_a_trial_given_back_twice_counts_once(make, clock):
    breaker = make(half_open_successes=2)
    open_it(breaker)
    trial = trial_of(breaker, clock)
    trial.success()
    trial.success()
    trial.failure()
    assert breaker.state is State.HALF_OPEN


# Generations: what is from before a transition, a reset or an order is ignored


def every_end(permit: Permit) -> list[Callable[[], None]]:
    return [
        permit.success,
        permit.failure,
        permit.release,
        lambda: permit.partial_timeout(100.0, 0.1),
    ]


def snapshot(breaker: CircuitBreaker) -> tuple[object, ...]:
    return (
        breaker.state,
        breaker.retry_after,
        breaker.last_error,
        breaker.shared_permit,
        breaker._failures.in_a_row,
        breaker._failures.waited,
        breaker._trials.successes,
        len(breaker._trials._lease_ends),
    )


CHANGES: list[Callable[[CircuitBreaker, Clock], None]] = [
    to_open,
    to_half_open,
    to_closed_again,
    lambda breaker, clock: breaker.reset(),
    lambda breaker, clock: breaker.force_open(),
    lambda breaker, clock: breaker.force_closed(),
    lambda breaker, clock: (breaker.force_open(), breaker.auto())[0],
    lambda breaker, clock: (breaker.force_closed(), breaker.auto())[0],
    lambda breaker, clock: (to_half_open(breaker, clock), breaker.reset())[0],
]


@pytest.mark.parametrize("change", range(len(CHANGES)))
@pytest.mark.parametrize("end", range(4))
def test_a_result_from_the_closed_time_before_a_change_is_ignored(make, clock, change, end):
    breaker = make(max_failures=1, half_open_successes=2, half_open_max_calls=2)
    late = breaker.acquire()
    CHANGES[change](breaker, clock)
    before = snapshot(breaker)
    for _ in range(3):
        every_end(late)[end]()
        assert snapshot(breaker) == before


@pytest.mark.parametrize("end", range(4))
@pytest.mark.parametrize("change", ["failed trial", "closed", "reset", "open", "closed by order"])
def test_a_result_of_a_trial_from_before_a_change_is_ignored(make, clock, change, end):
    breaker = make(max_failures=1, half_open_successes=1, half_open_max_calls=2)
    open_it(breaker)
    late = trial_of(breaker, clock)
    {
        "failed trial": lambda: breaker.acquire().failure(),
        "closed": lambda: breaker.acquire().success(),
        "reset": breaker.reset,
        "open": breaker.force_open,
        "closed by order": breaker.force_closed,
    }[change]()
    before = snapshot(breaker)
    for _ in range(3):
        every_end(late)[end]()
        assert snapshot(breaker) == before


@pytest.mark.parametrize("change", [to_closed_again, lambda breaker, clock: breaker.reset()])
def test_a_late_success_of_an_earlier_closed_time_does_not_reset_the_count(make, clock, change):
    breaker = make(max_failures=3)
    late = breaker.acquire()
    change(breaker, clock)
    fail(breaker, 2)
    late.success()
    fail(breaker)
    assert breaker.state is State.OPEN


def test_late_failures_and_waits_of_an_earlier_closed_time_do_not_add_to_the_count(make, clock):
    breaker = make(max_failures=3)
    late = breaker.acquire()
    breaker.reset()
    fail(breaker, 2)
    breaker.acquire().partial_timeout(0.2, 0.25)
    late.failure()
    late.partial_timeout(0.2, 0.25)
    assert breaker.state is State.CLOSED


def test_a_late_success_of_the_closed_time_does_not_help_to_close_it(make, clock):
    breaker = make(half_open_successes=1)
    late = breaker.acquire()
    open_it(breaker)
    trial_of(breaker, clock)
    late.success()
    assert breaker.state is State.HALF_OPEN


def test_a_trial_of_an_earlier_half_open_time_does_not_count_in_a_later_one(make, clock):
    breaker = make(half_open_max_calls=2, half_open_successes=1)
    open_it(breaker)
    late = trial_of(breaker, clock)
    breaker.acquire().failure()
    current = trial_of(breaker, clock)
    late.success()
    assert breaker.state is State.HALF_OPEN
    late.failure()
    assert breaker.state is State.HALF_OPEN
    current.success()
    assert breaker.state is State.CLOSED
