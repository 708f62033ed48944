"""The breaker against a simple model of the design: any calls, results, orders, in any order."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from django_resilient_cache.breaker import (
    BreakerConfig,
    CircuitBreaker,
    Permit,
    State,
    Transition,
)
from tests.clock import Clock

LIMIT = 1.0  # a layer's operation timeout, for waits cut short


@dataclass(eq=False)
class Call:
    """A call in the model: in which generation it was admitted, and whether it is a trial."""

    generation: int
    trial: bool
    lease_ends: float = math.inf


@dataclass
class Model:
    """The design's sentences, one after the other; no locks, no speed.  Times are quarters."""

    config: BreakerConfig
    state: State = State.CLOSED
    generation: int = 0
    in_a_row: int = 0
    waited: float = 0.0
    last_wait: float = -math.inf
    reset_time: float = 0.0
    opens_until: float = 0.0
    since: float = 0.0
    before_order: State = State.CLOSED
    trials: list[Call] = field(default_factory=list)
    good_trials: int = 0
    told: list[tuple[State, State]] = field(default_factory=list)

    def become(self, state: State, now: float) -> None:
        if state is not self.state:
            self.told.append((self.state, state))
        self.state, self.since = state, now
        self.generation += 1
        self.in_a_row, self.waited, self.good_trials, self.trials = 0, 0.0, 0, []

    def open(self, now: float) -> None:
        if self.state is State.HALF_OPEN:
            self.reset_time = min(2 * self.reset_time, self.config.reset_cap)
        elif now - self.since >= self.reset_time:  # closed as long as it was last open
            self.reset_time = self.config.reset_timeout
        self.opens_until = now + self.reset_time
        self.become(State.OPEN, now)

    def admit(self, now: float) -> Call | None:
        if self.state in {State.CLOSED, State.FORCED_CLOSED}:
            return Call(self.generation, trial=False)
        if self.state is State.OPEN and now >= self.opens_until:
            self.become(State.HALF_OPEN, now)
        if self.state is not State.HALF_OPEN:
            return None
        self.trials = [trial for trial in self.trials if trial.lease_ends > now]
        if len(self.trials) == self.config.half_open_max_calls:
            return None
        self.trials.append(
            Call(self.generation, trial=True, lease_ends=now + self.config.trial_lease)
        )
        return self.trials[-1]

    def counts(self, call: Call) -> bool:
        return call.generation == self.generation and (not call.trial or call in self.trials)

    def finish(self, call: Call, how: str, waited: float, now: float) -> None:
        if not self.counts(call):
            return
        if call.trial:
            self.trials.remove(call)
        if how == "cut short":
            self.waited += min(waited, now - self.last_wait)
            self.last_wait = now
            if self.waited >= LIMIT:
                self.waited, how = 0.0, "failure"
        if how == "success":
            self.in_a_row, self.waited = 0, 0.0
            self.good_trials += call.trial
            if call.trial and self.good_trials == self.config.half_open_successes:
                self.become(State.CLOSED, now)
        elif how == "failure" and call.trial:
            self.open(now)
        elif how == "failure" and self.state is State.CLOSED:
            self.in_a_row += 1
            if self.in_a_row == self.config.max_failures:
                self.open(now)

    def order(self, state: State, now: float) -> None:
        if self.state not in {State.FORCED_OPEN, State.FORCED_CLOSED}:
            self.before_order = State.CLOSED if self.state is State.CLOSED else State.OPEN
        self.become(state, now)

    def auto(self, now: float) -> None:
        if self.state in {State.FORCED_OPEN, State.FORCED_CLOSED}:
            self.become(self.before_order, now)

    def reset(self, now: float) -> None:
        self.reset_time = 0.0
        self.become(State.CLOSED, now)

    def retry_after(self, now: float) -> float:
        if self.state is State.FORCED_OPEN:
            return math.inf
        if self.state is State.OPEN:
            return max(0.0, self.opens_until - now)
        if self.state is State.HALF_OPEN and len(self.trials) == self.config.half_open_max_calls:
            return max(0.0, min(trial.lease_ends for trial in self.trials) - now)
        return 0.0


quarters = st.integers(0, 40).map(lambda number: number / 4)
configs = st.builds(
    BreakerConfig,
    max_failures=st.integers(1, 3),
    reset_timeout=st.sampled_from([0.5, 2.0]),
    max_reset_timeout=st.sampled_from([2.0, 5.0]),
    half_open_successes=st.integers(1, 3),
    half_open_max_calls=st.integers(1, 3),
    trial_timeout=st.sampled_from([None, 1.0]),
)


class BreakerAgainstModel(RuleBasedStateMachine):
    """Every step is made on both; afterwards they must say the same."""

    orders: ClassVar = ["reset", "force_open", "force_closed", "auto"]

    @initialize(config=configs)
    def begin(self, config: BreakerConfig) -> None:
        self.clock = Clock(0.0)
        self.told: list[Transition] = []
        self.breaker = CircuitBreaker(
            "cache", config, self.clock, on_change=self.told.append, rng=lambda: 0.5
        )
        self.model = Model(config)
        self.calls: list[tuple[Permit, Call]] = []

    @rule(seconds=quarters)
    def time_passes(self, seconds: float) -> None:
        self.clock.forward(seconds)

    @rule()
    def time_passes_until_a_call_may_be_admitted(self) -> None:
        if self.breaker.retry_after < math.inf:
            self.clock.forward(self.breaker.retry_after)

    @rule()
    def begin_call(self) -> None:
        permit, call = self.breaker.try_acquire(), self.model.admit(self.clock.now)
        assert (permit is None) == (call is None)
        if permit is not None and call is not None:
            assert permit.trial == call.trial
            self.calls.append((permit, call))

    @precondition(lambda self: self.calls)
    @rule(
        data=st.data(),
        how=st.sampled_from(["success", "failure", "release", "cut short"]),
        waited=st.sampled_from([0.25, 0.5, 1.5]),
    )
    def end_call(self, data: st.DataObject, how: str, waited: float) -> None:
        """Late ones from earlier generations among them."""
        index = data.draw(st.integers(0, len(self.calls) - 1))
        permit, call = self.calls.pop(index)
        if how == "success":
            permit.success()
        elif how == "failure":
            permit.failure(OSError())
        elif how == "release":
            permit.release()
        else:
            permit.partial_timeout(waited, LIMIT)
        self.model.finish(call, how, waited, self.clock.now)

    @rule(times=st.integers(1, 4), how=st.sampled_from(["success", "failure"]))
    def calls_in_a_row(self, times: int, how: str) -> None:
        for _ in range(times):
            self.begin_call()
            if self.calls:
                permit, call = self.calls.pop()
                permit.success() if how == "success" else permit.failure(OSError())
                self.model.finish(call, how, 0.0, self.clock.now)

    @rule(order=st.sampled_from(orders))
    def give_order(self, order: str) -> None:
        getattr(self.breaker, order)()
        now = self.clock.now
        if order == "reset":
            self.model.reset(now)
        elif order == "auto":
            self.model.auto(now)
        else:
            self.model.order(
                State.FORCED_OPEN if order == "force_open" else State.FORCED_CLOSED, now
            )

    @invariant()
    def they_agree(self) -> None:
        assert self.breaker.state is self.model.state
        assert self.breaker.retry_after == self.model.retry_after(self.clock.now)
        assert [(event.old, event.new) for event in self.told] == self.model.told
        assert (self.breaker.shared_permit is not None) == (
            self.model.state in {State.CLOSED, State.FORCED_CLOSED}
        )

    def teardown(self) -> None:
        """Whatever happened, when all is well again it closes."""
        self.breaker.auto()
        for _ in range(self.breaker.config.half_open_successes):
            self.clock.forward(self.breaker.retry_after)
            self.breaker.call(int)
        assert self.breaker.state is State.CLOSED


BreakerAgainstModel.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)
TestBreakerAgainstModel = BreakerAgainstModel.TestCase
