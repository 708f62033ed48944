"""Any operations, faults, recoveries, orders and interleavings on a chain, against a simple model.

RESILIENT_CACHE_EXAMPLES sets how many examples are tried; `python -m tests.mutations` shows what
they find where a rule is taken out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import pytest
from django.core.cache.backends.locmem import LocMemCache
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from django_resilient_cache import CircuitBreaker, State, deadline
from django_resilient_cache.concurrency.background import background
from django_resilient_cache.layer.abandoned_calls import WAIT_SECONDS
from tests.contract.api import Awaited, at_once
from tests.property_examples import BACKEND
from tests.property_model import DEFAULT, ENTRIES, KEYS, VERSIONS, Entry, Model
from tests.property_process import (
    COMPUTATIONS,
    DECISIONS,
    FOREIGN,
    READS,
    REPLACEMENTS,
    WRITES,
    Process,
)
from tests.simulated_chain import FAULTS, GIVING_UP, TIMEOUT, SimulatedChain, WholeSeconds

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("RESILIENT_CACHE_EXAMPLES", "300"))

SHAPES = [
    ("authority",),
    ("memory", "authority"),
    ("upper", "authority"),
    ("memory", "upper", "authority"),
]

#: One entry is in use more than the others, so that what happens to it meets.
HOT = ENTRIES[0]
entries = st.sampled_from([HOT, HOT, HOT, *ENTRIES])
#: None only where entries may live for ever; nothing here is long, see `outage`.
timeouts = st.sampled_from([DEFAULT, 10, 10.5, 4.5, None])
layers = st.integers(0, 1)
whens = st.sampled_from(["before", "after"])
#: A server that freezes does so for more than one call.
faults = st.sampled_from([fault for fault in FAULTS if fault != "freeze"])
changes = st.sampled_from(REPLACEMENTS)
#: They were not made, or were made and not confirmed.
missed_changes = st.sampled_from(
    [f"{how} {name}" for how in ("missed", "lost") for name in REPLACEMENTS]
)

#: What happens elsewhere while a call is under way.
elsewhere = st.lists(
    st.tuples(
        st.sampled_from([*READS, *REPLACEMENTS, *DECISIONS, *COMPUTATIONS, *FOREIGN])
        | missed_changes
        | st.sampled_from(["break", "heal", "land", "land", "tick"]),
        entries,
        timeouts,
    ),
    min_size=1,
    max_size=3,
)
#: What happens to, or during, one of the calls of layers that an operation makes.
happenings = st.lists(st.tuples(st.integers(0, 4), whens, faults | elsewhere), max_size=2)


class ChainMachine(Process, RuleBasedStateMachine):
    """One process uses a chain, another worker uses its authority."""

    #: Whether it does so through the async methods.
    awaited = False

    @initialize(
        shape=st.sampled_from(SHAPES),
        on_unavailable=st.sampled_from(["miss", "raise"]),
        timeout=st.sampled_from([TIMEOUT, TIMEOUT, None]),
        capacity=st.sampled_from([100_000, 100_000, 1, 2]),
        batch=st.sampled_from([100, 1]),
        failures=st.sampled_from([3, 100]),
        eternal=st.booleans(),
        cannot_run=st.sampled_from([False, False, False, True]),
        long_by=st.sampled_from(WRITES),
    )
    def begin(
        self,
        shape: tuple[str, ...],
        eternal: bool,
        cannot_run: bool,
        failures: int,
        long_by: str,
        **more: Any,
    ) -> None:
        cannot_run = cannot_run and not self.awaited  # tasks repair nothing in passing
        self.long_by = long_by  # nothing else lives for long
        if long_by == "backfill":  # what is written above has an end of its own but there
            shape, more["timeout"] = SHAPES[-1], None
        self.sim = SimulatedChain(*shape, behind=WholeSeconds, MAX_FAILURES=failures, **more)
        self.sim.__enter__()
        self.model = Model(self.sim, eternal=eternal, cannot_run=cannot_run)
        self.cache = Awaited(self.sim.cache, at_once) if self.awaited else self.sim.cache
        self.other = self.sim.behind(self.sim.authority)
        self.stalls = mock.patch.object(type(background), "cannot_run", cannot_run)
        self.stalls.start()

    def teardown(self) -> None:
        if hasattr(self, "stalls"):
            self.stalls.stop()
            self.sim.__exit__()

    # Operations, and what happens to their calls and meanwhile

    @rule(name=changes, what=happenings, entry=entries, timeout=timeouts)
    def change(self, name: str, what: Any, entry: Entry, timeout: Any) -> None:
        self.operate(name, entry, timeout, what)

    @rule(
        name=st.sampled_from([*DECISIONS, "incr_version"]),
        what=happenings,
        entry=entries,
        timeout=timeouts,
    )
    def decide(self, name: str, what: Any, entry: Entry, timeout: Any) -> None:
        self.operate(name, entry, timeout, what)

    @rule(
        name=st.sampled_from(READS + COMPUTATIONS), what=happenings, entry=entries, timeout=timeouts
    )
    def read(self, name: str, what: Any, entry: Entry, timeout: Any) -> None:
        self.operate(name, entry, timeout, what)

    @rule(name=changes, entry=entries, timeout=timeouts)
    def change_in_a_hurry(self, name: str, entry: Entry, timeout: Any) -> None:
        """The caller has no time left."""
        with deadline(0):
            self.do(name, entry, timeout)

    @rule(
        name=st.sampled_from([*REPLACEMENTS, *DECISIONS]),
        number=st.integers(0, 2),
        fault=faults,
        entry=entries,
        timeout=timeouts,
        anew=st.booleans(),
    )
    def change_with_a_fault(
        self, name: str, number: int, fault: str, entry: Entry, timeout: Any, anew: bool
    ) -> None:
        self.all_well()
        if anew:
            self.replace("set_many", entry, timeout)
        self.operate(name, entry, timeout, [(number, "before", fault)])

    @rule(
        name=st.sampled_from([*REPLACEMENTS, *DECISIONS, *COMPUTATIONS]),
        number=st.integers(0, 2),
        when=whens,
        other=st.sampled_from([*REPLACEMENTS, *DECISIONS]) | missed_changes,
        entry=entries,
        timeout=timeouts,
    )
    def changes_that_overlap(
        self, name: str, number: int, when: str, other: str, entry: Entry, timeout: Any
    ) -> None:
        self.all_well()
        self.operate(name, entry, timeout, [(number, when, [(other, entry, timeout)])])

    @rule(
        name=changes,
        number=st.sampled_from([0, 0, 1]),
        when=st.sampled_from(["before", "after", "after"]),
        other=missed_changes,
        entry=entries,
    )
    def change_missed_during_a_change(
        self, name: str, number: int, when: str, other: str, entry: Entry
    ) -> None:
        self.all_well()
        self.operate(name, entry, DEFAULT, [(number, when, [(other, entry, DEFAULT)])])

    @rule(number=st.sampled_from([0, 0, 1]), entry=entries, timeout=timeouts)
    def part_of_a_batch(self, number: int, entry: Entry, timeout: Any) -> None:
        """A layer takes all but one key."""
        self.all_well()
        self.replace("set_many", entry, timeout)
        self.operate("set_many", entry, timeout, [(number, "before", "take some")])

    @rule(
        name=st.sampled_from(["get", "get_many"]),
        number=st.sampled_from([-1, 0, 0, 1]),
        when=whens,
        happens=st.sampled_from(GIVING_UP) | changes,
        other=changes,
        entry=entries,
    )
    def change_during_a_backfill(
        self, name: str, number: int, when: str, happens: str, other: str, entry: Entry
    ) -> None:
        """What was read below is written above, and changed meanwhile or before that lands."""
        self.all_well()
        self.foreign("set", entry, DEFAULT)
        self.evict_above(entry)
        number += len(self.sim.layers)  # after so many reads
        what: Any = happens if happens in GIVING_UP else [(happens, entry, DEFAULT)]
        self.operate(name, entry, DEFAULT, [(number, when, what)])
        if happens in GIVING_UP:
            self.replace(other, entry, DEFAULT)
            self.land_one(-1, made=True)

    @rule(name=st.sampled_from(["get", "get_many"]), seconds=st.sampled_from([1, 6, 9, 9.5]))
    def backfill_near_the_end(self, name: str, seconds: float) -> None:
        """A copy ends with the entry below."""
        self.all_well()
        self.foreign("set", HOT, 10.5)
        self.evict_above(HOT)
        self.sim.clock.forward(seconds)
        self.do(name, HOT, DEFAULT)
        self.sim.clock.forward(10 - seconds)

    @rule(name=st.sampled_from(["set", "set_many", "add", "get_or_set"]))
    def written_near_the_end(self, name: str) -> None:
        """So does what was written to all layers."""
        self.all_well()
        self.replace("delete", HOT, DEFAULT)
        self.do(name, HOT, 4.5)
        self.sim.clock.forward(4)

    def all_well(self) -> None:
        for alias in self.sim.layers:
            self.sim.heal(alias)
            self.sim.layer(alias).breaker.reset()

    def operate(self, name: str, entry: Entry, timeout: Any, what: Any) -> None:
        self.plan(what)
        self.do(name, entry, timeout)
        self.sim.no_meanwhile()

    def plan(self, what: Any) -> None:
        for number, when, happens in what:
            if isinstance(happens, str):
                self.sim.at_call(number, when, happens)
            else:
                self.sim.at_call(number, when, partial(self.do_all, happens))

    # Layers, their servers and their breakers

    @rule(layer=layers, fault=st.sampled_from(FAULTS))
    def break_layer(self, layer: int, fault: str) -> None:
        alias = self.faulty(layer)
        self.sim.heal(alias)
        self.sim.standing[alias] = fault

    @rule(layer=layers)
    def heal(self, layer: int) -> None:
        self.sim.heal(self.faulty(layer))

    @rule(
        layer=st.integers(0, 2),
        order=st.sampled_from(["reset", "force_open", "force_closed", "auto"]),
    )
    def order(self, layer: int, order: str) -> None:
        alias = self.sim.layers[layer % len(self.sim.layers)]
        getattr(self.sim.layer(alias).breaker, order)()

    @rule(
        layer=st.integers(0, 2),
        change=changes,
        order=st.sampled_from(["reset", "force_closed", "auto"]),
        entry=entries,
    )
    def change_past_a_layer(self, layer: int, change: str, order: str, entry: Entry) -> None:
        """An operator holds it open meanwhile."""
        self.all_well()
        breaker = self.sim.layer(self.sim.layers[layer % len(self.sim.layers)]).breaker
        self.replace("set", entry, DEFAULT)
        breaker.force_open()
        self.replace(change, entry, DEFAULT)
        getattr(breaker, order)()
        self.do_get(entry)

    @rule(layer=layers)
    def forget(self, layer: int) -> None:
        """An operator has it drop its ledger."""
        alias = self.faulty(layer)
        self.model.forgets(alias)
        self.sim.layer(alias).missed_changes.forget()

    @rule(layer=st.integers(0, 2), entry=entries)
    def evict(self, layer: int, entry: Entry) -> None:
        """A layer may drop what it likes."""
        if self.sim.layers[layer % len(self.sim.layers)] != self.sim.authority:
            self.evict_above(entry)

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 6.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.sim.clock.forward(seconds)

    @rule(
        layer=st.integers(0, 2),
        fault=st.sampled_from(["", "", "lose", "abandon", "interrupt", "cancel after"]),
        change=changes,
        entry=entries,
        frozen=st.booleans(),
        share=st.sampled_from([0, 1.1, 4.9]),
    )
    def outage(
        self, layer: int, fault: str, change: str, entry: Entry, frozen: bool, share: float
    ) -> None:
        """What a layer missed in an outage, it may have kept from before, or hold to make."""
        sim = self.sim
        alias = sim.layers[layer % len(sim.layers)]
        if self.long_by == "backfill" and "upper" in sim.layers:
            alias = "upper"
        breaker = sim.layer(alias).breaker
        self.all_well()
        self.write_long(self.long_by, entry, fault)
        if frozen and alias in sim.faulty:
            sim.standing[alias] = "freeze"
            self.replace("set_many" if change.endswith("many") else "set", entry, DEFAULT)
        breaker.force_open()
        self.replace(change, entry, DEFAULT)
        sim.clock.forward(share * self.model.default)
        self.agent_round()
        sim.heal(alias)
        breaker.auto()

    # Late calls

    @precondition(lambda self: self.sim.late)
    @rule(which=st.integers(0, 5), made=st.sampled_from([True, True, False]))
    def land(self, which: int, made: bool) -> None:
        self.land_one(which, made=made)

    @rule(
        layer=layers,
        fault=st.sampled_from(GIVING_UP),
        name=st.sampled_from(["set", "set_many", "add"])
        | st.sampled_from([*REPLACEMENTS, *DECISIONS]),
        other=changes,
        entry=entries,
        away_for=st.sampled_from(
            [(False, 0.0), (False, 50.0), (True, 0.0), (True, 50.0), (True, 70.0), (True, 70.0)]
        ),
        forgotten=st.sampled_from([False, False, True]),
    )
    def late_call(
        self,
        layer: int,
        fault: str,
        name: str,
        other: str,
        entry: Entry,
        away_for: tuple[bool, float],
        forgotten: bool,
    ) -> None:
        """A call lands after a later change of its key, and perhaps nobody can repair that yet."""
        alias, sim = self.faulty(layer), self.sim
        breaker = sim.layer(alias).breaker
        away, seconds = away_for
        self.all_well()
        self.replace("set", entry, DEFAULT)
        sim.standing[alias] = fault
        self.do(name, entry, DEFAULT)
        sim.heal(alias)
        if forgotten:
            self.forget(layer)
        self.replace(other, entry, DEFAULT)
        if away:
            breaker.force_open()
        sim.clock.forward(seconds)
        self.agent_round()
        self.do("add", entry, DEFAULT)
        self.land_one(-1, made=True)
        self.nothing_older_is_read()
        sim.clock.forward(11.0)
        self.agent_round()
        if away:
            breaker.auto()

    @rule(
        fault=st.sampled_from(GIVING_UP),
        name=st.sampled_from([*REPLACEMENTS, *DECISIONS]),
        other=changes,
        when=whens,
        entry=entries,
    )
    def late_call_that_lands_in_a_change(
        self, fault: str, name: str, other: str, when: str, entry: Entry
    ) -> None:
        self.late_calls(fault, [name], entry)
        self.operate(other, entry, DEFAULT, [(0, when, [("land", entry, DEFAULT)])])

    @rule(
        fault=st.sampled_from(GIVING_UP),
        names=st.lists(st.sampled_from([*REPLACEMENTS, *DECISIONS]), min_size=2, max_size=2),
        other=changes,
        entry=entries,
    )
    def several_late_calls(self, fault: str, names: list[str], other: str, entry: Entry) -> None:
        self.late_calls(fault, names, entry)
        self.replace(other, entry, DEFAULT)
        for _ in names:
            self.rounds(1)
            self.do("add", entry, DEFAULT)
            self.land_one(-1, made=True)
            self.nothing_older_is_read()

    def late_calls(self, fault: str, names: list[str], entry: Entry) -> None:
        self.all_well()
        self.replace("set", entry, DEFAULT)
        self.sim.standing[self.sim.authority] = fault
        for name in names:
            self.do(name, entry, DEFAULT)
        self.sim.heal(self.sim.authority)

    @precondition(lambda self: not self.model.crowded)
    @rule(
        fault=st.sampled_from(GIVING_UP),
        late=st.sampled_from([*REPLACEMENTS, *DECISIONS]),
        name=changes,
        entry=entries,
    )
    def wait_in_vain(self, fault: str, late: str, name: str, entry: Entry) -> None:
        """A call that hangs for ever keeps nothing for ever; should it land, that is noticed."""
        self.late_calls(fault, [late], entry)
        self.sim.clock.forward(WAIT_SECONDS)
        self.rounds(3)
        self.nothing_older_is_read()
        self.replace(name, entry, DEFAULT)
        self.land_one(-1, made=True)

    # The agent and the other worker

    @rule(what=happenings)
    def tick(self, what: Any) -> None:
        self.plan(what)
        self.agent_round()
        self.sim.no_meanwhile()

    @rule(
        name=st.sampled_from(["missed delete", "missed set_many", "missed clear"]) | missed_changes,
        when=whens,
        first=st.sampled_from(["again", "missed delete", "missed set", "delete", "break"])
        | changes
        | missed_changes,
        then=st.sampled_from(["add", "add", "foreign add", "incr", "land"]),
        change=changes,
        entry=entries,
    )
    def change_during_a_repair(
        self, name: str, when: str, first: str, then: str, change: str, entry: Entry
    ) -> None:
        self.all_well()
        self.do(name, entry, DEFAULT)
        first = name.partition(" ")[2] if first == "again" else first
        self.plan([(0, when, [(first, entry, DEFAULT), (then, entry, DEFAULT)])])
        self.repair_before(change)
        self.do("foreign add", entry, DEFAULT)

    @rule(
        name=missed_changes | st.just("missed clear"),
        fault=faults | st.sampled_from(GIVING_UP),
        change=changes,
        then=st.sampled_from(["add", "foreign add", "incr", "get"]),
        entry=entries,
    )
    def repair_with_a_fault(
        self, name: str, fault: str, change: str, then: str, entry: Entry
    ) -> None:
        """Made or not, now or when it lands: it deletes nothing that came after it."""
        self.all_well()
        self.do(name, entry, DEFAULT)
        self.plan([(0, "before", fault)])
        self.repair_before(change)
        self.rounds(1)
        self.do(then, entry, DEFAULT)
        self.land_one(-1, made=True)

    def repair_before(self, change: str) -> None:
        """Repair what there is; where no agent can run, before a change of something else."""
        if self.model.cannot_run:
            self.replace(change, ENTRIES[-1], DEFAULT)
        else:
            self.agent_round()
        self.sim.no_meanwhile()

    @rule(fault=faults, entry=entries)
    def part_of_a_repair(self, fault: str, entry: Entry) -> None:
        """What was repaired is, though the rest could not be."""
        self.all_well()
        for version in VERSIONS:
            self.missed("delete", (entry[0], version), DEFAULT)
        self.plan([(1, "before", fault)])
        self.agent_round()
        self.sim.no_meanwhile()
        for version in VERSIONS:
            self.do("foreign add", (entry[0], version), DEFAULT)
        self.rounds(1)

    @rule(change=changes, then=st.sampled_from(DECISIONS), entry=entries)
    def change_before_its_repair(self, change: str, then: str, entry: Entry) -> None:
        """What a repair is about to come to is changed, and decided on, by somebody else."""
        self.all_well()
        there = [(entry[0], version) for version in VERSIONS]
        for at in there:
            self.missed("delete", at, DEFAULT)
        self.plan([(0, "before", [(change, there[1], DEFAULT), (then, there[1], DEFAULT)])])
        self.agent_round()
        self.sim.no_meanwhile()

    @rule(
        name=st.sampled_from(DECISIONS),
        fault=faults | st.just("forced open"),
        entry=entries,
        missed=st.booleans(),
    )
    def decision_without_an_answer(self, name: str, fault: str, entry: Entry, missed: bool) -> None:
        """Its caller was told; what another worker makes of the key is that one's."""
        sim = self.sim
        alias, breaker = sim.authority, sim.layer(sim.authority).breaker
        self.all_well()
        if missed:
            self.missed("delete", ENTRIES[-1], DEFAULT)
        if fault == "forced open":
            breaker.force_open()
        else:
            sim.standing[alias] = fault
        self.do(name, entry, DEFAULT)
        sim.heal(alias)
        self.do("foreign add", entry, DEFAULT)
        breaker.auto()
        self.rounds(2)

    @rule(name=st.sampled_from(["touch", "incr", "decr"]), entry=entries)
    def decision_whose_answer_is_lost(self, name: str, entry: Entry) -> None:
        """It may have been made: no copy from before it stays above."""
        self.all_well()
        self.replace("set", entry, DEFAULT)
        began = self.model.event()
        asked = self.sim.layer(self.sim.authority).missed_changes.in_sync
        self.operate(name, entry, DEFAULT, [(0, "before", "lose")])
        if asked:  # else it was decided without the authority
            self.nothing_older_is_above(entry, began)

    @rule(number=st.sampled_from([0, 1, 1, 2]), when=whens, change=changes, entry=entries)
    def computed_before_a_change(self, number: int, when: str, change: str, entry: Entry) -> None:
        """Without the authority's answer the layers above keep only what nothing came after."""
        self.all_well()
        self.replace("delete", entry, DEFAULT)
        self.sim.standing[self.sim.authority] = "refuse"
        number += len(self.sim.layers)  # after so many reads; the computation is one of them
        self.operate("compute", entry, DEFAULT, [(number, when, [(change, entry, DEFAULT)])])
        self.nothing_older_is_read()
        self.sim.heal(self.sim.authority)

    @rule(name=st.sampled_from(DECISIONS), when=whens, other=missed_changes, entry=entries)
    def decision_during_a_missed_change(
        self, name: str, when: str, other: str, entry: Entry
    ) -> None:
        """The repair will delete what it was about."""
        self.all_well()
        self.operate(name, entry, DEFAULT, [(0, when, [(other, entry, DEFAULT)])])
        self.rounds(1)

    @rule(name=st.sampled_from(FOREIGN), entry=entries, timeout=timeouts)
    def another_worker(self, name: str, entry: Entry, timeout: Any) -> None:
        self.do(name, entry, timeout)

    # Coming back

    @rule(order=st.sampled_from(["reset", "force_closed", "auto"]), opened=st.booleans())
    def settle(self, order: str, opened: bool) -> None:
        """Everything is well again, and after a while so is the chain."""
        sim, model = self.sim, self.model
        for alias in sim.faulty:
            sim.heal(alias)
            if opened:
                self.fail(sim.layer(alias).breaker)
        while sim.late:
            model.lands(sim.late.popleft(), made=True)
        for alias in sim.layers:
            getattr(sim.layer(alias).breaker, order)()
        for _ in range(100):
            if self.is_well(order):
                break
            self.rounds(1)
            sim.clock.forward(model.default / 15 if model.crowded or order == "auto" else 0.02)
        assert self.is_well(order) or (model.crowded and model.eternal)
        for entry in ENTRIES:
            self.do_get(entry)
        if self.is_well("auto"):
            self.replace("set", HOT, DEFAULT)
            assert self.cache.get("a", version=1) is not None

    def fail(self, breaker: CircuitBreaker) -> None:
        while breaker.state is State.CLOSED:
            breaker.acquire().failure()

    def is_well(self, order: str) -> bool:
        here = [self.sim.layer(alias) for alias in self.sim.layers]
        closed = all(each.breaker.state in (State.CLOSED, State.FORCED_CLOSED) for each in here)
        return all(each.missed_changes.in_sync for each in here) and (closed or order != "auto")

    @rule()
    def outlast(self) -> None:
        """After long enough nothing older lives anywhere, and nothing is kept."""
        breakers = [self.sim.layer(alias).breaker for alias in self.sim.layers]
        for breaker in breakers:
            breaker.force_open()
        self.sim.clock.forward(self.model.long)
        self.agent_round()
        if not self.model.cannot_run:
            self.model.outlasted()
            self.model.check_nothing_withheld()
        for breaker in breakers:
            breaker.auto()

    @invariant()
    def nothing_older_is_read(self) -> None:
        if not hasattr(self, "model"):
            return
        if self.model.events % 2:
            for version in VERSIONS:
                self.do_get_many(("", version))
        else:
            for entry in ENTRIES:
                self.do_get(entry)
        self.model.check()
        self.model.check_nothing_withheld()


class AwaitedMachine(ChainMachine):
    """The same through the async methods."""

    awaited = True


class HealthyMachine(RuleBasedStateMachine):
    """A healthy chain and one local-memory cache give the same answers."""

    @initialize(shape=st.sampled_from(SHAPES))
    def begin(self, shape: tuple[str, ...]) -> None:
        self.sim = SimulatedChain(*shape)
        self.sim.__enter__()
        self.plain = LocMemCache("plain", {"TIMEOUT": TIMEOUT})

    def teardown(self) -> None:
        if hasattr(self, "sim"):
            self.plain.clear()
            self.sim.__exit__()

    @rule(
        name=st.sampled_from(
            [
                *["get", "has_key", "get_many", "set", "add", "touch", "set_many", "delete"],
                *["delete_many", "incr", "decr", "incr_version", "decr_version", "get_or_set"],
                "clear",
            ]
        ),
        entry=entries,
        value=st.integers(-5, 5) | st.none() | st.text(max_size=2),
        timeout=st.sampled_from([DEFAULT, 10, 300, None, 0, -1]),
    )
    def operate(self, name: str, entry: Entry, value: Any, timeout: Any) -> None:
        key, version = entry
        timed = () if timeout is DEFAULT else (timeout,)
        arguments: tuple[Any, ...] = {
            "get_many": (KEYS,),
            "delete_many": (KEYS,),
            "set": (key, value, *timed),
            "add": (key, value, *timed),
            "get_or_set": (key, value, *timed),
            "touch": (key, *timed),
            "set_many": (dict.fromkeys(KEYS, value), *timed),
            "clear": (),
        }.get(name, (key,))
        named = {} if name == "clear" else {"version": version}
        answers = [outcome(getattr(cache, name), *arguments, **named) for cache in self.both()]
        assert answers[0] == answers[1]

    @rule(seconds=st.sampled_from([0.5, 1.0, 6.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.sim.clock.forward(seconds)

    @rule()
    def tick(self) -> None:
        self.sim.tick()

    @invariant()
    def same_entries(self) -> None:
        if hasattr(self, "sim"):
            for version in (*VERSIONS, 3):
                one, other = (cache.get_many(KEYS, version=version) for cache in self.both())
                assert one == other

    def both(self) -> tuple[Any, Any]:
        return self.sim.cache, self.plain


def outcome(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return call(*args, **kwargs)
    except (ValueError, TypeError) as error:
        return type(error)


def run(machine: type[RuleBasedStateMachine], examples: int, steps: int) -> Any:
    case: Any = machine.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        backend=BACKEND,
        derandomize="RESILIENT_CACHE_EXAMPLES" not in os.environ,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow],
    )
    return case


TestChain = run(ChainMachine, EXAMPLES, 30)
TestChainAwaited = run(AwaitedMachine, max(1, EXAMPLES // 2), 30)
TestHealthy = run(HealthyMachine, max(1, EXAMPLES // 3), 20)
