"""What is done under the lock and what is not; signals and torn transitions."""

from __future__ import annotations

import contextlib
import threading

import pytest

from django_resilient_cache.breaker import State
from tests import breaker_kit
from tests.breaker_kit import (
    Broken,
    Interrupted,
    answers,
    close_by_trials,
    fail,
    make_trial_due,
    open_it,
    raise_interrupted,
    to_half_open,
    to_open,
)

clock, make = breaker_kit.clock, breaker_kit.make


class SpyLock:
    """A lock that knows whether it is held, and by whom it was taken."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.held = 0
        self.taken = 0

    def __enter__(self) -> None:
        self._lock.acquire()
        self.held += 1
        self.taken += 1

    def __exit__(self, *exc_info: object) -> None:
        self.held -= 1
        self._lock.release()


class NoLock:
    """Raises when anybody takes it."""

    def __enter__(self) -> None:
        raise AssertionError("the lock was taken")

    def __exit__(self, *exc_info: object) -> None:
        """Never reached."""


def test_the_closed_path_takes_no_lock(make):
    breaker = make(failure_rate=0.5)
    breaker._lock = breaker._delivering = NoLock()
    for _ in range(3):
        assert breaker.call(answers) == "answer"
        with breaker:
            pass
        breaker.acquire().success()
        permit = breaker.try_acquire()
        assert permit is not None
        permit.release()
        assert breaker.state is State.CLOSED
    with pytest.raises(Interrupted):
        breaker.call(raise_interrupted)


def test_after_a_failure_and_a_success_no_lock_is_taken_again(make):
    breaker = make()
    fail(breaker)
    breaker.call(answers)
    breaker._lock = NoLock()
    breaker.call(answers)


def test_a_call_refused_while_open_takes_no_lock(make, clock):
    breaker = make(reset_timeout=4.0)
    open_it(breaker)
    lock, breaker._lock = breaker._lock, NoLock()
    assert breaker.try_acquire() is None
    clock.forward(3.999)
    assert breaker.try_acquire() is None
    assert breaker.is_rejecting
    clock.forward(0.001)
    breaker._lock = lock
    assert not breaker.is_rejecting
    assert breaker.acquire().trial


def test_calls_of_the_closed_time_share_one_permit(make):
    breaker = make()
    assert breaker.acquire() is breaker.acquire() is breaker.shared_permit


def test_no_call_and_no_callback_is_made_under_the_lock(make, clock):
    spy = SpyLock()
    held: list[int] = []

    def note(*args: object) -> None:
        held.append(spy.held)

    def fails_noting() -> None:
        note()
        raise Broken

    breaker = make(max_failures=1, on_change=note)
    breaker._lock = spy
    breaker.call(note)
    with pytest.raises(Broken):
        breaker.call(fails_noting)
    make_trial_due(breaker, clock)
    with pytest.raises(Broken):
        breaker.call(fails_noting)
    make_trial_due(breaker, clock)
    for _ in range(2):
        breaker.call(note)
    with breaker:
        note()
    for order in (breaker.force_open, breaker.force_closed, breaker.auto, breaker.reset):
        order()
    assert len(held) > 10
    assert not any(held)
    assert spy.taken
    assert spy.held == 0


def test_a_success_overtaken_by_a_reset_on_its_way_to_the_lock_is_ignored(make):
    breaker = make(max_failures=3)
    fail(breaker)
    late = breaker.acquire()

    class SlowLock(SpyLock):
        """Another thread is faster, once: a reset, and two failures of the new time."""

        def __enter__(self) -> None:
            if not self.taken:
                self.taken = 1
                breaker.reset()
                fail(breaker, 2)
            super().__enter__()

    breaker._lock = SlowLock()
    late.success()
    fail(breaker)
    assert breaker.state is State.OPEN


def test_a_signal_handler_that_uses_the_breaker_does_not_hang_its_own_thread(make, clock):
    """As a SIGTERM handler that writes to the cache, coming while this thread holds the lock."""
    breaker = make(max_failures=1)
    seen: list[float] = []
    clock_now, busy = breaker._clock, []

    def clock_with_signal() -> float:
        if not busy:
            busy.append(1)
            seen.append(breaker.retry_after)
            assert breaker.try_acquire() is None
        return clock_now()

    open_it(breaker)
    breaker._clock = clock_with_signal
    done = threading.Thread(target=breaker.try_acquire, daemon=True)
    done.start()
    done.join(10)
    assert not done.is_alive()
    assert seen == [4.0]


def test_a_transition_torn_by_an_exception_leaves_a_breaker_that_works(make, clock):
    """Whatever step of a transition an exception from a signal handler hits."""

    steps = [
        "_clear_failures_needs_lock",
        "_admit_all_needs_lock",
        "_retry_after_needs_lock",
        "_clock",
    ]
    for step in steps:
        for start in (to_open, to_half_open):
            breaker = make(max_failures=2, half_open_successes=1, on_change=lambda event: None)
            start(breaker, clock)
            original = getattr(breaker, step)

            def torn(*args: object) -> None:
                raise Interrupted

            setattr(breaker, step, torn)
            for order in (breaker.reset, breaker.force_open, breaker.force_closed):
                with contextlib.suppress(Interrupted):
                    order()
            setattr(breaker, step, original)
            breaker.auto()
            clock.forward(100)
            assert breaker.call(answers) == "answer", step
            breaker.reset()
            open_it(breaker)


def test_an_exception_from_the_clock_leaves_the_state_as_it_was(make, clock):
    breaker = make(max_failures=1)

    def stopped() -> float:
        raise Broken("no clock")

    open_it(breaker)
    breaker._clock = stopped
    for use in (breaker.try_acquire, breaker.reset, breaker.force_closed):
        with pytest.raises(Broken):
            use()
        assert breaker.state is State.OPEN
    breaker._clock = clock
    close_by_trials(breaker, clock)
