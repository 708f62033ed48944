"""The ledger: which keys a layer missed, until when, and what takes a note back."""

from __future__ import annotations

import threading
from math import inf
from typing import Any

import pytest

from django_resilient_cache.layer.abandoned_calls import WAIT_SECONDS
from django_resilient_cache.layer.missed_changes import CAPACITY, MissedChanges
from tests.clock import Clock

LIFETIME = 300.0


class Kit:
    """A ledger whose names are keys in capitals, and its clock."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.clock = Clock()
        self.lifetime: float | None = LIFETIME
        self.ledger = MissedChanges(lambda: self.lifetime, self.clock, capacity)

    def record(self, *keys: str, call: object | None = None, unsure: bool = False) -> bool:
        return self.ledger.record(entries(*keys), call, unsure=unsure)

    def held(self, *keys: str) -> list[str]:
        return [key for key in keys if self.ledger.is_stale(key.upper())]

    def pending(self, most: int = 100) -> list[str]:
        return [missed.key for _, missed in self.ledger.pending(most)]


def entries(*keys: str) -> list[tuple[str, str, int]]:
    return [(key.upper(), key, 1) for key in keys]


@pytest.fixture
def kit() -> Kit:
    return Kit()


def test_at_first_everything_may_be_read(kit):
    assert kit.ledger.in_sync
    assert not kit.ledger.suspect
    assert len(kit.ledger) == 0
    assert not kit.held("a")


# Notes


def test_what_was_missed_is_held_and_due(kit):
    assert kit.record("a", "b")
    assert kit.held("a", "b", "c") == ["a", "b"]
    assert kit.pending() == ["a", "b"]
    assert len(kit.ledger) == 2
    assert not kit.ledger.in_sync


def test_only_the_first_note_in_a_trusted_layer_is_told_as_the_first(kit):
    assert kit.record("a")
    assert not kit.record("b")
    assert not kit.ledger.record_clear()


def test_a_later_change_that_got_through_takes_the_note_back(kit):
    kit.record("a", "b")
    kit.ledger.confirmed(["A"], kit.ledger.sequence)
    assert kit.held("a", "b") == ["b"]
    kit.ledger.confirmed(["B"], kit.ledger.sequence)
    assert kit.ledger.in_sync


def test_a_change_that_began_before_the_note_does_not_take_it_back(kit):
    before = kit.ledger.sequence
    kit.record("a")
    kit.ledger.confirmed(["A"], before)
    assert kit.held("a") == ["a"]


def test_a_key_is_repaired_once_deleted(kit):
    kit.record("a", "b")
    kit.ledger.repaired(kit.ledger.pending(1))
    assert kit.held("a", "b") == ["b"]


def test_a_repair_does_not_take_back_a_note_made_while_it_was_under_way(kit):
    kit.record("a")
    due = kit.ledger.pending(10)
    kit.record("a")
    kit.ledger.repaired(due)
    assert kit.held("a") == ["a"]
    kit.ledger.repaired(kit.ledger.pending(10))
    assert kit.ledger.in_sync


def test_a_repair_takes_no_more_than_it_asked_for(kit):
    kit.record(*"abcde")
    assert kit.pending(2) == ["a", "b"]
    assert kit.pending(0) == []


# Time


def test_a_note_ends_when_nothing_older_can_live_in_the_layer(kit):
    kit.record("a")
    kit.clock.forward(LIFETIME - 1)
    kit.record("b")
    kit.clock.forward(1)
    assert kit.pending() == ["b"]
    assert not kit.held("a")


@pytest.mark.parametrize("forget", [MissedChanges.expire, lambda ledger: ledger.pending(10)])
def test_all_notes_past_their_time_leave_a_trusted_layer(kit, forget):
    kit.record("a", "b")
    kit.clock.forward(LIFETIME)
    forget(kit.ledger)
    assert kit.ledger.in_sync


def test_where_entries_never_expire_notes_do_not_either(kit):
    kit.lifetime = None
    kit.record("a")
    kit.clock.forward(1e9)
    kit.ledger.expire()
    assert kit.pending() == ["a"]


def test_missed_again_is_missed_for_longer(kit):
    kit.record("a")
    kit.clock.forward(LIFETIME - 1)
    kit.record("a")
    kit.clock.forward(2)
    assert kit.pending() == ["a"]


def test_what_a_frozen_server_may_hold_is_not_forgotten_with_time(kit):
    kit.record("a", unsure=True)
    kit.record("a")
    kit.clock.forward(1e9)
    kit.ledger.expire()
    assert kit.pending() == ["a"]
    kit.ledger.repaired(kit.ledger.pending(10))
    assert kit.ledger.in_sync


# Calls that were given up and may still be made


def test_a_key_is_kept_until_the_abandoned_call_has_ended(kit):
    kit.record("a", call="late set")
    kit.ledger.confirmed(["A"], kit.ledger.sequence)
    kit.ledger.cleared(kit.ledger.sequence)
    kit.clock.forward(2 * LIFETIME)
    assert kit.pending() == []
    kit.ledger.expire()
    assert kit.held("a") == ["a"]
    kit.ledger.call_ended("late set")
    assert kit.pending() == ["a"]


def test_it_is_kept_until_each_of_them_has_ended(kit):
    kit.record("a", call="one")
    kit.record("a", call="other")
    kit.record("a")
    kit.ledger.call_ended("one")
    kit.ledger.call_ended("one")
    assert kit.pending() == []
    kit.ledger.call_ended("other")
    assert kit.pending() == ["a"]


def test_what_it_wrote_lives_from_its_end_on(kit):
    kit.record("a", call="late")
    kit.clock.forward(LIFETIME - 1)
    kit.ledger.call_ended("late")
    kit.clock.forward(LIFETIME - 1)
    assert kit.pending() == ["a"]


def test_a_change_that_began_before_it_ended_does_not_take_the_note_back(kit):
    kit.record("a", call="late")
    before = kit.ledger.sequence
    kit.ledger.begin(["A"])
    kit.ledger.call_ended("late")
    kit.ledger.confirmed(["A"], before)
    assert kit.held("a") == ["a"]
    kit.ledger.confirmed(["A"], kit.ledger.sequence)
    assert kit.ledger.in_sync


def test_an_end_is_told_of_a_call_that_the_ledger_no_longer_knows(kit):
    kit.record("a", call="one")
    kit.ledger.forget()
    kit.record("a", call="other")
    kit.ledger.call_ended("unknown")
    assert kit.pending() == []


def test_what_it_deleted_keeps_no_key_for_longer(kit):
    kit.record("a")
    kit.ledger.expect(entries("a"), "late repair")
    kit.clock.forward(LIFETIME - 1)
    kit.ledger.call_ended("late repair", deleted=True)
    kit.clock.forward(1)
    assert kit.pending() == []


# Calls that never end


@pytest.mark.parametrize("look", [MissedChanges.expire, lambda ledger: ledger.pending(10)])
def test_a_call_that_never_ends_keeps_its_key_no_longer_than_it_could_land(kit, look):
    kit.lifetime = None
    kit.record("a", call="hangs")
    kit.clock.forward(WAIT_SECONDS - 1)
    look(kit.ledger)
    assert kit.pending() == []
    kit.clock.forward(1)
    look(kit.ledger)
    assert kit.pending() == ["a"]
    kit.ledger.repaired(kit.ledger.pending(10))
    assert kit.ledger.in_sync


def test_should_it_end_after_all_its_key_is_missed_anew(kit):
    kit.record("a", call="hangs")
    kit.clock.forward(WAIT_SECONDS)
    before = kit.ledger.sequence
    kit.ledger.repaired(kit.ledger.pending(10))
    kit.ledger.call_ended("hangs")
    kit.ledger.confirmed(["A"], before)
    assert kit.pending() == ["a"]
    kit.clock.forward(LIFETIME)
    assert kit.pending() == []


def test_a_decision_that_never_ends_leaves_nothing(kit):
    kit.ledger.expect(entries("a"), "add that hangs")
    kit.clock.forward(WAIT_SECONDS)
    kit.ledger.expire()
    assert kit.ledger.in_sync
    kit.ledger.call_ended("add that hangs")
    assert kit.ledger.in_sync


def test_a_clear_that_never_ends_keeps_nothing_undecided_for_ever(kit):
    kit.ledger.record_clear("hangs")
    kit.ledger.cleared(kit.ledger.sequence)
    kit.clock.forward(WAIT_SECONDS)
    kit.ledger.expire()
    assert kit.ledger.in_sync
    kit.ledger.call_ended("hangs")
    assert kit.ledger.in_sync


def test_a_key_waits_for_the_others_of_its_late_calls(kit):
    kit.record("a", call="hangs")
    kit.clock.forward(WAIT_SECONDS / 2)
    kit.record("a", call="other")
    kit.clock.forward(WAIT_SECONDS / 2)
    assert kit.pending() == []
    kit.ledger.call_ended("other")
    assert kit.pending() == ["a"]


def test_what_is_no_longer_late_makes_room_too():
    kit = Kit(capacity=1)
    kit.record("a", call="hangs")
    kit.record("b", call="hangs")
    kit.clock.forward(WAIT_SECONDS)
    kit.lifetime = 2 * WAIT_SECONDS
    kit.record("c")
    kit.ledger.expire()
    assert len(kit.ledger) <= 1
    assert kit.ledger.suspect


def test_a_late_decision_is_no_reason_to_repair(kit):
    """A late add may be another worker's lock: its caller was told, no repair deletes it."""
    kit.ledger.expect(entries("a"), "late add")
    assert not kit.ledger.in_sync
    assert not kit.held("a")
    kit.ledger.call_ended("late add")
    assert kit.pending() == []
    assert kit.ledger.in_sync


@pytest.mark.parametrize("keys", [["A"], None], ids=["one key", "clear"])
def test_a_change_that_a_late_decision_may_undo_is_missed(kit, keys):
    kit.ledger.expect(entries("a"), "late add")
    before = kit.ledger.sequence
    kit.ledger.begin(keys)
    kit.ledger.call_ended("late add")
    if keys:
        kit.ledger.confirmed(keys, before)
    else:
        kit.ledger.cleared(before)
    assert kit.pending() == ["a"]


def test_a_change_without_a_late_call_leaves_no_note(kit):
    kit.record("b")
    kit.ledger.begin(["A"])
    assert not kit.held("a")


# clear()


def test_a_missed_clear_makes_the_layer_suspect_until_it_is_made_up_for(kit):
    kit.ledger.record_clear()
    kit.record("a")
    kit.clock.forward(1e9)
    assert kit.held("a", "b") == ["a", "b"]
    assert kit.ledger.suspect_seconds == inf
    assert kit.ledger.clear_pending
    kit.record("a")
    kit.ledger.cleared(kit.ledger.sequence)
    assert kit.ledger.in_sync
    assert not kit.ledger.clear_pending


def test_a_clear_takes_back_only_what_is_not_newer_than_itself(kit):
    kit.record("a")
    kit.ledger.record_clear()
    began = kit.ledger.sequence
    kit.record("b")
    kit.ledger.cleared(began)
    assert kit.held("a", "b") == ["b"]
    began = kit.ledger.sequence
    kit.ledger.record_clear()
    kit.ledger.cleared(began)
    assert kit.ledger.clear_pending


def test_nothing_is_decided_while_a_clear_may_still_be_made(kit):
    kit.ledger.record_clear("late clear")
    kit.ledger.cleared(kit.ledger.sequence)
    assert not kit.held("a")
    assert kit.ledger.in_doubt("A")
    kit.ledger.call_ended("late clear")
    assert not kit.ledger.in_doubt("A")
    assert kit.ledger.in_sync


def test_a_layer_that_cannot_clear_keeps_its_notes(kit):
    kit.ledger.record_clear()
    kit.record("a")
    kit.ledger.give_up_clear(kit.ledger.sequence)
    assert not kit.ledger.suspect
    assert kit.held("a", "b") == ["a"]


# Bounds


def test_past_its_capacity_the_layer_is_suspect_for_as_long_as_the_key_could_live():
    kit = Kit(capacity=2)
    kit.record(*"abc")
    assert len(kit.ledger) == 2
    assert kit.held("a", "c", "never seen") == ["a", "c", "never seen"]
    kit.ledger.repaired(kit.ledger.pending(10))
    assert not kit.ledger.in_sync
    assert kit.ledger.suspect_seconds == LIFETIME
    kit.clock.forward(LIFETIME)
    assert not kit.held("c")
    kit.ledger.pending(10)
    assert kit.ledger.in_sync


def test_what_may_be_held_and_had_no_room_is_suspected_until_the_layer_has_answered():
    kit = Kit(capacity=1)
    kit.record("a", "b", unsure=True)
    kit.record("c")
    kit.clock.forward(1e9)
    assert kit.ledger.suspect_seconds == inf
    kit.ledger.repaired(kit.ledger.pending(10))
    assert kit.ledger.suspect_seconds == LIFETIME


def test_past_its_capacity_without_expiry_it_is_suspect_until_told_to_forget():
    kit = Kit(capacity=1)
    kit.lifetime = None
    kit.record("a", "b")
    kit.clock.forward(1e9)
    assert kit.ledger.suspect_seconds == inf
    kit.ledger.forget()
    assert kit.ledger.in_sync
    assert not kit.held("a", "b")


def test_a_full_ledger_still_renews_the_notes_it_has():
    kit = Kit(capacity=2)
    kit.record("a", "b")
    kit.clock.forward(LIFETIME - 1)
    kit.record("a")
    assert not kit.ledger.suspect
    kit.clock.forward(1)
    assert kit.pending() == ["a"]


def test_a_full_ledger_keeps_what_is_late_until_it_has_landed():
    kit = Kit(capacity=1)
    kit.record("a")
    kit.record("b", call="late")
    kit.clock.forward(10)
    assert not kit.ledger.suspect
    kit.ledger.call_ended("late")
    assert kit.ledger.suspect_seconds == LIFETIME
    assert kit.pending() == ["a"]


def test_a_clear_ends_suspicion_of_what_came_before_it():
    kit = Kit(capacity=1)
    kit.record("a", "b")
    began = kit.ledger.sequence
    kit.ledger.cleared(began)
    assert kit.ledger.in_sync
    kit.record("a", "b")
    kit.ledger.cleared(began)
    assert kit.ledger.suspect


def test_a_late_call_that_lands_in_a_full_ledger_during_a_clear_leaves_suspicion():
    kit = Kit(capacity=1)
    kit.record("a")
    kit.record("b", call="late")
    began = kit.ledger.sequence
    kit.ledger.call_ended("late")
    kit.ledger.cleared(began)
    assert kit.ledger.suspect


def test_a_hundred_thousand_keys_fit_in_about_twenty_megabytes():
    import tracemalloc

    tracemalloc.start()
    try:
        kit = Kit()
        kit.ledger.record((f":1:some.key.{n}", f"some.key.{n}", 1) for n in range(CAPACITY))
        assert len(kit.ledger) == CAPACITY
        assert tracemalloc.get_traced_memory()[0] < 40e6
    finally:
        tracemalloc.stop()


# Operators and processes


def test_forgetting_drops_everything(kit):
    kit.record("a")
    kit.record("b", call="late")
    kit.ledger.expect(entries("c"), "late add")
    kit.ledger.record_clear("late clear")
    kit.ledger.forget()
    assert kit.ledger.in_sync
    assert kit.pending() == []
    assert not kit.ledger.in_doubt("B")


def test_what_a_forgotten_call_brings_back_is_missed_when_it_ends(kit):
    kit.record("a", call="late")
    kit.ledger.expect(entries("b"), "late add")
    kit.ledger.record_clear("late clear")
    kit.ledger.forget()
    for call in ("late", "late add", "late clear"):
        kit.ledger.call_ended(call)
    assert kit.pending() == ["a"]


def test_after_a_fork_notes_stay_and_late_calls_are_the_parents(kit):
    kit.record("a", call="late")
    kit.ledger.record_clear("late clear")
    kit.ledger._lock.acquire()  # by another thread of the parent
    kit.ledger._reset_after_fork()
    assert kit.pending() == ["a"]
    assert kit.ledger.clear_pending
    kit.ledger.cleared(kit.ledger.sequence)
    assert kit.ledger.in_sync


def test_after_a_fork_in_the_middle_of_a_note_the_layer_is_not_trusted(kit):
    kit.record("a")
    kit.ledger.in_sync = True  # the note was made, and not yet told
    kit.ledger._reset_after_fork()
    assert not kit.ledger.in_sync


def test_many_threads_leave_a_consistent_ledger(kit):
    def work(own: str) -> None:
        for n in range(300):
            key = f"{own}{n % 7}"
            kit.record(key, call=n)
            kit.ledger.call_ended(n)
            kit.ledger.confirmed([key.upper()], kit.ledger.sequence)
            kit.record(key, "shared")
            kit.ledger.repaired(kit.ledger.pending(5))

    threads = [threading.Thread(target=work, args=(own,)) for own in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while due := kit.ledger.pending(100):
        kit.ledger.repaired(due)
    assert kit.ledger.in_sync
    assert not kit.ledger._abandoned


def test_a_handler_that_interrupts_a_note_may_use_the_ledger(kit):
    """A signal's handler runs in the thread that holds the lock."""

    def names() -> Any:
        yield ("A", "a", 1)
        kit.record("b")

    kit.ledger.record(names())
    assert kit.held("a", "b") == ["a", "b"]
