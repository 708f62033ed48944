"""Waits that the caller's own deadline cut short: nobody's fault one by one, but they add up."""

from __future__ import annotations

from django_resilient_cache.breaker import State
from tests import breaker_kit
from tests.breaker_kit import (
    Broken,
    answers,
    fail,
    make_trial_due,
    open_it,
    trial_of,
)

clock, make = breaker_kit.clock, breaker_kit.make


def test_waits_cut_short_add_up_to_one_failure(make):
    breaker = make(max_failures=2)
    for _ in range(3):
        breaker.acquire().cut_short(0.0625, 0.25)
    assert breaker._failures == 0
    breaker.acquire().cut_short(0.0625, 0.25)
    assert breaker._failures == 1
    assert breaker.state is State.CLOSED
    for _ in range(4):
        breaker.acquire().cut_short(0.0625, 0.25)
    assert breaker.state is State.OPEN


def test_a_success_between_forgets_the_waits(make):
    breaker = make(max_failures=1)
    for _ in range(10):
        breaker.acquire().cut_short(0.2, 0.25)
        breaker.call(answers)
    assert breaker.state is State.CLOSED


def test_failures_and_waits_add_up_side_by_side(make):
    breaker = make(max_failures=3)
    breaker.acquire().cut_short(0.2, 0.25)
    fail(breaker, 2)
    breaker.acquire().cut_short(0.2, 0.25, Broken("cut"))
    assert breaker.state is State.OPEN
    assert breaker.last_error == "Broken: cut"


def test_a_trial_cut_short_gives_its_permit_back_and_adds_up_too(make, clock):
    breaker = make(half_open_max_calls=1)
    open_it(breaker)
    trial_of(breaker, clock).cut_short(0.1, 0.25)
    assert breaker.state is State.HALF_OPEN
    breaker.acquire().cut_short(0.1, 0.25)
    assert breaker.state is State.HALF_OPEN
    breaker.acquire().cut_short(0.1, 0.25)
    assert breaker.state is State.OPEN
    assert breaker.retry_after == 8.0


def test_a_successful_trial_forgets_the_waits(make, clock):
    breaker = make(half_open_successes=10)
    open_it(breaker)
    make_trial_due(breaker, clock)
    for _ in range(5):
        breaker.acquire().cut_short(0.2, 0.25)
        breaker.acquire().success()
    assert breaker.state is State.HALF_OPEN


def test_waits_do_not_outlive_a_transition(make, clock):
    breaker = make(max_failures=1, half_open_successes=1)
    breaker.acquire().cut_short(0.2, 0.25)
    open_it(breaker)
    trial_of(breaker, clock).cut_short(0.2, 0.25)
    assert breaker.state is State.HALF_OPEN
    breaker.acquire().success()
    breaker.acquire().cut_short(0.2, 0.25)
    assert breaker.state is State.CLOSED
