"""Whatever happens to the board and to the workers, all end in what the last order says.

Hosts whose clocks agree on nothing; a board that loses records, everything, or itself; writes that
arrive late, over newer ones; workers that are frozen, killed, forked, started; clocks that are set.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from math import inf

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from django_resilient_cache.breaker import State
from django_resilient_cache.fleet.board.board import BoardUnavailable
from django_resilient_cache.fleet.board.order import STATE, Action, Order
from django_resilient_cache.fleet.board.posted_order import Place
from django_resilient_cache.fleet.console.control import Control
from tests.entries import FILE, chain, layer
from tests.fleet.simulated_fleet import ALIASES, Host, SimWorker, World
from tests.property_examples import BACKEND

pytestmark = pytest.mark.slow

#: The same ones each time, unless their number is given.
EXAMPLES = int(os.environ.get("RESILIENT_CACHE_EXAMPLES", "100"))

CACHES = {
    "default": chain("redis", "other"),
    "redis": layer(FILE, LOCATION="/nowhere"),
    "other": layer(FILE, LOCATION="/nowhere else"),
}

#: Orders that stand, and for how long; most are to stand yet when all has come to rest.
FORCES = [Action.FORCE_OPEN, Action.FORCE_CLOSED]
LENGTHS = st.sampled_from([None, 600.0, 1500.0, 60.0, 5.0])

#: Seconds for which whoever gave an order looks after it, and within which late writes arrive.
CARE = 6.0
LATE = 4.0

#: Seconds before and after the end of an order in which workers may differ.
EARLY, LATE_END = 8.0, 20.0

#: Seconds after which everything has come to rest: the longest back-off and some polls.
REST = 45.0

STATES = {
    Action.RESET: State.CLOSED,
    Action.AUTO: State.CLOSED,
    Action.FORCE_OPEN: State.FORCED_OPEN,
    Action.FORCE_CLOSED: State.FORCED_CLOSED,
}


@dataclass
class Given:
    """The last order for one alias, and what became of it."""

    order: Order
    control: Control
    at: float
    #: Nobody who knew of it was left when the board lost it: whatever holds now, it holds for all.
    lost: bool = False
    #: Nobody knew when it was to end, and the board did not either.
    endless: bool = False
    followed: bool = True
    witnesses: list[SimWorker] = field(default_factory=list)

    def ends(self) -> float:
        return inf if self.order.seconds is None else self.at + self.order.seconds


class Fleet(RuleBasedStateMachine):
    """One project's workers on up to three hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.settings = override_settings(CACHES=CACHES)
        self.settings.enable()
        logging.disable(logging.CRITICAL)
        self.given: dict[Place, Given] = {}
        self.late_since = inf

    @initialize(
        keeps_time=st.booleans(),
        skews=st.lists(st.floats(-7200, 7200), min_size=2, max_size=3),
        workers=st.integers(1, 3),
        alias=st.sampled_from(ALIASES),
        action=st.sampled_from(FORCES),
        seconds=LENGTHS,
    )
    def begin(
        self,
        keeps_time: bool,
        skews: list[float],
        workers: int,
        alias: str,
        action: Action,
        seconds: float | None,
    ) -> None:
        """Begin with an order that stands: Hypothesis leaves whole rules out of an example."""
        self.world = World(keeps_time=keeps_time)
        if not keeps_time:  # such boards ask for clocks that differ by less than an hour
            skews = [skew / 8 for skew in skews]
        self.hosts = [
            Host(self.world, f"web{i}", started=i * 1e5, skew=skew) for i, skew in enumerate(skews)
        ]
        for i in range(workers):
            self.start(i)
        self.wait(3.0)
        self.give(0, alias, action, seconds)

    # What time does

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 2.0, 5.0, 20.0]))
    def wait(self, seconds: float) -> None:
        end = self.world.now + seconds
        while self.world.now < end - 1e-6:
            self.world.forward(min(0.5, end - self.world.now), step=0.1)
            if self.world.now - self.late_since > LATE:
                self.land()
            self.look_after()

    @rule(seconds=st.sampled_from([60.0, 300.0, 1000.0]))
    def wait_long(self, seconds: float) -> None:
        self.wait(CARE)
        self.world.forward(seconds, step=0.5)

    # What operators do

    @rule(
        host=st.integers(0, 2),
        alias=st.sampled_from(ALIASES),
        action=st.sampled_from([*Action, *FORCES]),
        seconds=LENGTHS,
    )
    def give(self, host: int, alias: str, action: Action, seconds: float | None) -> None:
        control = self.hosts[host % len(self.hosts)].control()
        try:
            (order,) = control.give([alias], action, actor="ada", seconds=seconds)
        except BoardUnavailable:
            assert self.world.shelf.away
            return
        self.note_given(order, control)

    def note_given(self, order: Order, control: Control) -> None:
        place = (order.alias, order.action.slot)
        workers = [worker for worker in self.world.workers if worker.member.joined]
        self.given[place] = Given(order, control, self.world.now, witnesses=workers)

    def look_after(self) -> None:
        """What the command does while it waits."""
        for given in list(self.given.values()):
            if not given.followed or self.world.now - given.at > CARE + LATE:
                given.followed = False
                continue
            try:
                (progress,) = given.control.progress([given.order])
            except BoardUnavailable:
                continue
            other = progress.superseded
            if other is not None and other.id != given.order.id:
                # An earlier one with a higher number, of which nobody could have known.
                self.give_again(given)

    def give_again(self, given: Given) -> None:
        order = given.order
        try:
            (again,) = given.control.give(
                [order.alias], order.action, actor="ada", seconds=order.seconds
            )
        except BoardUnavailable:
            return
        self.note_given(again, given.control)

    # What befalls the board

    @rule()
    def clear(self) -> None:
        self.world.shelf.clear()

    @rule(which=st.integers(0, 30))
    def evict(self, which: int) -> None:
        keys = sorted(self.world.shelf.entries)
        if keys:
            del self.world.shelf.entries[keys[which % len(keys)]]

    @rule(which=st.integers(0, 30), rubbish=st.sampled_from(["", "[]", '{"workers":7}', 7, None]))
    def spoil(self, which: int, rubbish: object) -> None:
        keys = sorted(self.world.shelf.entries)
        if keys:
            self.world.shelf.entries[keys[which % len(keys)]] = (rubbish, None)

    @rule(away=st.booleans())
    def go_away_or_come_back(self, away: bool) -> None:
        self.world.shelf.away = away

    @rule(which=st.integers(0, 9))
    def slow_writer(self, which: int) -> None:
        """What this worker writes arrives late, over what came meanwhile."""
        if self.world.workers:
            worker = self.world.workers[which % len(self.world.workers)]
            worker.access.slow = True
            self.late_since = min(self.late_since, self.world.now)

    @rule()
    def land(self) -> None:
        for worker in self.world.workers:
            worker.access.slow = False
        self.world.shelf.land()
        self.late_since = inf

    # What befalls workers and hosts

    @rule(host=st.integers(0, 2))
    def start(self, host: int) -> None:
        if len(self.world.workers) < 5:
            shares = iter([0.2, 0.9, 0.5, 0.1, 0.7])
            rng = lambda: next(shares, 0.4)  # noqa: E731 - each worker's own
            self.hosts[host % len(self.hosts)].worker(rng=rng)

    @rule(which=st.integers(0, 9))
    def fork(self, which: int) -> None:
        if 0 < len(self.world.workers) < 5:
            self.world.workers[which % len(self.world.workers)].fork()

    @rule(which=st.integers(0, 9), in_order=st.booleans())
    def end(self, which: int, in_order: bool) -> None:
        if self.world.workers:
            worker = self.world.workers[which % len(self.world.workers)]
            worker.end() if in_order else worker.kill()

    @rule(which=st.integers(0, 9), frozen=st.booleans())
    def freeze_or_thaw(self, which: int, frozen: bool) -> None:
        if self.world.workers:
            self.world.workers[which % len(self.world.workers)].frozen = frozen

    @rule(host=st.integers(0, 2), skew=st.floats(-900, 900))
    def set_the_clock(self, host: int, skew: float) -> None:
        self.hosts[host % len(self.hosts)].skew = skew

    # What has to be

    @invariant()
    def note_losses(self) -> None:
        """Keep up with what nobody can know any more."""
        for place, given in self.given.items():
            holders = [
                worker.member.follower.held[place]
                for worker in self.world.workers
                if place in worker.member.follower.held
            ]
            numbers = [held.order.rank for held in holders if held.order.id != given.order.id]
            mine = [held for held in holders if held.order.id == given.order.id]
            known = [held for held in mine if held.known]
            if not known:
                given.endless |= not self.world.shelf.keeps_time
                # Not in a report: that its worker obeyed the order is no order to others.
                there = any(
                    given.order.id in str(text)
                    for key, (text, _) in self.world.shelf.entries.items()
                    if ":order:" in key
                )
                given.lost |= not there and not given.followed
                if given.order.seconds is None:
                    given.lost &= not mine
            given.lost |= not given.followed and any(rank > given.order.rank for rank in numbers)

    @precondition(lambda self: hasattr(self, "world"))
    @rule()
    def settle(self) -> None:
        """Everything comes back; after a while all is as the last order says."""
        self.world.shelf.away = False
        for worker in self.world.workers:
            worker.frozen = False
        self.land()
        for _ in range(int(REST)):
            self.wait(1.0)
            self.note_losses()
        for (alias, slot), given in self.given.items():
            if slot == STATE:
                self.check(alias, given)
            elif not given.lost:
                for worker in given.witnesses:
                    assert worker not in self.world.workers or alias in worker.site.forgotten
        if self.world.workers:
            live = {worker.id for worker in self.hosts[0].control().fleet().live}
            assert live >= {worker.member.id for worker in self.world.workers}

    def check(self, alias: str, given: Given) -> None:
        states = {worker.state(alias) for worker in self.world.workers}
        left = given.ends() - self.world.now
        standing = given.order.action.stands
        if standing and (-LATE_END < left < EARLY or (given.endless and left < EARLY)):
            return
        assert len(states) <= 1, states
        if given.lost or not states:
            return
        over = standing and left < 0
        expected = State.CLOSED if over else STATES[given.order.action]
        assert states == {expected}, (given, left)

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.settle()
        finally:
            self.settings.disable()
            logging.disable(logging.NOTSET)


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_all_workers_end_in_what_the_last_order_says():
    run_state_machine_as_test(
        Fleet,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            deadline=None,
            backend=BACKEND,
            derandomize="RESILIENT_CACHE_EXAMPLES" not in os.environ,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
