"""A simple model of one process, its chain, and another worker that shares the chain's authority.

It numbers events and knows when each value was written and when each entry was last replaced, and
it sees every call of a layer begin and end.  It knows no breaker, no ledger and no chain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from django_resilient_cache import State
from django_resilient_cache.adapters.commands import (
    Add,
    Backfill,
    Change,
    Clear,
    Command,
    Count,
    Decision,
    DeleteMany,
    Read,
    ReadMany,
    Replacement,
    Set,
    SetMany,
    Touch,
)
from django_resilient_cache.adapters.outcome import REJECTED, Kind, Outcome
from django_resilient_cache.layer.abandoned_calls import WAIT_SECONDS
from tests.simulated_chain import Abandoned, SimulatedChain, Watch

Entry = tuple[str, int]

KEYS = ("a", "b")
VERSIONS = (1, 2)
ENTRIES = [(key, version) for key in KEYS for version in VERSIONS]
DEFAULT = object()

#: Seconds that a per-process layer may keep what a shared one below it has.
NEAR_SECONDS = 5


def entries_of(command: Command) -> list[Entry]:
    """The entries that a call of a layer is about."""
    if isinstance(command, Clear):
        return ENTRIES
    if isinstance(command, Change):
        keys = command.changed_keys()
    else:
        keys = command.keys if isinstance(command, ReadMany) else (cast("Read", command).key,)
    return [(key, command.version) for key in keys]


def _timeouts_of(command: Command) -> list[float]:
    """The timeouts in seconds that a call asks a layer for."""
    if isinstance(command, Backfill) or not isinstance(command, Change):
        return []
    timeouts = [math.inf if timeout is None else timeout for timeout in command.timeouts()]
    return [timeout for timeout in timeouts if isinstance(timeout, int | float)]


@dataclass
class Value:
    """One value, written once; its last three digits count what `incr` added."""

    entry: Entry
    ends: float
    """When it must be gone, on the simulation's clock."""
    written: float = math.inf
    """The event after which nobody writes it any more."""
    increments: float = 0
    counted: int = 0
    """What an `incr` that was completed told."""
    shared: bool = True
    """Whether an `incr` that is late may count it: it was no change of this process that wrote it."""


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


@dataclass
class Wrong:
    """What a layer may be wrong about, as anybody knows who saw its calls end.

    Of changes that overlap, and of calls that are late, it assumes the worst.
    """

    #: Entries whose last change it did not confirm: the event and the time of that; the time is
    #: infinity where it may have been asked for the change.
    missed: dict[Entry, tuple[int, float]] = field(default_factory=dict)
    #: As above, of its last clear().
    unclear: tuple[int, float] | None = None
    #: Those of them that a server may hold and make at any time, and nobody will tell.
    unsure: set[Entry] = field(default_factory=set)
    #: Those of them that nothing has happened to since, and the time.
    surely: dict[Entry, float] = field(default_factory=dict)


class Model(Watch):
    """What must be true."""

    def __init__(self, sim: SimulatedChain, *, eternal: bool, cannot_run: bool) -> None:
        self.sim = sim
        self.eternal = eternal
        self.cannot_run = cannot_run
        #: The TIMEOUT of the layers; and the longest that is used, unless entries live for ever.
        self.default = cast("float", sim.behind(sim.authority).default_timeout)
        self.long = 5 * self.default
        #: Whether there is not room for all entries in the ledgers.
        self.crowded = sim.capacity < len(ENTRIES)
        self.other: Any = sim.behind(sim.authority)
        self.events = 0
        self.values: dict[tuple[int, Entry], Value] = {}
        self.numbers = 0
        #: The event at which the last completed replacement of an entry began.
        self.replaced: dict[Entry, int] = dict.fromkeys(ENTRIES, 0)
        #: From where to where `incr_version` moves values at the moment.
        self.moving: list[tuple[Entry, Entry]] = []
        #: The entries of each `incr` under way.
        self.counting: list[Entry] = []
        self.own_locks: dict[Entry, Lock] = {}
        self.foreign_locks: dict[Entry, Lock] = {}
        #: When the authority last made an `add` of an entry here, and when one was last released.
        self.added: dict[Entry, int] = {}
        self.released_at: dict[Entry, int] = {}
        self.wrong = {alias: Wrong() for alias in sim.layers}
        #: Whether the agent is at work, and the keys that it has repaired in this round.
        self.ticking = False
        self.repaired: dict[str, int] = {}
        #: The changes under way that chains asked for, by the event at which they began.
        self.changing: dict[int, tuple[str, list[Entry]]] = {}
        #: The events at which repairs under way began; they know of no note made since.
        self.repairs_began: list[int] = []
        #: What repairs are under way of: the layer and the entries.
        self.repairing: list[tuple[str, list[Entry]]] = []
        #: The longest timeout in seconds that the authority was asked to keep here.
        self.longest: float = self.default
        sim.watch = self

    def event(self) -> int:
        self.events += 1
        return self.events

    def now(self) -> float:
        return self.sim.clock()

    # Values

    def end_of(self, timeout: Any) -> float:
        if timeout is None:
            return math.inf
        return self.now() + (self.default if timeout is DEFAULT else int(timeout))

    def new_value(self, entry: Entry, timeout: Any) -> int:
        self.numbers += 1
        increments = self.counting.count(entry)
        self.values[self.numbers, entry] = Value(entry, self.end_of(timeout), increments=increments)
        for here, there in self.moving:
            if here == entry:
                self._may_move(self.numbers, there)
        return 1000 * self.numbers

    def move_begins(self, here: Entry, there: Entry) -> None:
        """A value of one entry, whichever it has, is about to be written to another."""
        self.moving.append((here, there))
        for number, entry in list(self.values):
            if entry == here:
                self._may_move(number, there)

    def move_ended(self, here: Entry, there: Entry) -> None:
        self.moving.remove((here, there))
        for number, entry in list(self.values):
            if entry == here:
                self.wrote(1000 * number, there)

    def _may_move(self, number: int, there: Entry) -> None:
        self.values[number, there] = Value(there, self.end_of(DEFAULT), increments=math.inf)

    def wrote(self, value: int, entry: Entry) -> None:
        """Whoever writes it has ended."""
        self.values[value // 1000, entry].written = self.event()

    def values_of(self, entry: Entry) -> list[Value]:
        return [value for value in self.values.values() if value.entry == entry]

    def floor(self, entry: Entry) -> Floor:
        """What a read that begins now may not go below."""
        counted = {number: v.counted for (number, at), v in self.values.items() if at == entry}
        return Floor(self.replaced[entry], counted)

    def may_be_read(self, entry: Entry, value: int, floor: Floor) -> None:
        """Nothing older than the last completed change, nothing past its time."""
        known = self.values.get((value // 1000, entry))
        assert known is not None, f"{value} is no value of {entry}"
        assert known.written > floor.replaced, f"{value} is older than the last change of {entry}"
        counted = floor.counted.get(value // 1000, 0)
        assert counted <= value % 1000 <= known.increments, f"{value} was counted past"
        assert self.now() < known.ends, f"{value} outlived its time"

    def may_be_there(self, entry: Entry, floor: Floor) -> None:
        assert any(
            value.written > floor.replaced and self.now() < value.ends
            for value in self.values_of(entry)
        ), f"{entry} is there, and was removed"

    def touched(self, entry: Entry, timeout: Any, *, surely: bool = False) -> None:
        end = self.end_of(timeout)
        for value in self.values_of(entry):
            there = value.written < math.inf
            value.ends = end if surely and there else max(value.ends, end)
        for locks in (self.own_locks, self.foreign_locks):
            if entry in locks:
                locks[entry].ends = min(locks[entry].ends, end)

    # Locks

    def locked(self, locks: dict[Entry, Lock], entry: Entry) -> bool:
        lock = locks.get(entry)
        return lock is not None and self.now() < lock.ends and not lock.excused

    def released(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.own_locks.pop(entry, None)
            self.foreign_locks.pop(entry, None)
            self.released_at[entry] = self.event()

    # What the layers are asked, and how that ends

    def begins(self, alias: str, command: Command) -> int:
        began = self.event()
        if isinstance(command, Replacement | Clear):
            self.changing[began] = alias, entries_of(command)
        return began

    def asks(self, alias: str, command: Command) -> None:
        """What a layer missed is not read there, not refilled, and nothing is decided on it."""
        if not isinstance(command, Read | ReadMany | Decision | Backfill):
            return
        wrong = self.wrong[alias]
        recently = self.now() - self.default
        for entry in entries_of(command):
            if entry in ENTRIES:
                assert wrong.unclear is None, f"{alias} was asked and is to be cleared"
                missed = wrong.surely.get(entry, -math.inf)
                assert missed <= recently, f"{command.name} of {entry}, which {alias} missed"

    def repair_begins(self) -> None:
        self.repairs_began.append(self.event())

    def repair_ends(self) -> None:
        self.repairs_began.pop()

    def repairs(self, alias: str, command: Command) -> int:
        """Repairs are the agent's where it can run, go in batches, and delete only."""
        assert self.ticking or self.cannot_run, "a repair within a request"
        assert isinstance(command, DeleteMany | Clear), command.name
        if self.ticking and isinstance(command, DeleteMany):
            self.repaired[alias] = self.repaired.get(alias, 0) + len(command.keys)
            assert self.repaired[alias] <= self.sim.batch, "a repair without a pause"
        self.repairing.append((alias, entries_of(command)))
        return self.repairs_began[-1]

    def makes(self, alias: str, command: Command) -> None:
        if isinstance(command, Add) and alias == self.sim.authority:
            self.added[command.key, command.version] = self.event()

    def ends(self, alias: str, command: Command, outcome: Outcome, began: int) -> None:
        repairing = self.sim.repairing == alias
        self.changing.pop(began, None)
        if repairing:
            self.repairing.pop()
        elif alias == self.sim.authority and outcome.kind is not Kind.REJECTED:
            self.longest = max([self.longest, *_timeouts_of(command)])
        if isinstance(command, Replacement) and outcome is REJECTED and not self.cannot_run:
            closed = self.sim.layer(alias).breaker.state is State.CLOSED
            assert not closed, f"{alias} was not asked for a {command.name}"
        self._ended(alias, command, outcome, began, repairing=repairing)

    def misses(self, alias: str, command: Command) -> None:
        self._ended(alias, command, REJECTED, self.event(), repairing=False)

    def _ended(
        self, alias: str, command: Command, outcome: Outcome, began: int, *, repairing: bool
    ) -> None:
        answered = outcome.answered
        known = answered or outcome is REJECTED or command.abandoned is not None
        kept = outcome.value if answered and isinstance(command, SetMany) else ()
        if isinstance(command, Clear) and (answered or not repairing):
            self._clear_ended(self.wrong[alias], began, answered=answered)
        elif not isinstance(command, Clear | Replacement):
            if isinstance(command, Backfill) and not answered:
                for entry in entries_of(command):
                    self.wrong[alias].missed[entry] = (self.event(), math.inf)
                    self._may_be_held(self.wrong[alias], entry, unless=known)
            return
        for entry in entries_of(command):
            if answered and entry[0] not in kept:
                self._reached(alias, entry, began)
            elif not repairing:
                self._missed(self.wrong[alias], entry, asked=outcome is not REJECTED)
                self._may_be_held(self.wrong[alias], entry, unless=known)

    def _clear_ended(self, wrong: Wrong, began: int, *, answered: bool) -> None:
        if not answered:
            wrong.unclear = (self.event(), self.now())
        elif wrong.unclear is not None and wrong.unclear[0] < began:
            wrong.unclear = None

    def _missed(self, wrong: Wrong, entry: Entry, *, asked: bool) -> None:
        wrong.missed[entry] = (self.event(), math.inf if asked else self.now())
        wrong.surely[entry] = self.now()

    def _may_be_held(self, wrong: Wrong, entry: Entry, *, unless: bool) -> None:
        if not unless:
            wrong.unsure.add(entry)

    def _reached(self, alias: str, entry: Entry, began: int) -> None:
        wrong = self.wrong[alias]
        wrong.surely.pop(entry, None)
        if self.waits(alias, entry):  # what is late may undo it
            wrong.missed[entry] = (self.event(), self.now())
        elif entry in wrong.missed and wrong.missed[entry][0] < began:
            del wrong.missed[entry]
            wrong.unsure.discard(entry)

    def is_late(self, call: Abandoned) -> bool:
        """Whether it is still waited for."""
        return not call.forgotten and self.now() < call.at + WAIT_SECONDS

    def waits(self, alias: str, entry: Entry) -> bool:
        late = any(
            call.alias == alias and self.is_late(call) and entry in entries_of(call.command)
            for call in self.sim.late
        )
        return late or any(at == alias and entry in under_way for at, under_way in self.repairing)

    def lands(self, call: Abandoned, *, made: bool) -> None:
        """A call that was given up ends."""
        command = call.command
        entries = [entry for entry in entries_of(command) if entry in ENTRIES]
        if made and isinstance(command, Set | SetMany | Add | Touch):
            timeout = command.timeout
            timeout = timeout if timeout is None or isinstance(timeout, int | float) else DEFAULT
            for entry in entries:
                self.touched(entry, timeout)
        if made and isinstance(command, Count):
            for value in self.values_of(entries[0]):
                value.increments += value.shared
        decides = isinstance(command, Decision)
        forgotten = not self.is_late(call)  # long after anybody waited for it
        if forgotten and call.alias == self.sim.authority and (made or decides):
            self.released(entries)
            if decides:  # of which nobody may have taken note
                self._may_show_again(entries)
        for entry in entries:
            wrong = self.wrong[call.alias]
            during_a_change = any(
                at == call.alias and entry in changed for at, changed in self.changing.values()
            )
            if forgotten or not decides or entry in wrong.missed or during_a_change:
                wrong.missed[entry] = (self.event(), self.now())
        call.land(made=made)

    # What the operator does

    def forgets(self, alias: str) -> None:
        """What this layer missed may show again, until the next change."""
        for call in self.sim.late:
            call.forgotten = call.forgotten or call.alias == alias
        wrong = self.wrong[alias]
        suspect = wrong.unclear is not None or self.sim.layer(alias).missed_changes.suspect
        self._may_show_again(ENTRIES if suspect else list(wrong.missed))
        wrong.surely.clear()
        wrong.unclear = None

    def _may_show_again(self, entries: Iterable[Entry]) -> None:
        """Whatever these ever had."""
        for entry in entries:
            self.replaced[entry] = 0
            for value in self.values_of(entry):
                value.counted, value.increments, value.ends = 0, math.inf, math.inf

    # What must hold at any time

    def check(self) -> None:
        for alias in self.sim.layers:
            ledger = self.sim.layer(alias).missed_changes
            late = len(ledger._abandoned.entries())
            assert len(ledger) <= self.sim.capacity + late, "more than there is room for"
        for alias in self.sim.layers[:-1]:
            cap: Any = NEAR_SECONDS if alias == "memory" else self.sim.timeout
            copies: Any = self.sim.behind(alias)
            for end in copies._expire_info.values() if cap else ():
                assert end is not None, f"a copy in {alias} that never ends"
                assert end <= self.now() + cap, f"a copy in {alias} that outlives its layer's TTL"
        for locks in (self.own_locks, self.foreign_locks):
            for entry in locks:
                if self.locked(locks, entry):
                    there = self.other.has_key(entry[0], version=entry[1])
                    assert there, f"{entry} was unlocked"

    def check_nothing_withheld(self) -> None:
        """What a layer cannot be wrong about is read there and decided on."""
        if self.crowded:
            return
        for alias in self.sim.layers:
            wrong, ledger = self.wrong[alias], self.sim.layer(alias).missed_changes
            for entry in ENTRIES if wrong.unclear is None else ():
                if entry not in wrong.missed and not self.waits(alias, entry):
                    assert not ledger.in_doubt(self.name(alias, entry)), f"{alias} keeps {entry}"

    def outlasted(self) -> None:
        """So much time has passed that nothing older lives in any layer."""
        for wrong in self.wrong.values():
            for entry, (_, at) in list(wrong.missed.items()):
                over = self.now() >= at + self.long and not self.eternal
                if over and entry not in wrong.unsure:
                    del wrong.missed[entry]

    def name(self, alias: str, entry: Entry) -> str:
        return str(self.sim.behind(alias).make_key(entry[0], version=entry[1]))
