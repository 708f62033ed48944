"""The ledger: which keys a layer missed, until when, and what takes a note back."""

from __future__ import annotations

import threading
from math import inf
from typing import Any

import pytest

from django_resilient_cache.layer.abandoned_calls import LATE_SECONDS
from django_resilient_cache.layer.missed_changes import CAPACITY, MissedChanges
from tests.clock import Clock

LIFETIME = 300.0


class Kit:
    """A ledger whose names are keys in capitals, and its clock."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.clock = Clock()
        self.lifetime: float | None = LIFETIME
        self.ledger = MissedChanges(lambda: self.lifetime, self.clock, capacity)

    def note(self, *keys: str, call: object | None = None, unsure: bool = False) -> bool:
        return self.ledger.note(entries(*keys), call, unsure=unsure)

    def held(self, *keys: str) -> list[str]:
        return [key for key in keys if self.ledger.holds(key.upper())]

    def due(self, most: int = 100) -> list[str]:
        return [missed.key for _, missed in self.ledger.due(most)]


def entries(*keys: str) -> list[tuple[str, str, int]]:
    return [(key.upper(), key, 1) for key in keys]


@pytest.fixture
def kit() -> Kit:
    return Kit()


def test_at_first_everything_may_be_read(kit):
    assert kit.ledger.trusted
    assert not kit.ledger.suspect
    assert len(kit.ledger) == 0
    assert not kit.held("a")


# Notes


def test_what_was_missed_is_held_and_due(kit):
    assert kit.note("a", "b")
    assert kit.held("a", "b", "c") == ["a", "b"]
    assert kit.due() == ["a", "b"]
    assert len(kit.ledger) == 2
    assert not kit.ledger.trusted


def test_only_the_first_note_in_a_trusted_layer_is_told_as_the_first(kit):
    assert kit.note("a")
    assert not kit.note("b")
    assert not kit.ledger.note_clear()


def test_a_later_change_that_got_through_takes_the_note_back(kit):
    kit.note("a", "b")
    kit.ledger.reached(["A"], kit.ledger.mark)
    assert kit.held("a", "b") == ["b"]
    kit.ledger.reached(["B"], kit.ledger.mark)
    assert kit.ledger.trusted


def test_a_change_that_began_before_the_note_does_not_take_it_back(kit):
    before = kit.ledger.mark
    kit.note("a")
    kit.ledger.reached(["A"], before)
    assert kit.held("a") == ["a"]


def test_a_key_is_repaired_once_deleted(kit):
    kit.note("a", "b")
    kit.ledger.repaired(kit.ledger.due(1))
    assert kit.held("a", "b") == ["b"]


def test_a_repair_does_not_take_back_a_note_made_while_it_was_under_way(kit):
    kit.note("a")
    due = kit.ledger.due(10)
    kit.note("a")
    kit.ledger.repaired(due)
    assert kit.held("a") == ["a"]
    kit.ledger.repaired(kit.ledger.due(10))
    assert kit.ledger.trusted


def test_a_repair_takes_no_more_than_it_asked_for(kit):
    kit.note(*"abcde")
    assert kit.due(2) == ["a", "b"]
    assert kit.due(0) == []


# Time


def test_a_note_ends_when_nothing_older_can_live_in_the_layer(kit):
    kit.note("a")
    kit.clock.forward(LIFETIME - 1)
    kit.note("b")
    kit.clock.forward(1)
    assert kit.due() == ["b"]
    assert not kit.held("a")


@pytest.mark.parametrize("forget", [MissedChanges.expire, lambda ledger: ledger.due(10)])
def test_all_notes_past_their_time_leave_a_trusted_layer(kit, forget):
    kit.note("a", "b")
    kit.clock.forward(LIFETIME)
    forget(kit.ledger)
    assert kit.ledger.trusted


def test_where_entries_never_expire_notes_do_not_either(kit):
    kit.lifetime = None
    kit.note("a")
    kit.clock.forward(1e9)
    kit.ledger.expire()
    assert kit.due() == ["a"]


def test_missed_again_is_missed_for_longer(kit):
    kit.note("a")
    kit.clock.forward(LIFETIME - 1)
    kit.note("a")
    kit.clock.forward(2)
    assert kit.due() == ["a"]


def test_what_a_frozen_server_may_hold_is_not_forgotten_with_time(kit):
    kit.note("a", unsure=True)
    kit.note("a")
    kit.clock.forward(1e9)
    kit.ledger.expire()
    assert kit.due() == ["a"]
    kit.ledger.repaired(kit.ledger.due(10))
    assert kit.ledger.trusted


# Calls that were given up and may still be made


def test_a_key_is_kept_until_the_abandoned_call_has_ended(kit):
    kit.note("a", call="late set")
    kit.ledger.reached(["A"], kit.ledger.mark)
    kit.ledger.cleared(kit.ledger.mark)
    kit.clock.forward(2 * LIFETIME)
    assert kit.due() == []
    kit.ledger.expire()
    assert kit.held("a") == ["a"]
    kit.ledger.landed("late set")
    assert kit.due() == ["a"]


def test_it_is_kept_until_each_of_them_has_ended(kit):
    kit.note("a", call="one")
    kit.note("a", call="other")
    kit.note("a")
    kit.ledger.landed("one")
    kit.ledger.landed("one")
    assert kit.due() == []
    kit.ledger.landed("other")
    assert kit.due() == ["a"]


def test_what_it_wrote_lives_from_its_end_on(kit):
    kit.note("a", call="late")
    kit.clock.forward(LIFETIME - 1)
    kit.ledger.landed("late")
    kit.clock.forward(LIFETIME - 1)
    assert kit.due() == ["a"]


def test_a_change_that_began_before_it_ended_does_not_take_the_note_back(kit):
    kit.note("a", call="late")
    before = kit.ledger.mark
    kit.ledger.begin(["A"])
    kit.ledger.landed("late")
    kit.ledger.reached(["A"], before)
    assert kit.held("a") == ["a"]
    kit.ledger.reached(["A"], kit.ledger.mark)
    assert kit.ledger.trusted


def test_an_end_is_told_of_a_call_that_the_ledger_no_longer_knows(kit):
    kit.note("a", call="one")
    kit.ledger.forget()
    kit.note("a", call="other")
    kit.ledger.landed("unknown")
    assert kit.due() == []


def test_what_it_deleted_keeps_no_key_for_longer(kit):
    kit.note("a")
    kit.ledger.expect(entries("a"), "late repair")
    kit.clock.forward(LIFETIME - 1)
    kit.ledger.landed("late repair", deleted=True)
    kit.clock.forward(1)
    assert kit.due() == []


# Calls that never end


@pytest.mark.parametrize("look", [MissedChanges.expire, lambda ledger: ledger.due(10)])
def test_a_call_that_never_ends_keeps_its_key_no_longer_than_it_could_land(kit, look):
    kit.lifetime = None
    kit.note("a", call="hangs")
    kit.clock.forward(LATE_SECONDS - 1)
    look(kit.ledger)
    assert kit.due() == []
    kit.clock.forward(1)
    look(kit.ledger)
    assert kit.due() == ["a"]
    kit.ledger.repaired(kit.ledger.due(10))
    assert kit.ledger.trusted


def test_should_it_end_after_all_its_key_is_missed_anew(kit):
    kit.note("a", call="hangs")
    kit.clock.forward(LATE_SECONDS)
    before = kit.ledger.mark
    kit.ledger.repaired(kit.ledger.due(10))
    kit.ledger.landed("hangs")
    kit.ledger.reached(["A"], before)
    assert kit.due() == ["a"]
    kit.clock.forward(LIFETIME)
    assert kit.due() == []


def test_a_decision_that_never_ends_leaves_nothing(kit):
    kit.ledger.expect(entries("a"), "add that hangs")
    kit.clock.forward(LATE_SECONDS)
    kit.ledger.expire()
    assert kit.ledger.trusted
    kit.ledger.landed("add that hangs")
    assert kit.ledger.trusted


def test_a_clear_that_never_ends_keeps_nothing_undecided_for_ever(kit):
    kit.ledger.note_clear("hangs")
    kit.ledger.cleared(kit.ledger.mark)
    kit.clock.forward(LATE_SECONDS)
    kit.ledger.expire()
    assert kit.ledger.trusted
    kit.ledger.landed("hangs")
    assert kit.ledger.trusted


def test_a_key_waits_for_the_others_of_its_late_calls(kit):
    kit.note("a", call="hangs")
    kit.clock.forward(LATE_SECONDS / 2)
    kit.note("a", call="other")
    kit.clock.forward(LATE_SECONDS / 2)
    assert kit.due() == []
    kit.ledger.landed("other")
    assert kit.due() == ["a"]


def test_what_is_no_longer_late_makes_room_too():
    kit = Kit(capacity=1)
    kit.note("a", call="hangs")
    kit.note("b", call="hangs")
    kit.clock.forward(LATE_SECONDS)
    kit.lifetime = 2 * LATE_SECONDS
    kit.note("c")
    kit.ledger.expire()
    assert len(kit.ledger) <= 1
    assert kit.ledger.suspect


def test_a_late_decision_is_no_reason_to_repair(kit):
    """A late add may be another worker's lock: its caller was told, no repair deletes it."""
    kit.ledger.expect(entries("a"), "late add")
    assert not kit.ledger.trusted
    assert not kit.held("a")
    kit.ledger.landed("late add")
    assert kit.due() == []
    assert kit.ledger.trusted


@pytest.mark.parametrize("keys", [["A"], None], ids=["one key", "clear"])
def test_a_change_that_a_late_decision_may_undo_is_missed(kit, keys):
    kit.ledger.expect(entries("a"), "late add")
    before = kit.ledger.mark
    kit.ledger.begin(keys)
    kit.ledger.landed("late add")
    if keys:
        kit.ledger.reached(keys, before)
    else:
        kit.ledger.cleared(before)
    assert kit.due() == ["a"]


def test_a_change_without_a_late_call_leaves_no_note(kit):
    kit.note("b")
    kit.ledger.begin(["A"])
    assert not kit.held("a")


# clear()


def test_a_missed_clear_makes_the_layer_suspect_until_it_is_made_up_for(kit):
    kit.ledger.note_clear()
    kit.note("a")
    kit.clock.forward(1e9)
    assert kit.held("a", "b") == ["a", "b"]
    assert kit.ledger.suspect_seconds == inf
    assert kit.ledger.clear_due
    kit.note("a")
    kit.ledger.cleared(kit.ledger.mark)
    assert kit.ledger.trusted
    assert not kit.ledger.clear_due


def test_a_clear_takes_back_only_what_is_not_newer_than_itself(kit):
    kit.note("a")
    kit.ledger.note_clear()
    began = kit.ledger.mark
    kit.note("b")
    kit.ledger.cleared(began)
    assert kit.held("a", "b") == ["b"]
    began = kit.ledger.mark
    kit.ledger.note_clear()
    kit.ledger.cleared(began)
    assert kit.ledger.clear_due


def test_nothing_is_decided_while_a_clear_may_still_be_made(kit):
    kit.ledger.note_clear("late clear")
    kit.ledger.cleared(kit.ledger.mark)
    assert not kit.held("a")
    assert kit.ledger.undecided("A")
    kit.ledger.landed("late clear")
    assert not kit.ledger.undecided("A")
    assert kit.ledger.trusted


def test_a_layer_that_cannot_clear_keeps_its_notes(kit):
    kit.ledger.note_clear()
    kit.note("a")
    kit.ledger.give_up_clear(kit.ledger.mark)
    assert not kit.ledger.suspect
    assert kit.held("a", "b") == ["a"]


# Bounds


def test_past_its_capacity_the_layer_is_suspect_for_as_long_as_the_key_could_live():
    kit = Kit(capacity=2)
    kit.note(*"abc")
    assert len(kit.ledger) == 2
    assert kit.held("a", "c", "never seen") == ["a", "c", "never seen"]
    kit.ledger.repaired(kit.ledger.due(10))
    assert not kit.ledger.trusted
    assert kit.ledger.suspect_seconds == LIFETIME
    kit.clock.forward(LIFETIME)
    assert not kit.held("c")
    kit.ledger.due(10)
    assert kit.ledger.trusted


def test_what_may_be_held_and_had_no_room_is_suspected_until_the_layer_has_answered():
    kit = Kit(capacity=1)
    kit.note("a", "b", unsure=True)
    kit.note("c")
    kit.clock.forward(1e9)
    assert kit.ledger.suspect_seconds == inf
    kit.ledger.repaired(kit.ledger.due(10))
    assert kit.ledger.suspect_seconds == LIFETIME


def test_past_its_capacity_without_expiry_it_is_suspect_until_told_to_forget():
    kit = Kit(capacity=1)
    kit.lifetime = None
    kit.note("a", "b")
    kit.clock.forward(1e9)
    assert kit.ledger.suspect_seconds == inf
    kit.ledger.forget()
    assert kit.ledger.trusted
    assert not kit.held("a", "b")


def test_a_full_ledger_still_renews_the_notes_it_has():
    kit = Kit(capacity=2)
    kit.note("a", "b")
    kit.clock.forward(LIFETIME - 1)
    kit.note("a")
    assert not kit.ledger.suspect
    kit.clock.forward(1)
    assert kit.due() == ["a"]


def test_a_full_ledger_keeps_what_is_late_until_it_has_landed():
    kit = Kit(capacity=1)
    kit.note("a")
    kit.note("b", call="late")
    kit.clock.forward(10)
    assert not kit.ledger.suspect
    kit.ledger.landed("late")
    assert kit.ledger.suspect_seconds == LIFETIME
    assert kit.due() == ["a"]


def test_a_clear_ends_suspicion_of_what_came_before_it():
    kit = Kit(capacity=1)
    kit.note("a", "b")
    began = kit.ledger.mark
    kit.ledger.cleared(began)
    assert kit.ledger.trusted
    kit.note("a", "b")
    kit.ledger.cleared(began)
    assert kit.ledger.suspect


def test_a_late_call_that_lands_in_a_full_ledger_during_a_clear_leaves_suspicion():
    kit = Kit(capacity=1)
    kit.note("a")
    kit.note("b", call="late")
    began = kit.ledger.mark
    kit.ledger.landed("late")
    kit.ledger.cleared(began)
    assert kit.ledger.suspect


def test_a_hundred_thousand_keys_fit_in_about_twenty_megabytes():
    import tracemalloc

    tracemalloc.start()
    try:
        kit = Kit()
        kit.ledger.note((f":1:some.key.{n}", f"some.key.{n}", 1) for n in range(CAPACITY))
        assert len(kit.ledger) == CAPACITY
        assert tracemalloc.get_traced_memory()[0] < 40e6
    finally:
        tracemalloc.stop()


# Operators and processes


def test_forgetting_drops_everything(kit):
    kit.note("a")
    kit.note("b", call="late")
    kit.ledger.expect(entries("c"), "late add")
    kit.ledger.note_clear("late clear")
    kit.ledger.forget()
    assert kit.ledger.trusted
    assert kit.due() == []
    assert not kit.ledger.undecided("B")


def test_what_a_forgotten_call_brings_back_is_missed_when_it_ends(kit):
    kit.note("a", call="late")
    kit.ledger.expect(entries("b"), "late add")
    kit.ledger.note_clear("late clear")
    kit.ledger.forget()
    for call in ("late", "late add", "late clear"):
        kit.ledger.landed(call)
    assert kit.due() == ["a"]


def test_after_a_fork_notes_stay_and_late_calls_are_the_parents(kit):
    kit.note("a", call="late")
    kit.ledger.note_clear("late clear")
    kit.ledger._lock.acquire()  # by another thread of the parent
    kit.ledger.after_fork()
    assert kit.due() == ["a"]
    assert kit.ledger.clear_due
    kit.ledger.cleared(kit.ledger.mark)
    assert kit.ledger.trusted


def test_after_a_fork_in_the_middle_of_a_note_the_layer_is_not_trusted(kit):
    kit.note("a")
    kit.ledger.trusted = True  # the note was made, and not yet told
    kit.ledger.after_fork()
    assert not kit.ledger.trusted


def test_many_threads_leave_a_consistent_ledger(kit):
    def work(own: str) -> None:
        for n in range(300):
            key = f"{own}{n % 7}"
            kit.note(key, call=n)
            kit.ledger.landed(n)
            kit.ledger.reached([key.upper()], kit.ledger.mark)
            kit.note(key, "shared")
            kit.ledger.repaired(kit.ledger.due(5))

    threads = [threading.Thread(target=work, args=(own,)) for own in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while due := kit.ledger.due(100):
        kit.ledger.repaired(due)
    assert kit.ledger.trusted
    assert not kit.ledger._late


def test_a_handler_that_interrupts_a_note_may_use_the_ledger(kit):
    """A signal's handler runs in the thread that holds the lock."""

    def names() -> Any:
        yield ("A", "a", 1)
        kit.note("b")

    kit.ledger.note(names())
    assert kit.held("a", "b") == ["a", "b"]
