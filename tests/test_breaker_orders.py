"""What an operator may order: reset, forced open, forced closed, automatic again."""

from __future__ import annotations

import math

import pytest

from django_resilient_cache.breaker import State, Transition
from django_resilient_cache.exceptions import CircuitOpenError
from tests import breaker_kit
from tests.breaker_kit import (
    answers,
    fail,
    make_trial_due,
    open_it,
    to_half_open,
    to_open,
)

clock, make = breaker_kit.clock, breaker_kit.make


def test_reset_closes_from_any_state(make, clock):
    breaker = make()
    for get_there in (to_open, to_half_open):
        get_there(breaker, clock)
        breaker.reset()
        assert breaker.state is State.CLOSED
        assert breaker.last_error is None
    for order in (breaker.force_open, breaker.force_closed):
        order()
        breaker.reset()
        assert breaker.state is State.CLOSED
        open_it(breaker)  # automatic again
        breaker.reset()


def test_reset_of_a_closed_breaker_forgets_its_failures(make):
    breaker = make(max_failures=3)
    fail(breaker, 2)
    breaker.reset()
    fail(breaker, 2)
    assert breaker.state is State.CLOSED


def test_forced_open_refuses_for_ever(make, clock):
    breaker = make()
    breaker.force_open()
    clock.forward(1e6)
    assert breaker.try_acquire() is None
    with pytest.raises(CircuitOpenError) as caught:
        breaker.call(answers)
    assert caught.value.retry_after == math.inf
    assert breaker.state is State.FORCED_OPEN


def test_forced_closed_admits_whatever_fails(make):
    breaker = make(max_failures=1, failure_rate=0.1, min_calls=1)
    breaker.force_closed()
    fail(breaker, 50)
    for _ in range(50):
        breaker.acquire().partial_timeout(1.0, 0.1)
    assert breaker.state is State.FORCED_CLOSED
    assert breaker.call(answers) == "answer"


def test_one_order_replaces_another(make):
    breaker = make()
    breaker.force_open()
    breaker.force_closed()
    assert breaker.state is State.FORCED_CLOSED
    breaker.force_open()
    assert breaker.state is State.FORCED_OPEN


def test_auto_goes_back_to_closed_and_starts_counting_anew(make):
    breaker = make(max_failures=2)
    fail(breaker)
    breaker.force_closed()
    fail(breaker, 10)
    breaker.auto()
    assert breaker.state is State.CLOSED
    fail(breaker)
    assert breaker.state is State.CLOSED
    fail(breaker)
    assert breaker.state is State.OPEN


def test_auto_goes_back_to_open_for_the_rest_of_its_time(make, clock):
    breaker = make(reset_timeout=4.0)
    open_it(breaker)
    breaker.force_open()
    breaker.force_closed()
    clock.forward(1.0)
    breaker.auto()
    assert breaker.state is State.OPEN
    assert breaker.retry_after == 3.0
    make_trial_due(breaker, clock)
    fail(breaker)
    assert breaker.retry_after == 8.0


def test_auto_lets_a_trial_decide_where_it_was_half_open(make, clock):
    breaker = make()
    to_half_open(breaker, clock)
    breaker.force_closed()
    breaker.auto()
    assert breaker.state is State.OPEN
    assert breaker.retry_after == 0.0
    assert breaker.acquire().trial


def test_auto_without_an_order_changes_nothing(make, clock):
    events: list[Transition] = []
    breaker = make(max_failures=2, on_change=events.append)
    permit = breaker.acquire()
    fail(breaker)
    breaker.auto()
    permit.failure()
    assert breaker.state is State.OPEN, "neither the count nor the permit was forgotten"
    events.clear()
    breaker.auto()
    assert breaker.state is State.OPEN
    assert events == []
