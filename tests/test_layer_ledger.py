"""One layer and its ledger: what it answers, what it notes, how it is repaired."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from django.core.cache.backends.base import InvalidCacheKey
from django.core.cache.backends.locmem import LocMemCache

from django_resilient_cache import State, deadline
from django_resilient_cache.adapters.commands import (
    Command,
    Delete,
    DeleteMany,
    Get,
    GetMany,
    GetManyWithTtl,
    GetWithTtl,
    HasKey,
)
from django_resilient_cache.adapters.outcome import Kind, Outcome
from django_resilient_cache.concurrency.background import background
from django_resilient_cache.layer.layer import Layer
from django_resilient_cache.layer.repair import BATCH, IN_PASSING, PATIENCE
from django_resilient_cache.testing import faults
from tests.simulated_chain import (
    TIMEOUT,
    Interrupted,
    SimulatedChain,
    WholeSeconds,
    simulated_chain,
)


@pytest.fixture
def sim() -> Iterator[SimulatedChain]:
    """One layer alone."""
    with simulated_chain("authority", MAX_FAILURES=100) as sim:
        yield sim


@pytest.fixture
def pair() -> Iterator[SimulatedChain]:
    """Two layers with limits."""
    with simulated_chain("upper", "authority", MAX_FAILURES=100) as sim:
        yield sim


def execute(sim: SimulatedChain, command: Callable[..., Command], *args: Any) -> Outcome:
    return sim.layer("authority").execute(None, command(*args))


def miss(sim: SimulatedChain, *keys: str, alias: str = "authority") -> None:
    """Let a layer have old entries whose removal it misses."""
    for key in keys:
        sim.behind(alias).set(key, f"old {key}", version=1)
    sim.refuse(alias)
    sim.layer(alias).execute(None, DeleteMany(list(keys), 1))
    sim.heal(alias)


def held(sim: SimulatedChain, *keys: str, alias: str = "authority") -> list[str]:
    ledger = sim.layer(alias).missed_changes
    cache = sim.behind(alias)
    return [key for key in keys if ledger.is_stale(cache.make_key(key, version=1))]


# What it answers while a key is held


def test_reads_of_one_key_are_misses(sim):
    miss(sim, "a")
    for operation in (Get, HasKey, GetWithTtl):
        assert execute(sim, operation, "a", 1).kind is Kind.MISS
        assert execute(sim, operation, "a", 2).kind is Kind.MISS
    assert sim.cache.get("a", "default") == "default"
    assert not sim.cache.has_key("a")


def test_batched_reads_leave_it_out_and_ask_for_the_rest(sim):
    miss(sim, "a")
    sim.cache.set("b", 2)
    assert execute(sim, GetMany, ["a", "b"], 1).value == {"b": 2}
    found, lifetimes = execute(sim, GetManyWithTtl, ["a", "b"], 1).value
    assert found == {"b": 2}
    assert lifetimes.keys() == {"b"}
    asked = faults("authority").calls["get_many"]
    assert execute(sim, GetMany, ["a"], 1).value == {}
    assert execute(sim, GetManyWithTtl, ["a"], 1).value == ({}, {})
    assert faults("authority").calls["get_many"] == asked


@pytest.mark.parametrize(
    ("decide", "answer"),
    [
        (lambda cache: cache.add("a", 1), False),
        (lambda cache: cache.touch("a", 1), False),
        (lambda cache: cache.incr("a"), ValueError),
        (lambda cache: cache.decr("a"), ValueError),
    ],
    ids=["add", "touch", "incr", "decr"],
)
def test_decisions_wait_for_the_repair(sim, decide, answer):
    miss(sim, "a")
    asked = faults("authority").calls.total()
    if answer is ValueError:
        with pytest.raises(ValueError, match="could tell"):
            decide(sim.cache)
    else:
        assert decide(sim.cache) is answer
    assert faults("authority").calls.total() == asked
    sim.tick()
    assert sim.cache.add("a", 1) is True


def test_it_is_not_backfilled(pair):
    pair.cache.set("a", "old")
    miss(pair, "a", alias="upper")
    assert pair.cache.get("a") == "old"
    assert pair.cache.get_many(["a"]) == {"a": "old"}
    assert faults("upper").calls["add"] == 0
    pair.tick()
    assert not pair.behind("upper").has_key("a", version=1)
    assert pair.cache.get("a") == "old"
    assert pair.behind("upper").get("a", version=1) == "old"


def test_a_suspect_layer_is_written_and_not_read(sim):
    sim.layer("authority").missed_changes._capacity = 1
    miss(sim, "a", "b")
    sim.cache.set("other", 1)
    assert sim.cache.get("other") is None
    assert sim.behind("authority").get("other", version=1) == 1
    sim.clock.forward(TIMEOUT)
    assert sim.cache.get("a") is None
    assert sim.cache.get("b") is None


# What ends a note


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.set("a", "new"),
        lambda cache: cache.set_many({"a": "new"}),
        lambda cache: (cache.delete("a"), cache.set("a", "new")),
        lambda cache: (cache.delete_many(["a"]), cache.set("a", "new")),
        lambda cache: (cache.clear(), cache.set("a", "new")),
    ],
    ids=["set", "set_many", "delete", "delete_many", "clear"],
)
def test_a_later_change_that_gets_through_ends_the_note_at_once(sim, change):
    miss(sim, "a")
    change(sim.cache)
    assert sim.cache.get("a") == "new"
    assert sim.layer("authority").missed_changes.in_sync
    sim.tick()
    assert sim.cache.get("a") == "new"


def test_a_later_change_that_fails_too_does_not(sim):
    miss(sim, "a")
    sim.refuse("authority")
    sim.cache.set("a", "new")
    sim.heal("authority")
    assert sim.cache.get("a") is None


def test_a_change_that_was_under_way_does_not_end_a_newer_note(sim):
    sim.cache.set("a", "old")

    def meanwhile() -> None:
        sim.cache.set("a", "newer")
        sim.refuse("authority")
        sim.cache.delete("a")
        sim.heal("authority")

    sim.during("authority", "after", meanwhile)
    sim.cache.set("a", "new")
    assert sim.cache.get("a") is None


def test_a_clear_that_was_under_way_does_not_end_a_newer_note(sim):
    def meanwhile() -> None:
        sim.cache.set("a", "newer")
        sim.refuse("authority")
        sim.cache.delete("a")
        sim.heal("authority")

    sim.during("authority", "after", meanwhile)
    sim.cache.clear()
    assert sim.cache.get("a") is None


def test_a_backfill_ends_no_note(pair):
    """What a read found below before the change, it may write above after it."""
    pair.behind("authority").set("a", "old", version=1)

    def meanwhile() -> None:
        pair.refuse("upper")
        pair.cache.delete("a")
        pair.heal("upper")
        pair.during("upper", "after", lambda: pair.refuse("upper"))

    # After the read below and before the write above; the drop that follows that one fails.
    pair.during("authority", "after", lambda: pair.during("upper", "before", meanwhile))
    pair.cache.get("a")
    pair.heal("upper")
    assert pair.behind("upper").get("a", version=1) == "old"
    assert pair.cache.get("a") is None


def test_a_breakers_reset_does_not(sim):
    miss(sim, "a")
    sim.layer("authority").breaker.reset()
    assert sim.cache.get("a") is None
    assert sim.layer("authority").snapshot()["missed"] == 1


@pytest.mark.parametrize("order", ["force_open", "force_closed"])
def test_an_order_does_not(sim, order):
    miss(sim, "a")
    getattr(sim.layer("authority").breaker, order)()
    assert sim.cache.get("a") is None
    sim.layer("authority").breaker.auto()
    assert sim.cache.get("a") is None


# What is noted


@pytest.mark.parametrize("fault", ["refuse", "lose", "abandon", "interrupt", "rejected", "hurried"])
@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.set("a", "new"),
        lambda cache: cache.set_many({"a": "new", "b": "new"}),
        lambda cache: cache.delete("a"),
        lambda cache: cache.delete_many(["a", "b"]),
        lambda cache: cache.clear(),
    ],
    ids=["set", "set_many", "delete", "delete_many", "clear"],
)
@pytest.mark.parametrize("broken", ["upper", "authority"])
def test_no_layer_shows_again_what_it_missed(pair, broken, change, fault):
    """Row 14, every kind of failure: before, applied but answer lost, late."""
    pair.cache.set_many({"a": "old", "b": "old"})
    if fault == "rejected":
        pair.layer(broken).breaker.force_open()
    elif fault != "hurried":
        getattr(pair, fault)(broken)
    try:
        with deadline(0 if fault == "hurried" else 10):
            change(pair.cache)
    except Interrupted:
        pair.heal(broken)
        change(pair.cache)
    pair.heal(broken)
    pair.layer(broken).breaker.reset()
    read = [lambda: pair.cache.get("a"), lambda: pair.cache.get_many(["a"]).get("a")]
    for _ in range(4):
        assert all(get() in ("new", None) for get in read)
        if pair.late:
            pair.late.popleft().land()
        assert all(get() in ("new", None) for get in read)
        pair.tick()
    assert pair.layer("upper").missed_changes.in_sync
    assert pair.layer("authority").missed_changes.in_sync
    assert pair.behind("authority").get("a", version=1) in ("new", None)


@pytest.mark.parametrize("fault", ["refuse", "lose", "abandon", "interrupt", "rejected"])
@pytest.mark.parametrize(
    "decide",
    [
        lambda cache: cache.add("a", 1),
        lambda cache: cache.incr("a"),
        lambda cache: cache.touch("a", 10),
    ],
    ids=["add", "incr", "touch"],
)
def test_what_was_decided_by_nobody_never_enters_the_ledger(sim, decide, fault):
    """A later repair would delete another worker's lock or counter."""
    if fault == "rejected":
        sim.layer("authority").breaker.force_open()
    else:
        getattr(sim, fault)("authority")
    with suppress(ValueError, Interrupted):
        decide(sim.cache)
    assert len(sim.layer("authority").missed_changes) == 0
    sim.heal("authority")
    sim.layer("authority").breaker.reset()
    sim.behind("authority").set("a", 7, version=1)
    sim.tick()
    for late in sim.late:
        late.land()
    sim.tick()
    assert sim.cache.get("a") in (7, 8)
    assert sim.layer("authority").missed_changes.in_sync


def test_keys_that_a_batch_did_not_take_are_missed(sim, monkeypatch):
    sim.cache.set_many({"a": "old", "b": "old"})
    monkeypatch.setattr(LocMemCache, "set_many", lambda *args, **kwargs: ["a"])
    assert sim.cache.set_many({"a": "too large", "b": "new"}) == ["a"]
    monkeypatch.undo()
    assert held(sim, "a", "b") == ["a"]
    assert sim.cache.get("a") is None


def test_a_change_that_ends_early_is_noted_by_the_layers_it_did_not_come_to(pair):
    pair.cache.set("a", "old")
    pair.interrupt("authority")
    with pytest.raises(Interrupted):
        pair.cache.set("a", "new")
    asked = faults("upper").calls.total()
    assert held(pair, "a", alias="upper") == ["a"]
    assert held(pair, "a", alias="authority") == ["a"]
    assert faults("upper").calls.total() == asked
    assert pair.cache.get("a") is None


def test_a_change_that_ends_early_is_dropped_from_a_direct_layer():
    with simulated_chain("memory", "authority") as sim:
        sim.cache.set("a", "old")
        sim.interrupt("authority")
        with pytest.raises(Interrupted):
            sim.cache.set("a", "new")
        assert not sim.behind("memory").has_key("a", version=1)


@pytest.mark.parametrize("shape", [("memory", "authority"), ("upper", "authority")])
def test_an_incr_of_nothing_leaves_no_note(shape):
    with simulated_chain(*shape) as sim:
        sim.behind(shape[0]).set("a", 1, version=1)
        with pytest.raises(ValueError, match="not found"):
            sim.cache.incr("a")
        assert all(sim.layer(alias).missed_changes.in_sync for alias in shape)
        assert not sim.behind(shape[0]).has_key("a", version=1)


def test_a_mistake_of_the_callers_leaves_no_note(sim):
    with pytest.raises((TypeError, AttributeError), match="pickle"):
        sim.cache.set("a", threading.Lock())
    assert sim.layer("authority").missed_changes.in_sync


# Late calls


def test_a_key_waits_for_the_end_of_a_call_that_was_given_up(sim):
    sim.cache.set("a", "old")
    sim.abandon("authority")
    sim.cache.set("a", "late")
    sim.heal("authority")
    sim.cache.delete("a")
    sim.tick()
    assert held(sim, "a") == ["a"]
    sim.late.popleft().land()
    assert sim.cache.get("a") is None
    sim.tick()
    assert held(sim, "a") == []
    assert not sim.behind("authority").has_key("a", version=1)


def test_a_key_waits_for_the_end_of_a_call_whose_caller_was_interrupted(sim):
    sim.interrupt("authority")
    with pytest.raises(Interrupted):
        sim.cache.set("a", "late")
    sim.heal("authority")
    sim.cache.delete("a")
    sim.late.popleft().land()
    assert sim.cache.get("a") is None


def test_a_late_backfill_does_not_bring_back_what_was_removed_after_it(pair):
    pair.behind("authority").set("a", "old", version=1)
    pair.during("authority", "after", lambda: pair.abandon("upper"))
    assert pair.cache.get("a") == "old"
    pair.heal("upper")
    pair.cache.delete("a")
    pair.late.popleft().land()
    assert pair.behind("upper").get("a", version=1) == "old"
    assert pair.cache.get("a") is None


def test_a_late_add_does_not_undo_a_change_that_came_after_it(sim):
    sim.abandon("authority")
    assert not sim.cache.add("a", "late")
    sim.heal("authority")
    sim.cache.delete("a")
    sim.late.popleft().land()
    assert sim.behind("authority").get("a", version=1) == "late"
    assert sim.cache.get("a") is None
    sim.tick()
    assert not sim.behind("authority").has_key("a", version=1)


def test_a_repair_that_was_given_up_does_not_delete_what_is_won_later(sim):
    miss(sim, "a")
    sim.abandon("authority")
    sim.tick()
    sim.heal("authority")
    sim.cache.delete("a")
    assert not sim.cache.add("a", "lock")  # it could be deleted yet
    sim.late.popleft().land()
    sim.tick()
    assert sim.cache.add("a", "lock")


@pytest.mark.parametrize("fault", ["abandon", "interrupt"])
def test_a_late_repair_keeps_its_keys(sim, fault):
    miss(sim, "a")
    getattr(sim, fault)("authority")
    try:
        sim.tick()
    except Interrupted:
        assert fault == "interrupt"
    sim.heal("authority")
    sim.tick()
    assert held(sim, "a") == ["a"]
    sim.late.popleft().land()
    sim.tick()
    assert held(sim, "a") == []


def test_nothing_is_decided_while_a_repair_is_under_way(sim):
    miss(sim, "a")
    won: list[bool] = []

    def meanwhile() -> None:
        sim.cache.delete("a")
        won.append(sim.cache.add("a", "lock"))

    sim.during("authority", "before", meanwhile)
    sim.tick()
    assert won == [False]


@pytest.mark.parametrize(
    ("decide", "answer"),
    [
        (lambda cache: cache.add("a", "lock"), False),
        (lambda cache: cache.touch("a", 10), False),
        (lambda cache: cache.incr("a"), None),
    ],
    ids=["add", "touch", "incr"],
)
def test_what_was_decided_on_a_key_that_is_missed_meanwhile_was_decided_by_nobody(
    sim, decide, answer
):
    """Its repair would end the lock, and another one would win it."""

    def meanwhile() -> None:
        sim.lose("authority")
        sim.cache.set("a", 1)
        sim.heal("authority")

    if answer is None:
        sim.cache.set("a", 1)
    sim.during("authority", "after", meanwhile)
    if answer is None:
        with pytest.raises(ValueError, match="could tell"):
            decide(sim.cache)
    else:
        assert decide(sim.cache) is answer
    sim.tick()
    assert sim.cache.add("a", "lock")


def test_nothing_is_decided_while_a_missed_clear_is_made_up_for(sim):
    sim.refuse("authority")
    sim.cache.clear()
    sim.heal("authority")
    won: list[bool] = []

    def meanwhile() -> None:
        sim.cache.clear()  # gets through, and ends the suspicion
        won.append(sim.cache.add("a", "lock"))

    sim.during("authority", "before", meanwhile)
    sim.tick()
    assert won == [False]


def test_nothing_is_decided_while_a_clear_may_land(sim):
    sim.abandon("authority")
    sim.cache.clear()
    sim.heal("authority")
    sim.tick()
    assert not sim.cache.add("a", "lock")
    sim.cache.set("b", 1)
    assert sim.cache.get("b") == 1
    sim.late.popleft().land()
    sim.tick()
    assert sim.cache.add("a", "lock")


# How long a note stays


def test_a_note_stays_for_as_long_as_the_longest_timeout_used_there(sim):
    sim.cache.set("other", 1, timeout=1000)
    miss(sim, "a")
    sim.behind("authority").set("a", "old", 1000, version=1)
    sim.layer("authority").breaker.force_open()
    sim.clock.forward(999)
    sim.tick()
    sim.layer("authority").breaker.reset()
    assert sim.cache.get("a") is None
    sim.tick()
    sim.clock.forward(2)
    assert sim.layer("authority").missed_changes.in_sync


@pytest.mark.parametrize("fault", ["lose", "abandon", "interrupt"])
@pytest.mark.parametrize(
    "write",
    [
        lambda cache: cache.set("a", 1, timeout=None),
        lambda cache: cache.set_many({"a": 1}, timeout=None),
        lambda cache: cache.add("a", 1, timeout=None),
        lambda cache: cache.touch("a", None),
    ],
    ids=["set", "set_many", "add", "touch"],
)
def test_also_if_it_is_not_known_whether_it_was_used(sim, write, fault):
    getattr(sim, fault)("authority")
    try:
        write(sim.cache)
    except Interrupted:
        assert fault == "interrupt"
    sim.heal("authority")
    for late in sim.late:
        late.land()
    sim.layer("authority").breaker.force_open()
    sim.cache.delete("b")
    sim.clock.forward(1e9)
    sim.tick()
    assert held(sim, "b") == ["b"]


@pytest.mark.parametrize("timeout", [Decimal(1000), "1000"], ids=["decimal", "string"])
def test_whatever_a_timeout_is_as_long_as_the_layer_takes_it(timeout):
    with simulated_chain("authority", behind=WholeSeconds) as sim:
        sim.cache.set("a", "old", timeout=timeout)
        sim.layer("authority").breaker.force_open()
        sim.cache.delete("a")
        sim.clock.forward(999)
        sim.tick()
        sim.layer("authority").breaker.reset()
        assert sim.behind("authority").get("a", version=1) == "old"
        assert sim.cache.get("a") is None


def test_or_backfilled():
    with simulated_chain("upper", "authority", timeout=None) as sim:
        sim.behind("authority").set("a", "old", timeout=1000, version=1)
        assert sim.cache.get("a") == "old"
        sim.layer("upper").breaker.force_open()
        sim.cache.delete("a")
        sim.clock.forward(500)
        sim.tick()
        sim.layer("upper").breaker.reset()
        assert sim.behind("upper").get("a", version=1) == "old"
        assert sim.cache.get("a") is None


def test_what_cannot_be_there_any_more_makes_room(sim):
    sim.layer("authority").breaker.force_open()
    sim.cache.delete("a")
    sim.clock.forward(TIMEOUT)
    sim.tick()
    assert len(sim.layer("authority").missed_changes) == 0


# Repair


def test_a_repair_goes_in_batches_and_says_whether_there_is_more(sim):
    keys = [f"key{n}" for n in range(2 * BATCH + 1)]
    miss(sim, *keys)
    layer, calls = sim.layer("authority"), faults("authority").calls
    before = calls["delete_many"]
    assert [layer.repair(), layer.repair(), layer.repair()] == [True, True, False]
    assert calls["delete_many"] - before == 3
    assert layer.missed_changes.in_sync
    assert not sim.behind("authority").get_many(keys, version=1)


def test_a_repair_keeps_what_succeeded(sim):
    for version in (1, 2, 3):
        sim.cache.set("a", "old", version=version)
    sim.layer("authority").breaker.force_open()
    for version in (1, 2, 3):
        sim.cache.delete("a", version=version)
    sim.layer("authority").breaker.reset()

    def second_call_fails() -> None:
        sim.during("authority", "before", lambda: sim.refuse("authority"))

    sim.during("authority", "after", second_call_fails)
    assert not sim.layer("authority").repair()
    assert len(sim.layer("authority").missed_changes) == 2
    sim.heal("authority")
    sim.tick()
    assert sim.layer("authority").missed_changes.in_sync


def test_a_repair_leaves_alone_what_was_made_up_for_since_it_looked(sim):
    """It may come to a key when that was deleted by somebody else, and is a lock now."""
    sim.cache.set("a", "old", version=1)
    sim.cache.set("a", "old", version=2)
    sim.layer("authority").breaker.force_open()
    sim.cache.delete("a", version=1)
    sim.cache.delete("a", version=2)
    sim.layer("authority").breaker.reset()

    def meanwhile() -> None:
        sim.cache.delete("a", version=2)
        assert sim.cache.add("a", "lock", version=2)

    sim.during("authority", "before", meanwhile)
    sim.tick()
    assert sim.behind("authority").get("a", version=1) is None
    assert sim.behind("authority").get("a", version=2) == "lock"
    assert sim.layer("authority").missed_changes.in_sync


def test_a_missed_clear_is_not_made_up_for_twice(sim, monkeypatch):
    """Another thread may have cleared it since the repair looked, and won a lock."""
    sim.cache.set("a", "old")
    sim.refuse("authority")
    sim.cache.clear()
    sim.heal("authority")
    layer = sim.layer("authority")
    repair_clear = type(layer._repair)._clear

    def late(self):
        sim.cache.clear()
        assert sim.cache.add("a", "lock")
        return repair_clear(self)

    monkeypatch.setattr(type(layer._repair), "_clear", late)
    sim.tick()
    assert sim.cache.get("a") == "lock"
    assert layer.missed_changes.in_sync


def test_a_repair_deletes_and_never_sets(sim):
    miss(sim, "a", "b")
    calls = faults("authority").calls
    calls.clear()
    sim.tick()
    assert dict(calls) == {"delete_many": 1}


def test_a_repair_makes_up_for_a_clear_first(sim):
    sim.cache.set("a", "old")
    sim.refuse("authority")
    sim.cache.clear()
    sim.heal("authority")
    assert sim.cache.get("a") is None
    sim.cache.set("b", "new")
    sim.tick()
    assert sim.behind("authority").get_many(["a", "b"], version=1) == {}
    assert sim.layer("authority").missed_changes.in_sync


def test_a_repair_takes_back_only_the_notes_it_made_up_for(sim):
    miss(sim, "a")

    def meanwhile() -> None:
        sim.cache.set("a", "newer")
        miss(sim, "a")

    sim.during("authority", "after", meanwhile)
    sim.tick()
    assert held(sim, "a") == ["a"]
    assert sim.cache.get("a") is None


def test_a_repaired_clear_takes_back_only_the_notes_from_before_it(sim):
    sim.refuse("authority")
    sim.cache.clear()
    sim.heal("authority")

    def meanwhile() -> None:
        sim.cache.set("a", "newer")
        sim.refuse("authority")
        sim.cache.delete("a")
        sim.during("authority", "before", lambda: None)

    sim.during("authority", "after", meanwhile)
    sim.tick()
    sim.heal("authority")
    assert held(sim, "a") == ["a"]
    assert sim.cache.get("a") is None


def test_a_repair_has_its_own_permits_and_its_failures_open_the_breaker():
    with simulated_chain("authority", MAX_FAILURES=2) as sim:
        miss(sim, "a")
        sim.refuse("authority")
        sim.tick()
        assert sim.layer("authority").breaker.state is State.OPEN
        asked = faults("authority").calls.total()
        assert sim.layer("authority").tend() == pytest.approx(5)
        assert faults("authority").calls.total() == asked
        sim.heal("authority")
        sim.clock.forward(5)
        sim.tick()
        assert sim.layer("authority").breaker.state is State.CLOSED
        assert sim.layer("authority").missed_changes.in_sync


def test_a_repair_goes_through_forced_closed_and_not_through_forced_open(sim):
    layer = sim.layer("authority")
    miss(sim, "a")
    layer.breaker.force_open()
    assert layer.tend() is None
    assert held(sim, "a") == ["a"]
    layer.breaker.force_closed()
    sim.tick()
    assert layer.missed_changes.in_sync


def test_a_layer_that_goes_on_failing_is_repaired_later(sim):
    miss(sim, "a")
    sim.refuse("authority")
    assert sim.layer("authority").tend() == PATIENCE
    sim.heal("authority")
    sim.tick()
    assert sim.layer("authority").missed_changes.in_sync


def test_an_idle_process_tries_whether_its_layer_is_well_again():
    with simulated_chain("authority", MAX_FAILURES=1, HALF_OPEN_SUCCESSES=2) as sim:
        layer = sim.layer("authority")
        sim.refuse("authority")
        sim.cache.get("a")
        sim.heal("authority")
        assert layer.breaker.state is State.OPEN
        for _ in range(10):
            sim.clock.forward(layer.tend() or 0)
        assert layer.breaker.state is State.CLOSED
        assert layer.tend() is None


def test_also_while_all_that_was_missed_waits_for_late_calls():
    with simulated_chain("authority", MAX_FAILURES=2) as sim:
        layer = sim.layer("authority")
        sim.abandon("authority")
        sim.cache.set("a", "late")
        sim.cache.set("a", "late too")
        sim.heal("authority")
        assert layer.breaker.state is State.OPEN
        for _ in range(10):
            sim.clock.forward(layer.tend() or 0)
        assert layer.breaker.state is State.CLOSED


# What cannot be repaired


@pytest.mark.filterwarnings("ignore::django.core.cache.CacheKeyWarning")
@pytest.mark.parametrize("version", [[1], float("nan"), object(), "x" * 300, -1])
def test_any_version_that_a_key_can_be_made_with_is_repaired(sim, version):
    sim.cache.set("a", "old", version=version)
    sim.layer("authority").breaker.force_open()
    sim.cache.delete("a", version=version)
    sim.cache.delete("b")
    sim.layer("authority").breaker.reset()
    assert sim.cache.get("a", version=version) is None
    sim.tick()
    assert sim.layer("authority").missed_changes.in_sync
    assert not sim.behind("authority").has_key("a", version=version)


def test_a_key_that_the_layer_does_not_take_keeps_no_other_from_repair(sim, monkeypatch):
    plain = LocMemCache.validate_key

    def picky(self: LocMemCache, key: str) -> None:
        if "hostile" in key:
            raise InvalidCacheKey(key)
        plain(self, key)

    miss(sim, "a", "hostile", "b")
    monkeypatch.setattr(LocMemCache, "validate_key", picky)
    sim.tick()
    assert sim.layer("authority").missed_changes.in_sync
    assert not sim.behind("authority").get_many(["a", "b"], version=1)


def test_a_layer_that_cannot_be_tended_keeps_no_other_waiting(pair, monkeypatch):
    miss(pair, "a", alias="authority")
    upper = pair.layer("upper")

    whole = Layer.tend

    def tend(self: Layer) -> float | None:
        if self is upper:
            raise ZeroDivisionError
        return whole(self)

    monkeypatch.setattr(Layer, "tend", tend)
    pair.tick()
    assert pair.layer("authority").missed_changes.in_sync


def test_a_clear_that_the_layer_does_not_have_does_not_make_it_suspect_for_ever(sim, monkeypatch):
    def clear(self: LocMemCache) -> None:
        raise NotImplementedError

    miss(sim, "a")
    sim.layer("authority").breaker.force_open()
    sim.cache.clear()
    sim.layer("authority").breaker.reset()
    sim.cache.set("b", 1)
    with monkeypatch.context() as patch:
        patch.setattr(LocMemCache, "clear", clear)
        sim.tick()
    assert sim.cache.get("b") == 1
    assert not sim.behind("authority").has_key("a", version=1)


# Where no thread can run


def test_a_call_repairs_a_few_where_the_agent_cannot(sim, monkeypatch):
    miss(sim, *[f"key{n}" for n in range(3 * IN_PASSING)])
    monkeypatch.setattr(type(background), "cannot_run", True)
    sim.cache.get("anything")
    assert len(sim.layer("authority").missed_changes) == 2 * IN_PASSING
    sim.cache.get("anything")
    sim.cache.get("anything")
    assert sim.layer("authority").missed_changes.in_sync


def test_a_change_whose_caller_is_ended_in_such_a_repair_is_missed(sim, monkeypatch):
    sim.cache.set("b", "old")
    miss(sim, "a")
    monkeypatch.setattr(type(background), "cannot_run", True)
    sim.interrupt("authority")
    with pytest.raises(Interrupted):
        sim.cache.delete("b")
    sim.heal("authority")
    assert held(sim, "b") == ["b"]


def test_a_caller_that_is_ended_waits_for_no_repair(sim, monkeypatch):
    sim.cache.set("b", "old")
    miss(sim, "a")
    monkeypatch.setattr(type(background), "cannot_run", True)
    sim.interrupt("authority")
    sim.layer("authority").miss(Delete("b", sim.cache.version))
    sim.heal("authority")
    assert held(sim, "a", "b") == ["a", "b"]


def test_nor_does_it_leave_a_copy_above_for_one(monkeypatch):
    with simulated_chain("memory", "upper", "authority") as sim:
        sim.cache.set("a", "old")
        monkeypatch.setattr(type(background), "cannot_run", True)
        sim.interrupt("upper")
        with pytest.raises(Interrupted):
            sim.cache.clear()
        assert sim.behind("memory").get("a") is None


def test_a_forked_process_takes_over_what_is_to_be_repaired(sim):
    miss(sim, "a")
    background.ensure_running.reset_mock()  # type: ignore[attr-defined]  # a mock
    sim.cache.get("a")
    background.ensure_running.assert_called()  # type: ignore[attr-defined]  # a mock


# What the agent is woken for


def test_the_agent_is_woken_by_the_first_note_and_not_by_each(sim):
    sim.layer("authority").breaker.force_open()
    background.wake.reset_mock()  # type: ignore[attr-defined]  # a mock
    for n in range(10):
        sim.cache.delete(f"key{n}")
    assert background.wake.call_count == 1  # type: ignore[attr-defined]  # a mock


def test_the_agent_is_woken_when_a_late_call_has_landed(sim):
    sim.abandon("authority")
    sim.cache.delete("a")
    background.wake.reset_mock()  # type: ignore[attr-defined]  # a mock
    sim.late.popleft().land()
    assert background.wake.call_count == 1  # type: ignore[attr-defined]  # a mock


# What it says


def shown(sim: SimulatedChain) -> dict[str, Any]:
    return json.loads(json.dumps(sim.layer("authority").snapshot(), allow_nan=False))


def test_the_snapshot_names_what_was_missed(sim):
    miss(sim, "a", "b")
    found = shown(sim)
    assert (found["missed"], found["suspect"], found["suspect_seconds"]) == (2, False, 0)
    sim.refuse("authority")
    sim.cache.clear()
    found = shown(sim)
    assert (found["missed"], found["suspect"], found["suspect_seconds"]) == (2, True, None)


def test_the_snapshot_says_for_how_long_a_layer_is_suspect():
    with simulated_chain("authority", capacity=1) as sim:
        sim.layer("authority").breaker.force_open()
        sim.cache.delete_many(["a", "b"])
        found = shown(sim)
        assert (found["suspect"], found["suspect_seconds"]) == (True, TIMEOUT)


def test_the_snapshot_says_when_a_trial_is_to_come(sim):
    breaker = sim.layer("authority").breaker
    assert shown(sim)["retry_after"] is None
    for order in (breaker.force_open, breaker.force_closed):
        order()
        assert shown(sim)["retry_after"] is None
    breaker.reset()
    while breaker.state is State.CLOSED:
        breaker.acquire().failure()
    assert shown(sim)["retry_after"] == 5
    sim.clock.forward(5)
    assert shown(sim)["retry_after"] == 0
    permit = breaker.acquire()
    assert 0 < shown(sim)["retry_after"] < float("inf")
    permit.release()
    assert shown(sim)["retry_after"] == 0
