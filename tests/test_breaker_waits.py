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


def partial_timeout(permit, clock, waited, limit=0.25, error=None):
    """After having waited so long."""
    clock.forward(waited)
    permit.partial_timeout(waited, limit, error)


def test_waits_side_by_side_count_once(make, clock):
    """Sixteen callers who wait for the same moment say no more of the layer than one of them."""
    breaker = make(max_failures=1)
    for _ in range(3):
        permits = [breaker.acquire() for _ in range(16)]
        clock.forward(0.0625)
        for permit in permits:
            permit.partial_timeout(0.0625, 0.25)
    assert breaker.state is State.CLOSED
    partial_timeout(breaker.acquire(), clock, 0.0625)
    assert breaker.state is State.OPEN


def test_waits_that_overlap_count_for_as_long_as_anybody_waited(make, clock):
    breaker = make(max_failures=1)
    for waited in (0.0625, 0.125, 0.1875):  # begun at once, ended one after the other
        clock.forward(0.0625)
        breaker.acquire().partial_timeout(waited, 0.25)
    assert breaker.state is State.CLOSED
    partial_timeout(breaker.acquire(), clock, 0.0625)
    assert breaker.state is State.OPEN


def test_waits_cut_short_add_up_to_one_failure(make, clock):
    breaker = make(max_failures=2)
    for _ in range(3):
        partial_timeout(breaker.acquire(), clock, 0.0625)
    assert breaker._failures.in_a_row == 0
    partial_timeout(breaker.acquire(), clock, 0.0625)
    assert breaker._failures.in_a_row == 1
    assert breaker.state is State.CLOSED
    for _ in range(4):
        partial_timeout(breaker.acquire(), clock, 0.0625)
    assert breaker.state is State.OPEN


def test_a_success_between_forgets_the_waits(make, clock):
    breaker = make(max_failures=1)
    for _ in range(10):
        partial_timeout(breaker.acquire(), clock, 0.2)
        breaker.call(answers)
    assert breaker.state is State.CLOSED


def test_failures_and_waits_add_up_side_by_side(make, clock):
    breaker = make(max_failures=3)
    partial_timeout(breaker.acquire(), clock, 0.2)
    fail(breaker, 2)
    partial_timeout(breaker.acquire(), clock, 0.2, error=Broken("cut"))
    assert breaker.state is State.OPEN
    assert breaker.last_error == "Broken: cut"


def test_a_trial_cut_short_gives_its_permit_back_and_adds_up_too(make, clock):
    breaker = make(half_open_max_calls=1)
    open_it(breaker)
    partial_timeout(trial_of(breaker, clock), clock, 0.1)
    assert breaker.state is State.HALF_OPEN
    partial_timeout(breaker.acquire(), clock, 0.1)
    assert breaker.state is State.HALF_OPEN
    partial_timeout(breaker.acquire(), clock, 0.1)
    assert breaker.state is State.OPEN
    assert breaker.retry_after == 8.0


def test_a_successful_trial_forgets_the_waits(make, clock):
    breaker = make(half_open_successes=10)
    open_it(breaker)
    make_trial_due(breaker, clock)
    for _ in range(5):
        partial_timeout(breaker.acquire(), clock, 0.2)
        breaker.acquire().success()
    assert breaker.state is State.HALF_OPEN


def test_waits_do_not_outlive_a_transition(make, clock):
    breaker = make(max_failures=1, half_open_successes=1)
    partial_timeout(breaker.acquire(), clock, 0.2)
    open_it(breaker)
    partial_timeout(trial_of(breaker, clock), clock, 0.2)
    assert breaker.state is State.HALF_OPEN
    breaker.acquire().success()
    partial_timeout(breaker.acquire(), clock, 0.2)
    assert breaker.state is State.CLOSED
