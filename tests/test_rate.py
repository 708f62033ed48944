"""The failure-rate rule: alone against an exact count, and in a breaker."""

from __future__ import annotations

import random
from collections import deque

import pytest

from django_resilient_cache.breaker import BreakerConfig, CircuitBreaker, State
from django_resilient_cache.breaker.failures import FailureRate
from tests.clock import Clock

WINDOW = 10.0


class Traffic:
    """Calls at an even pace; keeps every call of the window, as the rule itself does not."""

    def __init__(
        self, rate: float = 0.5, min_calls: int = 20, pace: float = 0.01, window: float = WINDOW
    ) -> None:
        self.rule = FailureRate(rate, window, min_calls)
        self.now, self.pace, self.window = 1_000.0, pace, window
        self.successes = 0
        self.calls: deque[tuple[float, bool]] = deque()
        self.rule.restart(self.now, 0)

    def call(self, *, failed: bool) -> bool:
        """Make one call; whether the rule is broken by it."""
        self.now += self.pace
        self.calls.append((self.now, failed))
        while self.calls[0][0] <= self.now - self.window:
            self.calls.popleft()
        if failed:
            return self.rule.exceeded_by_failure(self.now, self.successes)
        self.successes += 1
        return False

    def run(self, share: float, seconds: float) -> bool:
        """Spread that share of failures evenly over the time; whether the rule was broken."""
        owed = 0.0
        for _ in range(round(seconds / self.pace)):
            owed += share
            failed = owed >= 1.0
            owed -= failed
            if self.call(failed=failed):
                return True
        return False

    @property
    def true_share(self) -> float:
        return sum(failed for _, failed in self.calls) / len(self.calls)


@pytest.mark.parametrize("pace", [0.001, 0.01, 0.1])
def test_a_share_below_the_rate_never_breaks_it_and_one_above_does(pace):
    """True shares of 0.48 and 0.52 are told apart at a rate of 0.5."""
    traffic = Traffic(pace=pace)
    assert not traffic.run(0.0, 3 * WINDOW)
    assert not traffic.run(0.48, 3 * WINDOW)
    assert traffic.run(0.52, 1.1 * WINDOW)
    assert 0.48 <= traffic.true_share <= 0.52


@pytest.mark.parametrize("seed", range(10))
def test_a_share_that_creeps_up_breaks_it_near_its_true_value(seed):
    dice = random.Random(seed)
    traffic = Traffic(pace=0.002)
    share = 0.0
    while not traffic.call(failed=dice.random() < share):
        share = min(1.0, share + 0.00002)
    assert 0.47 <= traffic.true_share <= 0.53


@pytest.mark.parametrize("before", [0.0, 0.1])
def test_a_sudden_share_of_sixty_percent_breaks_it_within_the_window(before):
    traffic = Traffic()
    assert not traffic.run(before, 60.0)
    began = traffic.now
    assert traffic.run(0.6, WINDOW)
    assert traffic.now - began <= WINDOW


def test_ten_percent_evenly_spread_never_break_it():
    assert not Traffic().run(0.1, 300.0)


def test_a_total_failure_breaks_it_once_it_is_half_of_the_window():
    traffic = Traffic()
    traffic.run(0.0, 3 * WINDOW)
    began = traffic.now
    assert traffic.run(1.0, WINDOW)
    assert traffic.now - began == pytest.approx(WINDOW / 2, rel=0.1)


def test_fewer_than_the_least_number_of_calls_decide_nothing():
    traffic = Traffic(min_calls=20, pace=0.1)
    assert [traffic.call(failed=True) for _ in range(20)] == [False] * 19 + [True]


def test_calls_too_rare_for_the_window_decide_nothing():
    """Nineteen in any window, all failing, where twenty are asked for."""
    traffic = Traffic(min_calls=20, pace=WINDOW / 18)
    assert not traffic.run(1.0, 20 * WINDOW)


def test_successes_count_towards_the_least_number_of_calls():
    traffic = Traffic(min_calls=4, pace=0.1)
    assert not traffic.call(failed=True)
    assert not traffic.call(failed=False)
    assert not traffic.call(failed=False)
    assert traffic.call(failed=True)


def test_a_rate_of_one_asks_for_no_success_in_the_window():
    traffic = Traffic(rate=1.0, min_calls=5, pace=0.1)
    assert not traffic.run(0.9, 3 * WINDOW)
    assert traffic.run(1.0, 2 * WINDOW)


def test_failures_older_than_the_window_are_forgotten():
    traffic = Traffic(min_calls=20, pace=0.01)
    for _ in range(19):
        assert not traffic.call(failed=True)
    traffic.now += WINDOW * 1.1
    assert not traffic.call(failed=True)


def test_what_was_before_a_restart_is_forgotten():
    traffic = Traffic(min_calls=20)
    for _ in range(19):
        traffic.call(failed=True)
    traffic.rule.restart(traffic.now, traffic.successes)
    assert not traffic.call(failed=True)


def test_memory_stays_bounded_whatever_the_load():
    traffic = Traffic(rate=1.0, min_calls=10**9, pace=0.0007)
    most = 0
    for number in range(200_000):
        traffic.call(failed=number % 3 == 0)
        most = max(most, len(traffic.rule._notes))
        traffic.calls.clear() if number % 1_000 == 0 else None
    assert most <= 22


def breaker_on(clock: Clock, **config: object) -> CircuitBreaker:
    return CircuitBreaker("cache", BreakerConfig(**config), clock)  # type: ignore[arg-type]  # options by name


def drive(breaker: CircuitBreaker, clock: Clock, pattern: str, seconds: float) -> None:
    """Repeat a pattern of S and F a hundred times a second until the time or the breaker ends."""
    for number in range(round(seconds * 100)):
        if breaker.state is not State.CLOSED:
            return
        clock.forward(0.01)
        permit = breaker.acquire()
        if pattern[number % len(pattern)] == "F":
            permit.failure()
        else:
            permit.success()


def test_a_breaker_with_ten_percent_errors_evenly_spread_stays_closed():
    clock = Clock()
    breaker = breaker_on(clock, failure_rate=0.5)
    drive(breaker, clock, "SSSSFSSSSS", 600.0)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("pattern", ["FSFSF", "FFFSS", "FFSFS"])
def test_a_breaker_with_sixty_percent_errors_opens_within_the_window(pattern):
    """Never five in a row: it is the rate that opens it."""
    clock = Clock()
    breaker = breaker_on(clock, failure_rate=0.5, failure_window=WINDOW)
    drive(breaker, clock, "S", 60.0)
    began = clock.now
    drive(breaker, clock, pattern, 60.0)
    assert breaker.state is State.OPEN
    assert clock.now - began <= WINDOW


def test_a_breaker_without_the_rule_stays_closed_at_sixty_percent():
    clock = Clock()
    breaker = breaker_on(clock)
    drive(breaker, clock, "FFFSS", 60.0)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("again", ["trials", "reset", "order"])
def test_a_breaker_that_closes_starts_the_rule_anew(again):
    clock = Clock()
    breaker = breaker_on(clock, failure_rate=0.5, min_calls=10, max_failures=1_000)
    drive(breaker, clock, "F", 60.0)
    assert breaker.state is State.OPEN
    if again == "trials":
        clock.forward(breaker.retry_after)
        breaker.acquire().success()
        breaker.acquire().success()
    elif again == "reset":
        breaker.reset()
    else:
        breaker.force_closed()
        breaker.reset()
    for _ in range(9):
        breaker.acquire().failure()
    assert breaker.state is State.CLOSED
    breaker.acquire().failure()
    assert breaker.state is State.OPEN


def test_the_owner_may_count_the_successes():
    """Its running count is read when a failure comes, never when a call succeeds."""
    clock, read = Clock(), []

    def successes() -> int:
        read.append(1)
        return 1_000 + 90 * (len(read) > 1)

    config = BreakerConfig(failure_rate=0.1, min_calls=10, max_failures=1_000)
    breaker = CircuitBreaker("cache", config, clock, successes=successes)
    clock.forward(1.0)
    for _ in range(100):
        breaker.acquire().success()
    assert len(read) == 1
    for _ in range(9):
        breaker.acquire().failure()
        assert breaker.state is State.CLOSED
    breaker.acquire().failure()
    assert breaker.state is State.OPEN, "ten of one hundred"
