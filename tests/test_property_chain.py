"""Any operations, faults, recoveries, orders and interleavings on a chain, against a simple model.

The model numbers events and knows when each value was written and when each entry was last
replaced.  It knows no breaker, no ledger and no layer.  RESILIENT_CACHE_EXAMPLES sets how many
examples are tried.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from django.core.cache.backends.locmem import LocMemCache
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from django_resilient_cache import CacheUnavailable, deadline
from tests.stage import TIMEOUT, Abandoned, Interrupted, Stage

EXAMPLES = int(os.environ.get("RESILIENT_CACHE_EXAMPLES", "100"))

Entry = tuple[str, int]

KEYS = ("a", "b")
VERSIONS = (1, 2)
ENTRIES = [(key, version) for key in KEYS for version in VERSIONS]
DEFAULT = object()
SHAPES = [
    ("authority",),
    ("memory", "authority"),
    ("upper", "authority"),
    ("memory", "upper", "authority"),
]
READS = ["get", "get_many", "has_key"]
REPLACEMENTS = ["set", "set_many", "delete", "delete_many", "clear"]
DECISIONS = ["add", "incr", "touch"]
COMPUTATIONS = ["get_or_set", "compute"]
OPERATIONS = [*READS, *REPLACEMENTS, *DECISIONS, *COMPUTATIONS]

entries = st.sampled_from(ENTRIES)
timeouts = st.sampled_from([DEFAULT, 10, 300, None])

#: What another thread does while a call is under way.
elsewhere = st.lists(
    st.tuples(
        st.sampled_from([*OPERATIONS, "tick", "missed set", "missed delete", "missed clear"]),
        entries,
        timeouts,
    ),
    min_size=1,
    max_size=3,
)
#: In which layer (counted from the authority), when, and what.
meanwhile = st.none() | st.tuples(
    st.integers(0, 3), st.sampled_from(["before", "after"]), elsewhere
)
#: What goes wrong in the faulty layers for this one call.
FAULTS = ["refuse", "lose", "abandon", "interrupt"]
troubles = st.none() | st.tuples(st.integers(0, 1), st.sampled_from(FAULTS))
#: And whether the caller has no time left.
hurries = st.sampled_from([False, False, False, False, True])
What = tuple[Any, Any, bool]
what = st.tuples(meanwhile, troubles, hurries)


@dataclass
class Value:
    """One value, written once; its last three digits count what `incr` added."""

    entry: Entry
    ends: float
    """When it must be gone, on the stage's clock."""
    written: float = math.inf
    """The event after which nobody writes it any more."""
    increments: int = 0
    counted: int = 0
    """What an `incr` that was completed told."""
    foreign: bool = False
    """Whether the other worker wrote it."""


@dataclass
class Floor:
    """What was true when a read began."""

    replaced: int
    counted: dict[int, int]


@dataclass
class Lock:
    """An `add` that was won."""

    ends: float
    excused: bool = False
    """Whether a repair may delete it: this process missed a change of its key before."""


class ChainMachine(RuleBasedStateMachine):
    """One process uses a chain, another worker uses its authority."""

    stage: Stage

    @initialize(
        shape=st.sampled_from(SHAPES),
        on_unavailable=st.sampled_from(["miss", "raise"]),
        capacity=st.sampled_from([100_000, 100_000, 1]),
        failures=st.sampled_from([3, 100]),
    )
    def begin(
        self, shape: tuple[str, ...], on_unavailable: str, capacity: int, failures: int
    ) -> None:
        self.stage = Stage(*shape, on_unavailable=on_unavailable, MAX_FAILURES=failures)
        self.stage.__enter__()
        for alias in shape:
            self.stage.layer(alias).ledger._capacity = capacity
        self.cache = self.stage.cache
        self.other: Any = self.stage.behind(self.stage.authority)
        self.events = 0
        self.values: dict[int, Value] = {}
        #: The event at which the last completed replacement of an entry began.
        self.replaced: dict[Entry, int] = dict.fromkeys(ENTRIES, 0)
        #: The entries of each `incr` under way.
        self.counting: list[Entry] = []
        self.own_locks: dict[Entry, Lock] = {}
        self.foreign_locks: dict[Entry, Lock] = {}
        #: Entries whose replacement the authority has not confirmed.
        self.missed: set[Entry] = set()

    def teardown(self) -> None:
        if hasattr(self, "stage"):
            self.stage.__exit__()

    # The model

    def event(self) -> int:
        self.events += 1
        return self.events

    def now(self) -> float:
        return self.stage.clock()

    def end_of(self, timeout: Any) -> float:
        if timeout is None:
            return math.inf
        return self.now() + (TIMEOUT if timeout is DEFAULT else timeout)

    def new_value(self, entry: Entry, timeout: Any) -> int:
        value = 1000 * (len(self.values) + 1)
        increments = self.counting.count(entry)
        self.values[value // 1000] = Value(entry, self.end_of(timeout), increments=increments)
        return value

    def floor(self, entry: Entry) -> Floor:
        """What a read that begins now may not go below."""
        counted = {number: value.counted for number, value in self.values.items()}
        return Floor(self.replaced[entry], counted)

    def may_be_read(self, entry: Entry, value: int, floor: Floor) -> None:
        """Nothing older than the last completed change, nothing past its time."""
        known = self.values[value // 1000]
        assert known.entry == entry
        assert known.written > floor.replaced, f"{value} is older than the last change of {entry}"
        counted = floor.counted.get(value // 1000, 0)
        assert counted <= value % 1000 <= known.increments, f"{value} was counted past"
        assert self.now() < known.ends, f"{value} outlived its time"

    def values_of(self, entry: Entry) -> list[Value]:
        return [value for value in self.values.values() if value.entry == entry]

    def locked(self, locks: dict[Entry, Lock], entry: Entry) -> bool:
        lock = locks.get(entry)
        return lock is not None and self.now() < lock.ends and not lock.excused

    def released(self, touched: Iterable[Entry]) -> None:
        for entry in touched:
            self.own_locks.pop(entry, None)
            self.foreign_locks.pop(entry, None)

    def touched(self, entry: Entry, timeout: Any, *, surely: bool = False) -> None:
        end = self.end_of(timeout)
        for value in self.values_of(entry):
            value.ends = end if surely else max(value.ends, end)
        for locks in (self.own_locks, self.foreign_locks):
            if entry in locks:
                locks[entry].ends = min(locks[entry].ends, end)

    # What this process does

    def do(self, name: str, entry: Entry, timeout: Any) -> None:
        if name == "tick":
            self.answer(self.stage.tick)
        elif name.startswith("missed "):
            self.replace("set", entry, DEFAULT)
            self.stage.refuse(self.stage.authority)
            self.replace(name.removeprefix("missed "), entry, timeout)
            self.stage.heal(self.stage.authority)
        elif name in READS:
            getattr(self, f"do_{name}")(entry)
        elif name in REPLACEMENTS:
            self.replace(name, entry, timeout)
        else:
            getattr(self, f"do_{name}")(entry, timeout)

    def do_get(self, entry: Entry) -> None:
        floor = self.floor(entry)
        value = self.answer(lambda: self.cache.get(entry[0], version=entry[1]))
        if value is not None:
            self.may_be_read(entry, value, floor)

    def do_get_many(self, entry: Entry) -> None:
        floors = {at: self.floor(at) for at in ENTRIES}
        found = self.answer(lambda: self.cache.get_many(KEYS, version=entry[1]))
        for key, value in (found or {}).items():
            self.may_be_read((key, entry[1]), value, floors[key, entry[1]])

    def do_has_key(self, entry: Entry) -> None:
        floor = self.floor(entry)
        if self.answer(lambda: self.cache.has_key(entry[0], version=entry[1])):
            assert any(
                value.written > floor.replaced and self.now() < value.ends
                for value in self.values_of(entry)
            ), f"{entry} is there, and was removed"

    def replace(self, name: str, entry: Entry, timeout: Any) -> None:
        key, version = entry
        one = name in ("set", "delete")
        changed = [entry] if one else [(key, version) for key in KEYS]
        changed = ENTRIES if name == "clear" else changed
        self.released(changed)
        before, began = len(self.stage.ends), self.event()
        new = {at: self.new_value(at, timeout) for at in changed} if "set" in name else {}
        arguments = () if timeout is DEFAULT else (timeout,)
        calls: dict[str, Callable[[], object]] = {
            "set": lambda: self.cache.set(key, new[entry], *arguments, version=version),
            "set_many": lambda: self.cache.set_many(
                {at[0]: value for at, value in new.items()}, *arguments, version=version
            ),
            "delete": lambda: self.cache.delete(key, version=version),
            "delete_many": lambda: self.cache.delete_many(KEYS, version=version),
            "clear": self.cache.clear,
        }
        completed = self.answer(calls[name], interrupted=Interrupted) is not Interrupted
        self.released(changed)
        ended = self.event()
        for value in new.values():
            self.values[value // 1000].written = ended
        if completed:
            for at in changed:
                self.replaced[at] = max(self.replaced[at], began)
        if self.was_missed(before):
            self.missed |= set(changed)

    def was_missed(self, before: int) -> bool:
        authority = self.stage.authority
        return (
            any(call.alias == authority for call in self.stage.late)
            or any(
                alias == authority and name in REPLACEMENTS and not outcome.answered
                for alias, name, _, outcome in self.stage.ends[before:]
            )
            or not any(alias == authority for alias, _, _, _ in self.stage.ends[before:])
        )

    def do_add(self, entry: Entry, timeout: Any) -> None:
        began = self.event()
        value = self.new_value(entry, timeout)
        arguments = () if timeout is DEFAULT else (timeout,)
        own, foreign = self.own_locks.get(entry), self.foreign_locks.get(entry)
        won = self.answer(lambda: self.cache.add(entry[0], value, *arguments, version=entry[1]))
        self.values[value // 1000].written = self.event()
        if won is True:
            for locks, lock in ((self.own_locks, own), (self.foreign_locks, foreign)):
                held = lock is not None and locks.get(entry) is lock
                assert not (held and self.locked(locks, entry)), f"{entry} was won twice"
            self.released([entry])
            self.own_locks[entry] = Lock(self.values[value // 1000].ends)
            self.replaced[entry] = max(self.replaced[entry], began)

    def do_incr(self, entry: Entry, timeout: Any) -> None:
        floor = self.floor(entry)
        for value in self.values_of(entry):
            value.increments += 1
        self.counting.append(entry)
        result = self.answer(lambda: self.cache.incr(entry[0], version=entry[1]))
        self.counting.remove(entry)
        if isinstance(result, int):
            self.may_be_read(entry, result, floor)
            counted = self.values[result // 1000]
            counted.counted = max(counted.counted, result % 1000)

    def do_touch(self, entry: Entry, timeout: Any) -> None:
        arguments = () if timeout is DEFAULT else (timeout,)
        self.touched(entry, timeout)
        events = self.events
        done = self.answer(lambda: self.cache.touch(entry[0], *arguments, version=entry[1]))
        self.touched(entry, timeout, surely=done is True and events == self.events)

    def do_get_or_set(self, entry: Entry, timeout: Any) -> None:
        """With a value, which is as old as the call."""
        floor = self.floor(entry)
        value = self.new_value(entry, timeout)
        arguments = () if timeout is DEFAULT else (timeout,)
        found = self.answer(
            lambda: self.cache.get_or_set(entry[0], value, *arguments, version=entry[1])
        )
        if found is not None:
            self.may_be_read(entry, found, floor)
        self.values[value // 1000].written = self.event()

    def do_compute(self, entry: Entry, timeout: Any) -> None:
        """With a computation, whose result is as old as its inputs."""
        floor = self.floor(entry)
        arguments = () if timeout is DEFAULT else (timeout,)

        def compute() -> int:
            value = self.new_value(entry, timeout)
            self.values[value // 1000].written = self.event()
            self.stage.meanwhile("computation", "before")
            return value

        found = self.answer(
            lambda: self.cache.get_or_set(entry[0], compute, *arguments, version=entry[1])
        )
        if found is not None:
            self.may_be_read(entry, found, floor)

    def answer(self, call: Callable[[], Any], interrupted: Any = None) -> Any:
        try:
            return call()
        except (CacheUnavailable, ValueError):
            return None
        except Interrupted:
            return interrupted

    # What happens

    @rule(name=st.sampled_from(REPLACEMENTS), what=what, entry=entries, timeout=timeouts)
    def change(self, name: str, what: What, entry: Entry, timeout: Any) -> None:
        self.operate(name, entry, timeout, *what)

    @rule(name=st.sampled_from(["set", "delete"]), what=what, timeout=timeouts)
    def change_one(self, name: str, what: What, timeout: Any) -> None:
        self.operate(name, ENTRIES[0], timeout, *what)

    @rule(name=st.sampled_from(DECISIONS), what=what, entry=entries, timeout=timeouts)
    def decide(self, name: str, what: What, entry: Entry, timeout: Any) -> None:
        self.operate(name, entry, timeout, *what)

    @rule(name=st.sampled_from(READS + COMPUTATIONS), what=what, entry=entries, timeout=timeouts)
    def read(self, name: str, what: What, entry: Entry, timeout: Any) -> None:
        self.operate(name, entry, timeout, *what)

    def operate(
        self,
        name: str,
        entry: Entry,
        timeout: Any,
        meanwhile: Any,
        trouble: Any,
        hurried: bool,
    ) -> None:
        if meanwhile is not None:
            index, when, others = meanwhile
            at = ["computation", *self.stage.layers][-1 - min(index, len(self.stage.layers))]
            self.stage.during(at, when, lambda: [self.do(*other) for other in others])
        if trouble is not None:
            self.break_layer(*trouble)
        with deadline(0) if hurried else nullcontext():
            self.do(name, entry, timeout)
        self.stage.no_meanwhile()
        if trouble is not None:
            self.heal(trouble[0])

    @rule(
        layer=st.integers(0, 1), fault=st.sampled_from(["refuse", "lose", "abandon", "interrupt"])
    )
    def break_layer(self, layer: int, fault: str) -> None:
        alias = self.stage.faulty[layer % len(self.stage.faulty)]
        self.stage.heal(alias)
        getattr(self.stage, fault)(alias)

    @rule(layer=st.integers(0, 1))
    def heal(self, layer: int) -> None:
        self.stage.heal(self.stage.faulty[layer % len(self.stage.faulty)])

    @precondition(lambda self: self.stage.late)
    @rule(which=st.integers(0, 5), made=st.sampled_from([True, True, False]))
    def land(self, which: int, made: bool) -> None:
        late = self.stage.late
        late.rotate(-(which % len(late)))
        self.landing(late.popleft(), made=made)

    def landing(self, call: Abandoned, *, made: bool) -> None:
        if made and call.name in ("set", "add", "touch", "set_many"):
            timeout = call.args[1 if call.name in ("set_many", "touch") else 2]
            timeout = timeout if timeout is None or isinstance(timeout, int | float) else DEFAULT
            for entry in ENTRIES:
                if call.name == "set_many" or entry[0] == call.args[0]:
                    self.touched(entry, timeout)
        if made and call.name == "incr":
            for value in self.values_of((call.args[0], call.args[-1])):
                value.increments += value.foreign
        call.land(made=made)

    @rule(
        layer=st.integers(0, 2),
        order=st.sampled_from(["reset", "force_open", "force_closed", "auto"]),
    )
    def order(self, layer: int, order: str) -> None:
        alias = self.stage.layers[layer % len(self.stage.layers)]
        getattr(self.stage.layer(alias).breaker, order)()

    @rule(others=elsewhere | st.none(), when=st.sampled_from(["before", "after"]))
    def tick(self, others: Any, when: str) -> None:
        if others is not None:
            self.stage.during(
                self.stage.authority, when, lambda: [self.do(*other) for other in others]
            )
        self.answer(self.stage.tick)
        self.stage.no_meanwhile()
        if self.stage.layer(self.stage.authority).ledger.trusted:
            self.missed.clear()

    @rule(seconds=st.sampled_from([1.0, 6.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.stage.clock.forward(seconds)

    @rule(name=st.sampled_from(["set", "delete", "add", "incr"]), entry=entries, timeout=timeouts)
    def another_worker(self, name: str, entry: Entry, timeout: Any) -> None:
        key, version = entry
        arguments = () if timeout is DEFAULT else (timeout,)
        value = self.new_value(entry, timeout)
        self.values[value // 1000].foreign = True
        if name == "set":
            self.released([entry])
            self.other.set(key, value, *arguments, version=version)
        elif name == "delete":
            self.released([entry])
            self.other.delete(key, version=version)
        elif name == "incr":
            for known in self.values_of(entry):
                known.increments += 1
            self.answer(lambda: self.other.incr(key, version=version))
        elif self.other.add(key, value, *arguments, version=version):
            for locks in (self.own_locks, self.foreign_locks):
                assert not self.locked(locks, entry), f"the lock {entry} was deleted"
            self.released([entry])
            self.foreign_locks[entry] = Lock(self.end_of(timeout), entry in self.missed)
        self.values[value // 1000].written = self.event()

    @rule()
    def settle(self) -> None:
        """Everything is well again, and after a while so is the chain."""
        while self.stage.late:
            self.landing(self.stage.late.popleft(), made=True)
        self.stage.settle()
        self.missed.clear()
        for alias in self.stage.layers:
            layer = self.stage.layer(alias)
            assert layer.ledger.trusted or layer.ledger._capacity == 1
        for entry in ENTRIES:
            self.do_get(entry)
        if all(self.stage.layer(alias).ledger.trusted for alias in self.stage.layers):
            self.replace("set", ENTRIES[0], DEFAULT)
            assert self.cache.get("a", version=1) is not None

    @invariant()
    def nothing_older_is_read(self) -> None:
        if not hasattr(self, "values"):
            return
        if self.events % 2:
            for version in VERSIONS:
                self.do_get_many(("", version))
        else:
            for entry in ENTRIES:
                self.do_get(entry)
        for entry in self.foreign_locks:
            if self.locked(self.foreign_locks, entry):
                assert self.other.has_key(entry[0], version=entry[1]), f"{entry} was unlocked"


class HealthyMachine(RuleBasedStateMachine):
    """A healthy chain and one local-memory cache give the same answers."""

    @initialize(shape=st.sampled_from(SHAPES))
    def begin(self, shape: tuple[str, ...]) -> None:
        self.stage = Stage(*shape)
        self.stage.__enter__()
        self.plain = LocMemCache("plain", {"TIMEOUT": TIMEOUT})

    def teardown(self) -> None:
        if hasattr(self, "stage"):
            self.plain.clear()
            self.stage.__exit__()

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
        timeout=timeouts | st.sampled_from([0, -1]),
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
        self.stage.clock.forward(seconds)

    @rule()
    def tick(self) -> None:
        self.stage.tick()

    @invariant()
    def same_entries(self) -> None:
        if hasattr(self, "stage"):
            for version in (*VERSIONS, 3):
                one, other = (cache.get_many(KEYS, version=version) for cache in self.both())
                assert one == other

    def both(self) -> tuple[Any, Any]:
        return self.stage.cache, self.plain


def outcome(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return call(*args, **kwargs)
    except (ValueError, TypeError) as error:
        return type(error)


def run(machine: type[RuleBasedStateMachine], steps: int) -> Any:
    case: Any = machine.TestCase
    case.settings = settings(
        max_examples=EXAMPLES,
        stateful_step_count=steps,
        deadline=None,
        derandomize=EXAMPLES <= 100,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow],
    )
    return case


TestChain = run(ChainMachine, 30)
TestHealthy = run(HealthyMachine, 20)
