"""The breaker and its process: the wall clock, forks, imports, memory."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref

from django_resilient_cache.breaker import BreakerConfig, CircuitBreaker, State, Transition
from tests import breaker_kit
from tests.breaker_kit import (
    answers,
    fail,
    make_trial_due,
    open_it,
)
from tests.clock import Clock
from tests.forked import in_child, needs_fork, with_threads

clock, make = breaker_kit.clock, breaker_kit.make


def test_the_default_clock_is_monotonic_so_that_the_wall_clock_changes_nothing(monkeypatch):
    wall = Clock(1_000_000.0)
    monkeypatch.setattr("time.time", wall)
    breaker = CircuitBreaker("cache", BreakerConfig(max_failures=1, reset_timeout=100.0))
    fail(breaker)
    for jump in (-900_000.0, 1e6, -1e6):
        wall.forward(jump)
        assert breaker.try_acquire() is None
        assert breaker.state is State.OPEN
        assert 79.0 < breaker.retry_after <= 120.0


@needs_fork
@with_threads
def test_a_child_forked_while_another_thread_holds_the_lock_can_use_the_breaker(make, clock):
    events: list[Transition] = []
    breaker = make(max_failures=1, on_change=events.append)
    open_it(breaker)
    make_trial_due(breaker, clock)
    lost = breaker.acquire()
    assert lost.trial
    taken, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with breaker._lock, breaker._delivering:
            taken.set()
            let_go.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(10)
    events.clear()

    def check() -> None:
        assert breaker.acquire().trial, "the parent's trial does not count in the child"
        breaker.reset()
        breaker.force_open()
        assert [event.new for event in events] == [State.CLOSED, State.FORCED_OPEN]

    try:
        assert in_child(check) == 0
    finally:
        let_go.set()
        holder.join()


@needs_fork
@with_threads
def test_a_child_forked_in_the_middle_of_another_threads_transition_is_not_stuck(make, clock):
    """The parent had just set the state to closed, and not yet made the standing permit."""
    breaker = make(max_failures=1)
    open_it(breaker)
    inside, let_go = threading.Event(), threading.Event()
    admit_all = breaker._admit_all_needs_lock

    def slow() -> None:
        inside.set()
        let_go.wait(30)
        admit_all()

    breaker._admit_all_needs_lock = slow
    other = threading.Thread(target=breaker.reset)
    other.start()
    inside.wait(10)

    def check() -> None:
        breaker._admit_all_needs_lock = admit_all
        assert breaker.call(answers) == "answer"
        open_it(breaker)

    try:
        assert in_child(check) == 0
    finally:
        let_go.set()
        other.join()


@needs_fork
@with_threads
def test_a_child_does_not_tell_again_what_the_parent_is_telling(make):
    told: list[State] = []
    inside, let_go = threading.Event(), threading.Event()

    def on_change(event: Transition) -> None:
        told.append(event.new)
        inside.set()
        let_go.wait(30)

    breaker = make(max_failures=1, on_change=on_change)
    teller = threading.Thread(target=breaker.force_open)
    teller.start()
    inside.wait(10)
    breaker.force_closed()  # its telling waits for the other thread

    def check() -> None:
        told.clear()
        let_go.set()
        breaker.reset()
        assert told == [State.CLOSED]

    try:
        assert in_child(check) == 0
    finally:
        let_go.set()
        teller.join()
    assert told == [State.FORCED_OPEN, State.FORCED_CLOSED]


def test_it_needs_neither_django_nor_settings():
    program = (
        "import sys, importlib\n"
        "from django_resilient_cache.breaker import CircuitBreaker\n"
        "import django_resilient_cache.timeouts.deadline, django_resilient_cache.exceptions\n"
        "assert CircuitBreaker('x').call(int) == 0\n"
        "assert not any(name.split('.')[0] == 'django' for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_breaker_that_nobody_uses_is_forgotten(make):
    breaker = make(name="dropped")
    fail(breaker)
    known = weakref.ref(breaker)
    del breaker
    gc.collect()
    assert known() is None
