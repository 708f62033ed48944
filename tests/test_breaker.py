"""The circuit breaker alone: its states, its reset time, what it says of itself."""

from __future__ import annotations

import math

import pytest

from django_resilient_cache.breaker import BreakerConfig, CircuitBreaker, State, Transition
from django_resilient_cache.exceptions import CircuitOpenError
from tests import breaker_kit
from tests.breaker_kit import (
    Broken,
    answers,
    close_by_trials,
    fail,
    make_trial_due,
    open_it,
    trial_of,
)
from tests.clock import Clock

clock, make = breaker_kit.clock, breaker_kit.make


# Closed, open, half-open


def test_a_new_breaker_is_closed_and_admits_calls(make):
    breaker = make()
    assert breaker.state is State.CLOSED
    assert breaker.retry_after == 0.0
    assert breaker.call(answers) == "answer"


def test_call_passes_arguments_result_and_exception_through(make):
    breaker = make()
    assert breaker.call(dict, [("a", 1)], func=2, self=3) == {"a": 1, "func": 2, "self": 3}
    error = Broken("as it was")

    def raises() -> None:
        raise error

    with pytest.raises(Broken) as caught:
        breaker.call(raises)
    assert caught.value is error
    assert breaker.last_error == f"Broken: {error}"


def test_failures_in_a_row_open_it(make):
    breaker = make(max_failures=3)
    fail(breaker, 2)
    assert breaker.state is State.CLOSED
    fail(breaker)
    assert breaker.state is State.OPEN


def test_a_success_resets_the_count_of_failures(make):
    breaker = make(max_failures=3)
    for _ in range(5):
        fail(breaker, 2)
        breaker.call(answers)
    assert breaker.state is State.CLOSED
    fail(breaker, 3)
    assert breaker.state is State.OPEN


def test_failures_far_apart_are_still_in_a_row(make, clock):
    breaker = make(max_failures=3)
    for _ in range(3):
        fail(breaker)
        clock.forward(1_000)
    assert breaker.state is State.OPEN


def test_one_failure_is_enough_where_that_is_the_limit(make):
    breaker = make(max_failures=1)
    fail(breaker)
    assert breaker.state is State.OPEN


def test_open_refuses_without_calling(make):
    breaker = make(name="redis")
    open_it(breaker)
    called: list[int] = []
    with pytest.raises(CircuitOpenError) as caught:
        breaker.call(called.append, 1)
    assert called == []
    assert caught.value.name == "redis"
    assert caught.value.retry_after == 4.0
    with pytest.raises(CircuitOpenError), breaker:
        called.append(2)
    assert called == []
    assert breaker.try_acquire() is None


def test_after_the_reset_time_the_next_call_is_a_trial(make, clock):
    breaker = make(reset_timeout=4.0)
    open_it(breaker)
    clock.forward(3.999)
    assert breaker.try_acquire() is None
    clock.forward(0.001)
    permit = breaker.acquire()
    assert permit.trial
    assert breaker.state is State.HALF_OPEN


def test_successful_trials_in_a_row_close_it(make, clock):
    breaker = make(half_open_successes=3)
    open_it(breaker)
    make_trial_due(breaker, clock)
    for _ in range(2):
        breaker.call(answers)
        assert breaker.state is State.HALF_OPEN
    breaker.call(answers)
    assert breaker.state is State.CLOSED
    assert not breaker.acquire().trial


def test_one_failed_trial_opens_it_again_for_twice_as_long(make, clock):
    breaker = make(reset_timeout=4.0, half_open_successes=3)
    open_it(breaker)
    make_trial_due(breaker, clock)
    breaker.call(answers)
    fail(breaker)
    assert breaker.state is State.OPEN
    assert breaker.retry_after == 8.0


def test_successes_from_before_a_failed_trial_do_not_count_towards_closing(make, clock):
    breaker = make(half_open_successes=2)
    open_it(breaker)
    make_trial_due(breaker, clock)
    breaker.call(answers)
    fail(breaker)
    make_trial_due(breaker, clock)
    breaker.call(answers)
    assert breaker.state is State.HALF_OPEN


def test_once_closed_the_count_of_failures_starts_anew(make, clock):
    breaker = make(max_failures=3)
    open_it(breaker)
    close_by_trials(breaker, clock)
    fail(breaker, 2)
    assert breaker.state is State.CLOSED


def test_up_and_down_for_minutes_loses_no_permit_and_follows_the_back_off(make, clock):
    """Up 3 s, down 3 s: at each end of the open time there is a trial, never more, never none."""
    breaker = make(reset_timeout=1.0, max_reset_timeout=8.0, half_open_successes=2)
    previous = 0.0
    for tick in range(3_000):
        up = tick // 30 % 2 == 0
        due = breaker.state is State.OPEN and breaker.retry_after == 0.0
        if breaker.state is State.OPEN and not due:
            assert breaker.try_acquire() is None
        else:
            permit = breaker.acquire()
            if up:
                permit.success()
            else:
                permit.failure()
                if breaker.state is State.OPEN:
                    now = breaker.retry_after
                    if due:
                        assert now == min(2 * previous, 8.0)
                    previous = now
        clock.forward(0.1)
    breaker.reset()
    assert breaker.call(answers) == "answer"


# The reset time: doubling, cap, jitter, and when the doubling is forgotten


def test_the_reset_time_doubles_up_to_the_cap(make, clock):
    breaker = make(reset_timeout=4.0, max_reset_timeout=20.0)
    open_it(breaker)
    kept = [breaker.retry_after]
    for _ in range(4):
        make_trial_due(breaker, clock)
        fail(breaker)
        kept.append(breaker.retry_after)
    assert kept == [4.0, 8.0, 16.0, 20.0, 20.0]


def test_the_cap_is_thirty_seconds_or_the_reset_timeout_if_that_is_longer():
    assert BreakerConfig().reset_cap == 30.0
    assert BreakerConfig(reset_timeout=45).reset_cap == 45.0
    assert BreakerConfig(max_reset_timeout=7).reset_cap == 7


@pytest.mark.parametrize(("drawn", "kept"), [(0.0, 8.0), (0.5, 10.0), (1.0, 12.0)])
def test_jitter_stretches_or_shortens_by_a_fifth(make, drawn, kept):
    breaker = make(reset_timeout=10.0, rng=lambda: drawn)
    open_it(breaker)
    assert breaker.retry_after == pytest.approx(kept)


def test_jitter_does_not_add_up_in_the_doubling(make, clock):
    breaker = make(reset_timeout=4.0, max_reset_timeout=16.0, rng=lambda: 1.0)
    open_it(breaker)
    kept = [breaker.retry_after]
    for _ in range(3):
        make_trial_due(breaker, clock)
        fail(breaker)
        kept.append(breaker.retry_after)
    assert kept == pytest.approx([4.8, 9.6, 19.2, 19.2])


def test_without_a_generator_of_its_own_the_jitter_is_random(clock):
    config = BreakerConfig(max_failures=1, reset_timeout=10.0)
    kept = set()
    for number in range(50):
        breaker = CircuitBreaker(str(number), config, clock)
        fail(breaker)
        kept.add(breaker.retry_after)
    assert len(kept) > 40
    assert all(8.0 - 1e-9 <= seconds <= 12.0 + 1e-9 for seconds in kept)


def open_for_eight_seconds_and_close(breaker: CircuitBreaker, clock: Clock) -> None:
    open_it(breaker)
    make_trial_due(breaker, clock)
    fail(breaker)
    assert breaker.retry_after == pytest.approx(8.0)
    close_by_trials(breaker, clock)


def test_opening_again_soon_keeps_the_doubled_reset_time(make, clock):
    breaker = make(reset_timeout=4.0)
    open_for_eight_seconds_and_close(breaker, clock)
    clock.forward(7.9)
    open_it(breaker)
    assert breaker.retry_after == pytest.approx(8.0)
    make_trial_due(breaker, clock)
    fail(breaker)
    assert breaker.retry_after == pytest.approx(16.0)


def test_the_doubling_is_forgotten_after_staying_closed_as_long_as_it_was_last_open(make, clock):
    breaker = make(reset_timeout=4.0)
    open_for_eight_seconds_and_close(breaker, clock)
    clock.forward(8.0)
    open_it(breaker)
    assert breaker.retry_after == pytest.approx(4.0)


def test_reset_forgets_the_doubling(make, clock):
    breaker = make(reset_timeout=4.0)
    open_it(breaker)
    make_trial_due(breaker, clock)
    fail(breaker)
    breaker.reset()
    open_it(breaker)
    assert breaker.retry_after == pytest.approx(4.0)


# retry_after, state and other reading


def test_retry_after_counts_down_while_open_and_stays_at_zero(make, clock):
    breaker = make(reset_timeout=4.0)
    open_it(breaker)
    clock.forward(1.5)
    assert breaker.retry_after == 2.5
    clock.forward(100)
    assert breaker.retry_after == 0.0


def test_retry_after_in_the_other_states(make, clock):
    breaker = make(trial_timeout=6.0, half_open_successes=2)
    assert breaker.retry_after == 0.0
    breaker.force_open()
    assert breaker.retry_after == math.inf
    breaker.force_closed()
    assert breaker.retry_after == 0.0
    breaker.reset()
    open_it(breaker)
    trial = trial_of(breaker, clock)
    clock.forward(2.0)
    assert breaker.retry_after == 4.0, "until the trial's permit is taken back, at the latest"
    with pytest.raises(CircuitOpenError) as caught:
        breaker.acquire()
    assert caught.value.retry_after == 4.0
    trial.success()
    assert breaker.retry_after == 0.0


def test_it_refuses_only_while_it_is_open_and_its_time_is_not_up(make, clock):
    """A forced or half-open breaker is asked for a permit instead."""
    breaker = make(reset_timeout=4.0)
    assert not breaker.is_rejecting
    open_it(breaker)
    assert breaker.is_rejecting
    clock.forward(4.0)
    assert not breaker.is_rejecting
    breaker.acquire()
    assert not breaker.is_rejecting
    assert breaker.try_acquire() is None
    breaker.force_open()
    assert not breaker.is_rejecting
    assert breaker.try_acquire() is None


def test_reading_never_changes_state(make, clock):
    """An open breaker whose time is up reads open with nothing left to wait."""
    events: list[Transition] = []
    breaker = make(on_change=events.append)
    open_it(breaker)
    events.clear()
    clock.forward(1_000)
    for _ in range(3):
        assert breaker.state is State.OPEN
        assert breaker.retry_after == 0.0
        assert breaker.seconds_in_state == 1_000
        assert breaker.last_error.startswith("Broken")
        assert repr(breaker) == "<CircuitBreaker 'cache': open>"
    assert events == []


def test_an_outage_is_as_old_as_its_first_failure_however_many_trials_fail(make, clock):
    breaker = make()
    clock.forward(1_000)
    open_it(breaker)
    for _ in range(3):
        clock.forward(100)
        breaker.acquire().failure(Broken())
    assert (breaker.state, breaker.seconds_in_state) == (State.OPEN, 300)
    clock.forward(100)
    breaker.acquire()
    assert (breaker.state, breaker.seconds_in_state) == (State.HALF_OPEN, 400)
    breaker.force_closed()
    clock.forward(7)
    assert breaker.seconds_in_state == 7
    breaker.reset()
    assert breaker.seconds_in_state == 0


def test_reading_an_overdue_trial_does_not_end_it(make, clock):
    breaker = make(trial_timeout=1.0, half_open_successes=1)
    open_it(breaker)
    trial = trial_of(breaker, clock)
    clock.forward(5.0)
    assert breaker.retry_after == 0.0
    trial.success()
    assert breaker.state is State.CLOSED
