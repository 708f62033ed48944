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
from django_resilient_cache.adapters import operations, remaining_ttl
from django_resilient_cache.adapters.outcome import Kind, Outcome
from django_resilient_cache.concurrency.background import background
from django_resilient_cache.layer.layer import PATIENCE, REPAIR_BATCH, REPAIR_IN_PASSING, Layer
from django_resilient_cache.testing import faults
from tests.stage import TIMEOUT, Interrupted, Stage, WholeSeconds, staged


@pytest.fixture
def stage() -> Iterator[Stage]:
    """One layer alone."""
    with staged("authority", MAX_FAILURES=100) as stage:
        yield stage


@pytest.fixture
def pair() -> Iterator[Stage]:
    """Two layers with limits."""
    with staged("upper", "authority", MAX_FAILURES=100) as stage:
        yield stage


def execute(stage: Stage, operation: Callable[..., Outcome], *args: Any) -> Outcome:
    return stage.layer("authority").execute(None, operation, args)


def miss(stage: Stage, *keys: str, alias: str = "authority") -> None:
    """Let a layer have old entries whose removal it misses."""
    for key in keys:
        stage.behind(alias).set(key, f"old {key}", version=1)
    stage.refuse(alias)
    stage.layer(alias).execute(None, operations.delete_many, (list(keys), 1))
    stage.heal(alias)


def held(stage: Stage, *keys: str, alias: str = "authority") -> list[str]:
    ledger = stage.layer(alias).missed_changes
    cache = stage.behind(alias)
    return [key for key in keys if ledger.is_stale(cache.make_key(key, version=1))]


# What it answers while a key is held


def test_reads_of_one_key_are_misses(stage):
    miss(stage, "a")
    for operation in (operations.get, operations.has_key, remaining_ttl.get_with_ttl):
        assert execute(stage, operation, "a", 1).kind is Kind.MISS
        assert execute(stage, operation, "a", 2).kind is Kind.MISS
    assert stage.cache.get("a", "default") == "default"
    assert not stage.cache.has_key("a")


def test_batched_reads_leave_it_out_and_ask_for_the_rest(stage):
    miss(stage, "a")
    stage.cache.set("b", 2)
    assert execute(stage, operations.get_many, ["a", "b"], 1).value == {"b": 2}
    found, lifetimes = execute(stage, remaining_ttl.get_many_with_ttl, ["a", "b"], 1).value
    assert found == {"b": 2}
    assert lifetimes.keys() == {"b"}
    asked = faults("authority").calls["get_many"]
    assert execute(stage, operations.get_many, ["a"], 1).value == {}
    assert execute(stage, remaining_ttl.get_many_with_ttl, ["a"], 1).value == ({}, {})
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
def test_decisions_wait_for_the_repair(stage, decide, answer):
    miss(stage, "a")
    asked = faults("authority").calls.total()
    if answer is ValueError:
        with pytest.raises(ValueError, match="could tell"):
            decide(stage.cache)
    else:
        assert decide(stage.cache) is answer
    assert faults("authority").calls.total() == asked
    stage.tick()
    assert stage.cache.add("a", 1) is True


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


def test_a_suspect_layer_is_written_and_not_read(stage):
    stage.layer("authority").ledger._capacity = 1
    miss(stage, "a", "b")
    stage.cache.set("other", 1)
    assert stage.cache.get("other") is None
    assert stage.behind("authority").get("other", version=1) == 1
    stage.clock.forward(TIMEOUT)
    assert stage.cache.get("a") is None
    assert stage.cache.get("b") is None


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
def test_a_later_change_that_gets_through_ends_the_note_at_once(stage, change):
    miss(stage, "a")
    change(stage.cache)
    assert stage.cache.get("a") == "new"
    assert stage.layer("authority").ledger.in_sync
    stage.tick()
    assert stage.cache.get("a") == "new"


def test_a_later_change_that_fails_too_does_not(stage):
    miss(stage, "a")
    stage.refuse("authority")
    stage.cache.set("a", "new")
    stage.heal("authority")
    assert stage.cache.get("a") is None


def test_a_change_that_was_under_way_does_not_end_a_newer_note(stage):
    stage.cache.set("a", "old")

    def meanwhile() -> None:
        stage.cache.set("a", "newer")
        stage.refuse("authority")
        stage.cache.delete("a")
        stage.heal("authority")

    stage.during("authority", "after", meanwhile)
    stage.cache.set("a", "new")
    assert stage.cache.get("a") is None


def test_a_clear_that_was_under_way_does_not_end_a_newer_note(stage):
    def meanwhile() -> None:
        stage.cache.set("a", "newer")
        stage.refuse("authority")
        stage.cache.delete("a")
        stage.heal("authority")

    stage.during("authority", "after", meanwhile)
    stage.cache.clear()
    assert stage.cache.get("a") is None


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


def test_a_breakers_reset_does_not(stage):
    miss(stage, "a")
    stage.layer("authority").breaker.reset()
    assert stage.cache.get("a") is None
    assert stage.layer("authority").snapshot()["missed"] == 1


@pytest.mark.parametrize("order", ["force_open", "force_closed"])
def test_an_order_does_not(stage, order):
    miss(stage, "a")
    getattr(stage.layer("authority").breaker, order)()
    assert stage.cache.get("a") is None
    stage.layer("authority").breaker.auto()
    assert stage.cache.get("a") is None


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
    assert pair.layer("upper").ledger.in_sync
    assert pair.layer("authority").ledger.in_sync
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
def test_what_was_decided_by_nobody_never_enters_the_ledger(stage, decide, fault):
    """A later repair would delete another worker's lock or counter."""
    if fault == "rejected":
        stage.layer("authority").breaker.force_open()
    else:
        getattr(stage, fault)("authority")
    with suppress(ValueError, Interrupted):
        decide(stage.cache)
    assert len(stage.layer("authority").ledger) == 0
    stage.heal("authority")
    stage.layer("authority").breaker.reset()
    stage.behind("authority").set("a", 7, version=1)
    stage.tick()
    for late in stage.late:
        late.land()
    stage.tick()
    assert stage.cache.get("a") in (7, 8)
    assert stage.layer("authority").ledger.in_sync


def test_keys_that_a_batch_did_not_take_are_missed(stage, monkeypatch):
    stage.cache.set_many({"a": "old", "b": "old"})
    monkeypatch.setattr(LocMemCache, "set_many", lambda *args, **kwargs: ["a"])
    assert stage.cache.set_many({"a": "too large", "b": "new"}) == ["a"]
    monkeypatch.undo()
    assert held(stage, "a", "b") == ["a"]
    assert stage.cache.get("a") is None


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
    with staged("memory", "authority") as stage:
        stage.cache.set("a", "old")
        stage.interrupt("authority")
        with pytest.raises(Interrupted):
            stage.cache.set("a", "new")
        assert not stage.behind("memory").has_key("a", version=1)


@pytest.mark.parametrize("shape", [("memory", "authority"), ("upper", "authority")])
def test_an_incr_of_nothing_leaves_no_note(shape):
    with staged(*shape) as stage:
        stage.behind(shape[0]).set("a", 1, version=1)
        with pytest.raises(ValueError, match="not found"):
            stage.cache.incr("a")
        assert all(stage.layer(alias).missed_changes.in_sync for alias in shape)
        assert not stage.behind(shape[0]).has_key("a", version=1)


def test_a_mistake_of_the_callers_leaves_no_note(stage):
    with pytest.raises((TypeError, AttributeError), match="pickle"):
        stage.cache.set("a", threading.Lock())
    assert stage.layer("authority").ledger.in_sync


# Late calls


def test_a_key_waits_for_the_end_of_a_call_that_was_given_up(stage):
    stage.cache.set("a", "old")
    stage.abandon("authority")
    stage.cache.set("a", "late")
    stage.heal("authority")
    stage.cache.delete("a")
    stage.tick()
    assert held(stage, "a") == ["a"]
    stage.late.popleft().land()
    assert stage.cache.get("a") is None
    stage.tick()
    assert held(stage, "a") == []
    assert not stage.behind("authority").has_key("a", version=1)


def test_a_key_waits_for_the_end_of_a_call_whose_caller_was_interrupted(stage):
    stage.interrupt("authority")
    with pytest.raises(Interrupted):
        stage.cache.set("a", "late")
    stage.heal("authority")
    stage.cache.delete("a")
    stage.late.popleft().land()
    assert stage.cache.get("a") is None


def test_a_late_backfill_does_not_bring_back_what_was_removed_after_it(pair):
    pair.behind("authority").set("a", "old", version=1)
    pair.during("authority", "after", lambda: pair.abandon("upper"))
    assert pair.cache.get("a") == "old"
    pair.heal("upper")
    pair.cache.delete("a")
    pair.late.popleft().land()
    assert pair.behind("upper").get("a", version=1) == "old"
    assert pair.cache.get("a") is None


def test_a_late_add_does_not_undo_a_change_that_came_after_it(stage):
    stage.abandon("authority")
    assert not stage.cache.add("a", "late")
    stage.heal("authority")
    stage.cache.delete("a")
    stage.late.popleft().land()
    assert stage.behind("authority").get("a", version=1) == "late"
    assert stage.cache.get("a") is None
    stage.tick()
    assert not stage.behind("authority").has_key("a", version=1)


def test_a_repair_that_was_given_up_does_not_delete_what_is_won_later(stage):
    miss(stage, "a")
    stage.abandon("authority")
    stage.tick()
    stage.heal("authority")
    stage.cache.delete("a")
    assert not stage.cache.add("a", "lock")  # it could be deleted yet
    stage.late.popleft().land()
    stage.tick()
    assert stage.cache.add("a", "lock")


@pytest.mark.parametrize("fault", ["abandon", "interrupt"])
def test_a_late_repair_keeps_its_keys(stage, fault):
    miss(stage, "a")
    getattr(stage, fault)("authority")
    try:
        stage.tick()
    except Interrupted:
        assert fault == "interrupt"
    stage.heal("authority")
    stage.tick()
    assert held(stage, "a") == ["a"]
    stage.late.popleft().land()
    stage.tick()
    assert held(stage, "a") == []


def test_nothing_is_decided_while_a_repair_is_under_way(stage):
    miss(stage, "a")
    won: list[bool] = []

    def meanwhile() -> None:
        stage.cache.delete("a")
        won.append(stage.cache.add("a", "lock"))

    stage.during("authority", "before", meanwhile)
    stage.tick()
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
    stage, decide, answer
):
    """Its repair would end the lock, and another one would win it."""

    def meanwhile() -> None:
        stage.lose("authority")
        stage.cache.set("a", 1)
        stage.heal("authority")

    if answer is None:
        stage.cache.set("a", 1)
    stage.during("authority", "after", meanwhile)
    if answer is None:
        with pytest.raises(ValueError, match="could tell"):
            decide(stage.cache)
    else:
        assert decide(stage.cache) is answer
    stage.tick()
    assert stage.cache.add("a", "lock")


def test_nothing_is_decided_while_a_missed_clear_is_made_up_for(stage):
    stage.refuse("authority")
    stage.cache.clear()
    stage.heal("authority")
    won: list[bool] = []

    def meanwhile() -> None:
        stage.cache.clear()  # gets through, and ends the suspicion
        won.append(stage.cache.add("a", "lock"))

    stage.during("authority", "before", meanwhile)
    stage.tick()
    assert won == [False]


def test_nothing_is_decided_while_a_clear_may_land(stage):
    stage.abandon("authority")
    stage.cache.clear()
    stage.heal("authority")
    stage.tick()
    assert not stage.cache.add("a", "lock")
    stage.cache.set("b", 1)
    assert stage.cache.get("b") == 1
    stage.late.popleft().land()
    stage.tick()
    assert stage.cache.add("a", "lock")


# How long a note stays


def test_a_note_stays_for_as_long_as_the_longest_timeout_used_there(stage):
    stage.cache.set("other", 1, timeout=1000)
    miss(stage, "a")
    stage.behind("authority").set("a", "old", 1000, version=1)
    stage.layer("authority").breaker.force_open()
    stage.clock.forward(999)
    stage.tick()
    stage.layer("authority").breaker.reset()
    assert stage.cache.get("a") is None
    stage.tick()
    stage.clock.forward(2)
    assert stage.layer("authority").ledger.in_sync


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
def test_also_if_it_is_not_known_whether_it_was_used(stage, write, fault):
    getattr(stage, fault)("authority")
    try:
        write(stage.cache)
    except Interrupted:
        assert fault == "interrupt"
    stage.heal("authority")
    for late in stage.late:
        late.land()
    stage.layer("authority").breaker.force_open()
    stage.cache.delete("b")
    stage.clock.forward(1e9)
    stage.tick()
    assert held(stage, "b") == ["b"]


@pytest.mark.parametrize("timeout", [Decimal(1000), "1000"], ids=["decimal", "string"])
def test_whatever_a_timeout_is_as_long_as_the_layer_takes_it(timeout):
    with staged("authority", behind=WholeSeconds) as stage:
        stage.cache.set("a", "old", timeout=timeout)
        stage.layer("authority").breaker.force_open()
        stage.cache.delete("a")
        stage.clock.forward(999)
        stage.tick()
        stage.layer("authority").breaker.reset()
        assert stage.behind("authority").get("a", version=1) == "old"
        assert stage.cache.get("a") is None


def test_or_backfilled():
    with staged("upper", "authority", timeout=None) as stage:
        stage.behind("authority").set("a", "old", timeout=1000, version=1)
        assert stage.cache.get("a") == "old"
        stage.layer("upper").breaker.force_open()
        stage.cache.delete("a")
        stage.clock.forward(500)
        stage.tick()
        stage.layer("upper").breaker.reset()
        assert stage.behind("upper").get("a", version=1) == "old"
        assert stage.cache.get("a") is None


def test_what_cannot_be_there_any_more_makes_room(stage):
    stage.layer("authority").breaker.force_open()
    stage.cache.delete("a")
    stage.clock.forward(TIMEOUT)
    stage.tick()
    assert len(stage.layer("authority").ledger) == 0


# Repair


def test_a_repair_goes_in_batches_and_says_whether_there_is_more(stage):
    keys = [f"key{n}" for n in range(2 * REPAIR_BATCH + 1)]
    miss(stage, *keys)
    layer, calls = stage.layer("authority"), faults("authority").calls
    before = calls["delete_many"]
    assert [layer.repair(), layer.repair(), layer.repair()] == [True, True, False]
    assert calls["delete_many"] - before == 3
    assert layer.missed_changes.in_sync
    assert not stage.behind("authority").get_many(keys, version=1)


def test_a_repair_keeps_what_succeeded(stage):
    for version in (1, 2, 3):
        stage.cache.set("a", "old", version=version)
    stage.layer("authority").breaker.force_open()
    for version in (1, 2, 3):
        stage.cache.delete("a", version=version)
    stage.layer("authority").breaker.reset()

    def second_call_fails() -> None:
        stage.during("authority", "before", lambda: stage.refuse("authority"))

    stage.during("authority", "after", second_call_fails)
    assert not stage.layer("authority").repair()
    assert len(stage.layer("authority").ledger) == 2
    stage.heal("authority")
    stage.tick()
    assert stage.layer("authority").ledger.in_sync


def test_a_repair_leaves_alone_what_was_made_up_for_since_it_looked(stage):
    """It may come to a key when that was deleted by somebody else, and is a lock now."""
    stage.cache.set("a", "old", version=1)
    stage.cache.set("a", "old", version=2)
    stage.layer("authority").breaker.force_open()
    stage.cache.delete("a", version=1)
    stage.cache.delete("a", version=2)
    stage.layer("authority").breaker.reset()

    def meanwhile() -> None:
        stage.cache.delete("a", version=2)
        assert stage.cache.add("a", "lock", version=2)

    stage.during("authority", "before", meanwhile)
    stage.tick()
    assert stage.behind("authority").get("a", version=1) is None
    assert stage.behind("authority").get("a", version=2) == "lock"
    assert stage.layer("authority").ledger.in_sync


def test_a_missed_clear_is_not_made_up_for_twice(stage, monkeypatch):
    """Another thread may have cleared it since the repair looked, and won a lock."""
    stage.cache.set("a", "old")
    stage.refuse("authority")
    stage.cache.clear()
    stage.heal("authority")
    layer = stage.layer("authority")
    repair_clear = type(layer)._repair_clear

    def late(self):
        stage.cache.clear()
        assert stage.cache.add("a", "lock")
        return repair_clear(self)

    monkeypatch.setattr(type(layer), "_repair_clear", late)
    stage.tick()
    assert stage.cache.get("a") == "lock"
    assert layer.missed_changes.in_sync


def test_a_repair_deletes_and_never_sets(stage):
    miss(stage, "a", "b")
    calls = faults("authority").calls
    calls.clear()
    stage.tick()
    assert dict(calls) == {"delete_many": 1}


def test_a_repair_makes_up_for_a_clear_first(stage):
    stage.cache.set("a", "old")
    stage.refuse("authority")
    stage.cache.clear()
    stage.heal("authority")
    assert stage.cache.get("a") is None
    stage.cache.set("b", "new")
    stage.tick()
    assert stage.behind("authority").get_many(["a", "b"], version=1) == {}
    assert stage.layer("authority").ledger.in_sync


def test_a_repair_takes_back_only_the_notes_it_made_up_for(stage):
    miss(stage, "a")

    def meanwhile() -> None:
        stage.cache.set("a", "newer")
        miss(stage, "a")

    stage.during("authority", "after", meanwhile)
    stage.tick()
    assert held(stage, "a") == ["a"]
    assert stage.cache.get("a") is None


def test_a_repaired_clear_takes_back_only_the_notes_from_before_it(stage):
    stage.refuse("authority")
    stage.cache.clear()
    stage.heal("authority")

    def meanwhile() -> None:
        stage.cache.set("a", "newer")
        stage.refuse("authority")
        stage.cache.delete("a")
        stage.during("authority", "before", lambda: None)

    stage.during("authority", "after", meanwhile)
    stage.tick()
    stage.heal("authority")
    assert held(stage, "a") == ["a"]
    assert stage.cache.get("a") is None


def test_a_repair_has_its_own_permits_and_its_failures_open_the_breaker():
    with staged("authority", MAX_FAILURES=2) as stage:
        miss(stage, "a")
        stage.refuse("authority")
        stage.tick()
        assert stage.layer("authority").breaker.state is State.OPEN
        asked = faults("authority").calls.total()
        assert stage.layer("authority").tend() == pytest.approx(5)
        assert faults("authority").calls.total() == asked
        stage.heal("authority")
        stage.clock.forward(5)
        stage.tick()
        assert stage.layer("authority").breaker.state is State.CLOSED
        assert stage.layer("authority").missed_changes.in_sync


def test_a_repair_goes_through_forced_closed_and_not_through_forced_open(stage):
    layer = stage.layer("authority")
    miss(stage, "a")
    layer.breaker.force_open()
    assert layer.tend() is None
    assert held(stage, "a") == ["a"]
    layer.breaker.force_closed()
    stage.tick()
    assert layer.missed_changes.in_sync


def test_a_layer_that_goes_on_failing_is_repaired_later(stage):
    miss(stage, "a")
    stage.refuse("authority")
    assert stage.layer("authority").tend() == PATIENCE
    stage.heal("authority")
    stage.tick()
    assert stage.layer("authority").ledger.in_sync


def test_an_idle_process_tries_whether_its_layer_is_well_again():
    with staged("authority", MAX_FAILURES=1, HALF_OPEN_SUCCESSES=2) as stage:
        layer = stage.layer("authority")
        stage.refuse("authority")
        stage.cache.get("a")
        stage.heal("authority")
        assert layer.breaker.state is State.OPEN
        for _ in range(10):
            stage.clock.forward(layer.tend() or 0)
        assert layer.breaker.state is State.CLOSED
        assert layer.tend() is None


def test_also_while_all_that_was_missed_waits_for_late_calls():
    with staged("authority", MAX_FAILURES=2) as stage:
        layer = stage.layer("authority")
        stage.abandon("authority")
        stage.cache.set("a", "late")
        stage.cache.set("a", "late too")
        stage.heal("authority")
        assert layer.breaker.state is State.OPEN
        for _ in range(10):
            stage.clock.forward(layer.tend() or 0)
        assert layer.breaker.state is State.CLOSED


# What cannot be repaired


@pytest.mark.filterwarnings("ignore::django.core.cache.CacheKeyWarning")
@pytest.mark.parametrize("version", [[1], float("nan"), object(), "x" * 300, -1])
def test_any_version_that_a_key_can_be_made_with_is_repaired(stage, version):
    stage.cache.set("a", "old", version=version)
    stage.layer("authority").breaker.force_open()
    stage.cache.delete("a", version=version)
    stage.cache.delete("b")
    stage.layer("authority").breaker.reset()
    assert stage.cache.get("a", version=version) is None
    stage.tick()
    assert stage.layer("authority").ledger.in_sync
    assert not stage.behind("authority").has_key("a", version=version)


def test_a_key_that_the_layer_does_not_take_keeps_no_other_from_repair(stage, monkeypatch):
    plain = LocMemCache.validate_key

    def picky(self: LocMemCache, key: str) -> None:
        if "hostile" in key:
            raise InvalidCacheKey(key)
        plain(self, key)

    miss(stage, "a", "hostile", "b")
    monkeypatch.setattr(LocMemCache, "validate_key", picky)
    stage.tick()
    assert stage.layer("authority").ledger.in_sync
    assert not stage.behind("authority").get_many(["a", "b"], version=1)


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
    assert pair.layer("authority").ledger.in_sync


def test_a_clear_that_the_layer_does_not_have_does_not_make_it_suspect_for_ever(stage, monkeypatch):
    def clear(self: LocMemCache) -> None:
        raise NotImplementedError

    miss(stage, "a")
    stage.layer("authority").breaker.force_open()
    stage.cache.clear()
    stage.layer("authority").breaker.reset()
    stage.cache.set("b", 1)
    with monkeypatch.context() as patch:
        patch.setattr(LocMemCache, "clear", clear)
        stage.tick()
    assert stage.cache.get("b") == 1
    assert not stage.behind("authority").has_key("a", version=1)


# Where no thread can run


def test_a_call_repairs_a_few_where_the_agent_cannot(stage, monkeypatch):
    miss(stage, *[f"key{n}" for n in range(3 * REPAIR_IN_PASSING)])
    monkeypatch.setattr(type(background), "cannot_run", True)
    stage.cache.get("anything")
    assert len(stage.layer("authority").ledger) == 2 * REPAIR_IN_PASSING
    stage.cache.get("anything")
    stage.cache.get("anything")
    assert stage.layer("authority").ledger.in_sync


def test_a_change_whose_caller_is_ended_in_such_a_repair_is_missed(stage, monkeypatch):
    stage.cache.set("b", "old")
    miss(stage, "a")
    monkeypatch.setattr(type(background), "cannot_run", True)
    stage.interrupt("authority")
    with pytest.raises(Interrupted):
        stage.cache.delete("b")
    stage.heal("authority")
    assert held(stage, "b") == ["b"]


def test_a_caller_that_is_ended_waits_for_no_repair(stage, monkeypatch):
    stage.cache.set("b", "old")
    miss(stage, "a")
    monkeypatch.setattr(type(background), "cannot_run", True)
    stage.interrupt("authority")
    noted = stage.layer("authority").execute(
        None, operations.missed, (operations.delete, ("b", stage.cache.version))
    )
    assert noted.kind is Kind.DONE
    stage.heal("authority")
    assert held(stage, "a", "b") == ["a", "b"]


def test_nor_does_it_leave_a_copy_above_for_one(monkeypatch):
    with staged("memory", "upper", "authority") as stage:
        stage.cache.set("a", "old")
        monkeypatch.setattr(type(background), "cannot_run", True)
        stage.interrupt("upper")
        with pytest.raises(Interrupted):
            stage.cache.clear()
        assert stage.behind("memory").get("a") is None


def test_a_forked_process_takes_over_what_is_to_be_repaired(stage):
    miss(stage, "a")
    background.ensure_running.reset_mock()  # type: ignore[attr-defined]  # a mock
    stage.cache.get("a")
    background.ensure_running.assert_called()  # type: ignore[attr-defined]  # a mock


# What the agent is woken for


def test_the_agent_is_woken_by_the_first_note_and_not_by_each(stage):
    stage.layer("authority").breaker.force_open()
    background.wake.reset_mock()  # type: ignore[attr-defined]  # a mock
    for n in range(10):
        stage.cache.delete(f"key{n}")
    assert background.wake.call_count == 1  # type: ignore[attr-defined]  # a mock


def test_the_agent_is_woken_when_a_late_call_has_landed(stage):
    stage.abandon("authority")
    stage.cache.delete("a")
    background.wake.reset_mock()  # type: ignore[attr-defined]  # a mock
    stage.late.popleft().land()
    assert background.wake.call_count == 1  # type: ignore[attr-defined]  # a mock


# What it says


def shown(stage: Stage) -> dict[str, Any]:
    return json.loads(json.dumps(stage.layer("authority").snapshot(), allow_nan=False))


def test_the_snapshot_names_what_was_missed(stage):
    miss(stage, "a", "b")
    found = shown(stage)
    assert (found["missed"], found["suspect"], found["suspect_seconds"]) == (2, False, 0)
    stage.refuse("authority")
    stage.cache.clear()
    found = shown(stage)
    assert (found["missed"], found["suspect"], found["suspect_seconds"]) == (2, True, None)


def test_the_snapshot_says_for_how_long_a_layer_is_suspect():
    with staged("authority", capacity=1) as stage:
        stage.layer("authority").breaker.force_open()
        stage.cache.delete_many(["a", "b"])
        found = shown(stage)
        assert (found["suspect"], found["suspect_seconds"]) == (True, TIMEOUT)


def test_the_snapshot_says_when_a_trial_is_to_come(stage):
    breaker = stage.layer("authority").breaker
    assert shown(stage)["retry_after"] is None
    for order in (breaker.force_open, breaker.force_closed):
        order()
        assert shown(stage)["retry_after"] is None
    breaker.reset()
    while breaker.state is State.CLOSED:
        breaker.acquire().failure()
    assert shown(stage)["retry_after"] == 5
    stage.clock.forward(5)
    assert shown(stage)["retry_after"] == 0
    permit = breaker.acquire()
    assert 0 < shown(stage)["retry_after"] < float("inf")
    permit.release()
    assert shown(stage)["retry_after"] == 0
