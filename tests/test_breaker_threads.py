"""The breaker under many threads: exact trials, exact counts, ordered telling."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from django_resilient_cache.breaker import (
    BreakerConfig,
    CircuitBreaker,
    Permit,
    State,
    Transition,
)
from tests.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class YieldingClock(Clock):
    """Lets the other threads run each time it is read: in the middle of every decision."""

    def __call__(self) -> float:
        time.sleep(0)
        return self.now


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_threads(number: int, work: Callable[[int], None]) -> None:
    """Run `work(0)` ... `work(number - 1)` side by side from one moment on; raise what they do."""
    start = threading.Barrier(number)
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            start.wait(30)
            work(index)
        except BaseException as error:  # whatever it is, the test looks at it
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def open_breaker(clock: Clock, **config: object) -> CircuitBreaker:
    """A breaker at the end of its open time."""
    breaker = CircuitBreaker(
        "cache",
        BreakerConfig(max_failures=1, reset_timeout=1.0, **config),  # type: ignore[arg-type]  # options by name
        clock,
    )
    breaker.acquire().failure()
    clock.forward(2.0)
    assert breaker.state is State.OPEN
    return breaker


@pytest.mark.parametrize("allowed", [1, 3])
def test_sixty_four_threads_at_the_end_of_the_open_time_make_exactly_the_allowed_trials(allowed):
    for _ in range(5):
        breaker = open_breaker(YieldingClock(), half_open_max_calls=allowed)
        permits: list[Permit] = []

        def ask(_: int, breaker: CircuitBreaker = breaker, got: list[Permit] = permits) -> None:
            permit = breaker.try_acquire()
            if permit is not None:
                got.append(permit)

        in_threads(64, ask)
        assert len(permits) == allowed
        assert len(set(permits)) == allowed
        assert breaker.state is State.HALF_OPEN


def test_sixty_four_threads_at_the_end_of_a_lost_trials_lease_make_exactly_one_trial():
    clock = YieldingClock()
    breaker = open_breaker(clock, trial_timeout=1.0)
    assert breaker.try_acquire() is not None
    clock.forward(1.0)
    permits: list[Permit | None] = []
    in_threads(64, lambda _: permits.append(breaker.try_acquire()))
    assert sum(permit is not None for permit in permits) == 1


def test_trials_in_flight_never_exceed_the_limit_while_permits_come_and_go():
    breaker = open_breaker(YieldingClock(), half_open_max_calls=2, half_open_successes=10**6)
    guard, flying, most = threading.Lock(), [0], [0]

    def work(index: int) -> None:
        dice = random.Random(index)
        for _ in range(50):
            permit = breaker.try_acquire()
            if permit is None:
                time.sleep(0)
                continue
            with guard:
                flying[0] += 1
                most[0] = max(most[0], flying[0])
            time.sleep(0)
            with guard:
                flying[0] -= 1
            permit.success() if dice.random() < 0.7 else permit.release()

    in_threads(8, work)
    assert most[0] in {1, 2}
    assert not breaker._trials._lease_ends
    first, second = breaker.acquire(), breaker.acquire()
    assert first.trial
    assert second.trial
    assert breaker.try_acquire() is None


def test_failures_at_one_moment_open_it_once_and_for_the_base_time():
    for _ in range(5):
        events: list[Transition] = []
        breaker = CircuitBreaker(
            "cache",
            BreakerConfig(max_failures=5, reset_timeout=4.0),
            YieldingClock(),
            on_change=events.append,
            rng=lambda: 0.5,
        )
        permits = [breaker.acquire() for _ in range(32)]
        in_threads(32, lambda index, permits=permits: permits[index].failure())  # type: ignore[misc]  # mypy wants no defaults in a lambda
        assert [event.reason for event in events] == ["5 failures in a row"]
        assert breaker.retry_after == 4.0


def test_failed_trials_at_one_moment_double_the_reset_time_once():
    breaker = open_breaker(YieldingClock(), half_open_max_calls=16)
    breaker._rng = lambda: 0.5
    permits = [breaker.acquire() for _ in range(16)]
    in_threads(16, lambda index: permits[index].failure())
    assert breaker.retry_after == 2.0


def test_successful_trials_at_one_moment_close_it_once():
    for _ in range(5):
        events: list[Transition] = []
        breaker = open_breaker(YieldingClock(), half_open_max_calls=16, half_open_successes=16)
        breaker._on_change = events.append
        permits = [breaker.acquire() for _ in range(16)]
        in_threads(16, lambda index, permits=permits: permits[index].success())  # type: ignore[misc]  # mypy wants no defaults in a lambda
        assert [event.new for event in events] == [State.HALF_OPEN, State.CLOSED]


def test_calls_run_side_by_side_in_every_state_that_admits_several():
    """Eight calls meet inside: no lock is held meanwhile."""
    for prepare in ("closed", "has_failures", "half-open", "forced closed"):
        breaker = CircuitBreaker("cache", BreakerConfig(max_failures=2))
        if prepare == "has_failures":
            breaker.acquire().failure()
        elif prepare == "half-open":
            breaker = open_breaker(Clock(), half_open_max_calls=8, half_open_successes=8)
        elif prepare == "forced closed":
            breaker.force_closed()
        meet = threading.Barrier(8)
        in_threads(8, lambda _, breaker=breaker, meet=meet: breaker.call(meet.wait, 10))  # type: ignore[misc]  # mypy wants no defaults in a lambda
        assert breaker.state in {State.CLOSED, State.FORCED_CLOSED}


def test_a_slow_callback_keeps_only_the_thread_that_tells():
    inside, let_go = threading.Event(), threading.Event()
    told: list[State] = []

    def on_change(event: Transition) -> None:
        told.append(event.new)
        inside.set()
        let_go.wait(5)

    breaker = CircuitBreaker("cache", on_change=on_change)
    teller = threading.Thread(target=breaker.force_open, daemon=True)
    teller.start()
    assert inside.wait(10)
    breaker.reset()
    assert breaker.call(int) == 0
    breaker.force_closed()
    assert told == [State.FORCED_OPEN], "left to the thread that is telling"
    let_go.set()
    teller.join(10)
    assert told == [State.FORCED_OPEN, State.CLOSED, State.FORCED_CLOSED]


def chaos(breaker: CircuitBreaker, clock: Clock, index: int, rounds: int) -> None:
    """Calls with random results, some returned late, and now and then an order."""
    dice = random.Random(index)
    kept: list[Permit] = []
    for _ in range(rounds):
        permit = breaker.try_acquire()
        if permit is not None:
            kept.append(permit)
        if kept and dice.random() < 0.7:
            permit = kept.pop(dice.randrange(len(kept)))
            end = dice.random()
            if end < 0.5:
                permit.success()
            elif end < 0.9:
                permit.failure()
            elif end < 0.95:
                permit.release()
            else:
                permit.partial_timeout(0.1, 0.2)
        if dice.random() < 0.02:
            order = dice.choice(
                [breaker.reset, breaker.force_open, breaker.force_closed, breaker.auto]
            )
            order()
        if dice.random() < 0.3:
            clock.forward(0.3)
    for permit in kept:
        permit.release()


#: What may follow what; orders may come at any time.
STEPS = {
    (State.CLOSED, State.OPEN),
    (State.OPEN, State.HALF_OPEN),
    (State.HALF_OPEN, State.OPEN),
    (State.HALF_OPEN, State.CLOSED),
    (State.OPEN, State.CLOSED),
}


@pytest.mark.parametrize("seed", range(3))
def test_results_racing_transitions_and_orders_keep_the_state_whole(seed):
    """Told in order, each transition begins where the last one ended; nothing remains untold."""
    clock = YieldingClock()
    events: list[Transition] = []
    tellers: Counter[int] = Counter()

    def on_change(event: Transition) -> None:
        tellers[0] += 1
        assert tellers[0] == 1, "one callback at a time"
        time.sleep(0)
        events.append(event)
        tellers[0] -= 1

    breaker = CircuitBreaker(
        "cache",
        BreakerConfig(
            max_failures=2,
            reset_timeout=1.0,
            max_reset_timeout=2.0,
            half_open_max_calls=2,
            failure_rate=0.9,
        ),
        clock,
        on_change=on_change,
    )
    in_threads(8, lambda index: chaos(breaker, clock, 100 * seed + index, 300))
    assert not breaker._events, "every transition was told"
    state = State.CLOSED
    for event in events:
        assert event.old is state
        assert event.new is not state
        if not {event.old, event.new} & {State.FORCED_OPEN, State.FORCED_CLOSED}:
            assert (event.old, event.new) in STEPS
        state = event.new
    assert breaker.state is state
    assert {State.OPEN, State.HALF_OPEN, State.CLOSED} <= {event.new for event in events}
    # It still works: no permit was lost.
    breaker.reset()
    for _ in range(2):
        breaker.acquire().failure()
    clock.forward(100.0)
    breaker.call(int)
    breaker.call(int)
    assert breaker.state is State.CLOSED


def test_a_success_that_meets_a_failure_resets_the_count_or_comes_before_it():
    """Never more failures counted than made since the last success."""
    breaker = CircuitBreaker("cache", BreakerConfig(max_failures=10**9), YieldingClock())

    def work(index: int) -> None:
        for number in range(200):
            permit = breaker.acquire()
            permit.success() if (index + number) % 2 else permit.failure()

    in_threads(8, work)
    breaker.acquire().success()
    assert breaker._failures.in_a_row == 0
    assert not breaker.has_failures
    for _ in range(3):
        breaker.acquire().failure()
    assert breaker._failures.in_a_row == 3


def test_threads_leave_their_own_with_blocks():
    breaker = open_breaker(Clock(), half_open_max_calls=8, half_open_successes=8)
    meet = threading.Barrier(8)

    def work(index: int) -> None:
        with breaker:
            meet.wait(10)

    in_threads(8, work)
    assert breaker.state is State.CLOSED
