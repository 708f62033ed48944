"""What the process with the chain does, what the worker beside it does, and what the model makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from unittest import mock

from django_resilient_cache import CacheUnavailable
from django_resilient_cache.layer import registry
from django_resilient_cache.layer.layer import Layer
from tests.property_model import DEFAULT, ENTRIES, KEYS, Entry, Lock, Model, entries_of
from tests.simulated_chain import Interrupted, SimulatedChain

READS = ["get", "get_many", "has_key"]
REPLACEMENTS = ["set", "set_many", "delete", "delete_many", "clear"]
DECISIONS = ["add", "incr", "decr", "touch"]
COMPUTATIONS = ["get_or_set", "compute"]
FOREIGN = ["foreign set", "foreign delete", "foreign add", "foreign incr"]
#: By what a layer may come to have an entry, or to have it for longer.
WRITES = ["set", "set_many", "add", "touch", "get_or_set", "backfill"]


def tended(layer: Layer) -> float | None:
    """As the registry does it, but for what the model has to say."""
    try:
        return layer.tend()
    except AssertionError:
        raise
    except Exception:
        return None


class Process:
    """Does one thing at a time; what it does may be nested in another one's calls."""

    sim: SimulatedChain
    model: Model
    cache: Any
    other: Any
    """The worker beside it, on the authority."""

    # What this process does

    def do(self, name: str, entry: Entry, timeout: Any) -> None:
        if name == "tick":
            self.agent_round()
        elif name in ("break", "heal"):
            alias = self.sim.faulty[-1]
            self.sim.heal(alias)
            if name == "break":
                self.sim.standing[alias] = "refuse"
        elif name == "land":
            self.land_one(-1, made=True)
        elif name.startswith("foreign "):
            self.foreign(name.removeprefix("foreign "), entry, timeout)
        elif name.startswith("missed "):
            self.missed(name.removeprefix("missed "), entry, timeout)
        elif name.startswith("lost "):
            self.missed(name.removeprefix("lost "), entry, timeout, "lose")
        elif name in READS:
            getattr(self, f"do_{name}")(entry)
        elif name in REPLACEMENTS:
            self.replace(name, entry, timeout)
        else:
            getattr(self, f"do_{name}")(entry, timeout)

    def missed(self, name: str, entry: Entry, timeout: Any, fault: str = "refuse") -> None:
        """The authority has an entry and misses a change of it."""
        alias = self.sim.authority
        self.replace("set", entry, timeout)
        self.sim.standing[alias] = fault
        self.replace(name, entry, timeout)
        self.sim.heal(alias)

    def do_all(self, others: Any) -> None:
        for other in others:
            self.do(*other)

    def write_long(self, name: str, entry: Entry, fault: str) -> None:
        """Write an entry that lives for longer than others; `fault`: of the authority."""
        long = None if self.model.eternal else self.model.long
        if name in ("touch", "backfill"):
            self.replace("set", entry, DEFAULT)
        elif name in ("add", "get_or_set"):
            self.replace("delete", entry, DEFAULT)
        if name != "backfill":
            if fault:
                self.sim.standing[self.sim.authority] = fault
            self.do(name, entry, long)
            self.sim.heal(self.sim.authority)
            self.land_one(-1, made=True)
            return
        self.do("touch", entry, long)  # nobody else's entries live longer
        self.foreign("set", entry, long)
        self.evict_above(entry)
        self.do_get(entry)

    def evict_above(self, entry: Entry) -> None:
        for alias in self.sim.layers[:-1]:
            self.sim.behind(alias).delete(entry[0], version=entry[1])

    def faulty(self, layer: int) -> str:
        return self.sim.faulty[layer % len(self.sim.faulty)]

    def rounds(self, number: int) -> None:
        """Let what is to be repaired be repaired, by whoever does that."""
        for _ in range(number):
            if self.model.cannot_run:
                self.answer(lambda: self.cache.get("nothing"))
            else:
                self.agent_round()

    def do_get(self, entry: Entry) -> None:
        floor = self.model.floor(entry)
        value = self.answer(lambda: self.cache.get(entry[0], version=entry[1]))
        if value is not None:
            self.model.may_be_read(entry, value, floor)

    def do_get_many(self, entry: Entry) -> None:
        floors = {at: self.model.floor(at) for at in ENTRIES}
        found = self.answer(lambda: self.cache.get_many(KEYS, version=entry[1]))
        for key, value in (found or {}).items():
            self.model.may_be_read((key, entry[1]), value, floors[key, entry[1]])

    def do_has_key(self, entry: Entry) -> None:
        floor = self.model.floor(entry)
        if self.answer(lambda: self.cache.has_key(entry[0], version=entry[1])):
            self.model.may_be_there(entry, floor)

    def replace(self, name: str, entry: Entry, timeout: Any) -> None:
        model = self.model
        timeout, timed = self.timed(timeout)
        key, version = entry
        one = name in ("set", "delete")
        changed = [entry] if one else [(key, version) for key in KEYS]
        changed = ENTRIES if name == "clear" else changed
        model.released(changed)
        began = model.event()
        new = {at: model.new_value(at, timeout) for at in changed} if "set" in name else {}
        for at, value in new.items():
            model.values[value // 1000, at].shared = False
        calls: dict[str, Callable[[], object]] = {
            "set": lambda: self.cache.set(key, new[entry], *timed, version=version),
            "set_many": lambda: self.cache.set_many(
                {at[0]: value for at, value in new.items()}, *timed, version=version
            ),
            "delete": lambda: self.cache.delete(key, version=version),
            "delete_many": lambda: self.cache.delete_many(KEYS, version=version),
            "clear": self.cache.clear,
        }
        completed = self.answer(calls[name], interrupted=Interrupted) is not Interrupted
        model.released(changed)
        for at, value in new.items():
            model.wrote(value, at)
        for at in changed:
            if completed:
                model.replaced[at] = max(model.replaced[at], began)
            else:
                self.nothing_older_is_above(at, began)

    def nothing_older_is_above(self, entry: Entry, began: int) -> None:
        """A change that ended early leaves no copy from before it to be read."""
        for alias in self.sim.layers[:-1]:
            held = self.sim.layer(alias).missed_changes.is_stale(self.model.name(alias, entry))
            copy: Any = self.sim.behind(alias).get(entry[0], version=entry[1])
            if copy is not None and not held:
                written = self.model.values[copy // 1000, entry].written
                assert written > began, f"{alias} has {copy}, from before a change that ended early"

    def do_add(self, entry: Entry, timeout: Any) -> None:
        model = self.model
        timeout, timed = self.timed(timeout)
        began = model.event()
        value = model.new_value(entry, timeout)
        own, foreign = model.own_locks.get(entry), model.foreign_locks.get(entry)
        won = self.answer(lambda: self.cache.add(entry[0], value, *timed, version=entry[1]))
        model.wrote(value, entry)
        if won is True:
            for locks, lock in ((model.own_locks, own), (model.foreign_locks, foreign)):
                held = lock is not None and locks.get(entry) is lock
                assert not (held and model.locked(locks, entry)), f"{entry} was won twice"
            if model.released_at.get(entry, 0) < model.added[entry]:
                model.released([entry])
                model.own_locks[entry] = Lock(model.values[value // 1000, entry].ends)
            model.replaced[entry] = max(model.replaced[entry], began)

    def do_incr(self, entry: Entry, timeout: Any) -> None:
        self.count(entry, lambda: self.cache.incr(entry[0], version=entry[1]))

    def do_decr(self, entry: Entry, timeout: Any) -> None:
        self.count(entry, lambda: self.cache.decr(entry[0], -1, version=entry[1]))

    def count(self, entry: Entry, call: Callable[[], Any]) -> None:
        model = self.model
        floor = model.floor(entry)
        for value in model.values_of(entry):
            value.increments += 1
        model.counting.append(entry)
        result = self.answer(call)
        model.counting.remove(entry)
        if isinstance(result, int):
            model.may_be_read(entry, result, floor)
            counted = model.values[result // 1000, entry]
            counted.counted = max(counted.counted, result % 1000)

    def do_touch(self, entry: Entry, timeout: Any) -> None:
        timeout, timed = self.timed(timeout)
        self.model.touched(entry, timeout)
        events = self.model.numbers, len(self.sim.late)
        done = self.answer(lambda: self.cache.touch(entry[0], *timed, version=entry[1]))
        alone = events == (self.model.numbers, len(self.sim.late))
        self.model.touched(entry, timeout, surely=done is True and alone)

    def do_get_or_set(self, entry: Entry, timeout: Any) -> None:
        """With a value, which is as old as the call."""
        timeout, timed = self.timed(timeout)
        floor = self.model.floor(entry)
        value = self.model.new_value(entry, timeout)
        found = self.answer(
            lambda: self.cache.get_or_set(entry[0], value, *timed, version=entry[1])
        )
        if found is not None:
            self.model.may_be_read(entry, found, floor)
        self.model.wrote(value, entry)

    def do_compute(self, entry: Entry, timeout: Any) -> None:
        """With a computation, whose result is as old as its inputs.

        Where the key was changed meanwhile it is deleted afterwards, whatever it has by then.
        """
        began = self.model.event()
        timeout, timed = self.timed(timeout)
        floor = self.model.floor(entry)

        def compute() -> int:
            value = self.model.new_value(entry, timeout)
            self.model.wrote(value, entry)
            self.sim.come("computation")
            self.sim.meanwhile("computation", "after")
            return value

        found = self.answer(
            lambda: self.cache.get_or_set(entry[0], compute, *timed, version=entry[1])
        )
        if found is not None:
            self.model.may_be_read(entry, found, floor)
        if self.model.released_at.get(entry, 0) > began:
            self.model.released([entry])

    def do_incr_version(self, entry: Entry, timeout: Any) -> None:
        """Written there, then removed here."""
        model = self.model
        key, version = entry
        there, by = (key, 3 - version), 3 - 2 * version
        floor = model.floor(entry)
        value = self.answer(lambda: self.cache.get(key, version=version))
        if value is None:
            return
        model.may_be_read(entry, value, floor)
        model.released([entry, there])
        began = model.event()
        model.move_begins(entry, there)
        moved = self.answer(
            lambda: self.cache.incr_version(key, by, version=version), interrupted=Interrupted
        )
        model.move_ended(entry, there)
        if moved is not None and moved is not Interrupted:
            for at in (entry, there):
                model.replaced[at] = max(model.replaced[at], began)

    def timed(self, timeout: Any, longest: float = math.inf) -> tuple[Any, tuple[Any, ...]]:
        """The timeout, and how it is passed on.

        `longest`: no other worker's entries live longer than any of this process.
        """
        if timeout is None and (longest < math.inf or not self.model.eternal):
            timeout = DEFAULT
        elif timeout is not None and timeout is not DEFAULT:
            timeout = min(timeout, longest)
        return timeout, () if timeout is DEFAULT else (timeout,)

    def answer(self, call: Callable[[], Any], interrupted: Any = None) -> Any:
        try:
            return call()
        except (CacheUnavailable, ValueError):
            return None
        except Interrupted:
            return interrupted

    def land_one(self, which: int, *, made: bool) -> None:
        late = self.sim.late
        if late:
            late.rotate(-(which % len(late)))
            self.model.lands(late.popleft(), made=made)

    def agent_round(self) -> None:
        model, outer = self.model, self.model.ticking
        if outer or model.cannot_run:
            return
        model.ticking, model.repaired = True, {}
        try:
            with mock.patch.object(registry, "_tended", tended):
                self.answer(self.sim.tick)
        finally:
            model.ticking = False

    def foreign(self, name: str, entry: Entry, timeout: Any) -> None:
        model = self.model
        timeout, timed = self.timed(timeout, model.longest)
        key, version = entry
        if self.sim.standing.get(self.sim.authority) == "freeze":
            return
        value = model.new_value(entry, timeout)
        if name == "set":
            model.released([entry])
            self.other.set(key, value, *timed, version=version)
        elif name == "delete":
            model.released([entry])
            self.other.delete(key, version=version)
        elif name == "incr":
            for known in model.values_of(entry):
                known.increments += 1
            self.answer(lambda: self.other.incr(key, version=version))
        elif self.other.add(key, value, *timed, version=version):
            for locks in (model.own_locks, model.foreign_locks):
                assert not model.locked(locks, entry), f"the lock {entry} was deleted"
            model.released([entry])
            wrong = model.wrong[self.sim.authority]
            excused = (
                entry in wrong.missed
                or wrong.unclear is not None
                or any(
                    call.alias == self.sim.authority and entry in entries_of(call.command)
                    for call in self.sim.late
                )
            )
            model.foreign_locks[entry] = Lock(model.end_of(timeout), excused)
        model.wrote(value, entry)
