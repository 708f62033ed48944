"""Breakers for tests: on a clock turned by hand, without jitter, brought into any state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from django_resilient_cache.breaker import BreakerConfig, CircuitBreaker, Permit, State, Transition
from tests.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable


class Broken(Exception):
    """What the guarded call raises when it fails."""


class Interrupted(BaseException):
    """As KeyboardInterrupt or a cancellation: not the other side's failure."""


def raise_interrupted() -> None:
    raise Interrupted


def fails() -> None:
    raise Broken


def answers() -> str:
    return "answer"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Callable[..., CircuitBreaker]:
    """A breaker without jitter, on the test's clock; keywords are the config's."""

    def make(
        name: str = "cache",
        on_change: Callable[[Transition], None] | None = None,
        rng: Callable[[], float] = lambda: 0.5,
        successes: Callable[[], int] | None = None,
        **config: Any,
    ) -> CircuitBreaker:
        config = {"max_failures": 3, "reset_timeout": 4.0, **config}
        return CircuitBreaker(
            name,
            BreakerConfig(**config),
            clock,
            on_change=on_change,
            rng=rng,
            successes=successes,
        )

    return make


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Broken):
            breaker.call(fails)


def open_it(breaker: CircuitBreaker) -> None:
    fail(breaker, breaker.config.max_failures)
    assert breaker.state is State.OPEN


def make_trial_due(breaker: CircuitBreaker, clock: Clock) -> None:
    clock.forward(breaker.retry_after)


def trial_of(breaker: CircuitBreaker, clock: Clock) -> Permit:
    """Wait until a trial is due and take its permit."""
    make_trial_due(breaker, clock)
    permit = breaker.acquire()
    assert permit.trial
    return permit


def close_by_trials(breaker: CircuitBreaker, clock: Clock) -> None:
    make_trial_due(breaker, clock)
    for _ in range(breaker.config.half_open_successes):
        breaker.call(answers)
    assert breaker.state is State.CLOSED


def to_open(breaker: CircuitBreaker, clock: Clock) -> None:
    open_it(breaker)


def to_half_open(breaker: CircuitBreaker, clock: Clock) -> None:
    open_it(breaker)
    trial_of(breaker, clock)


def to_closed_again(breaker: CircuitBreaker, clock: Clock) -> None:
    open_it(breaker)
    close_by_trials(breaker, clock)
