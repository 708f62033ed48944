"""Calls that overlap with changes in the same process: no layer keeps what is older."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from django_resilient_cache import CacheUnavailable
from django_resilient_cache.backend.bound_chain import process
from tests.contract.recorder import attempt
from tests.simulated_chain import SimulatedChain, simulated_chain


@pytest.fixture(params=[("memory", "authority"), ("upper", "authority")], ids=str)
def sim(request: pytest.FixtureRequest) -> Iterator[SimulatedChain]:
    with simulated_chain(*request.param, MAX_FAILURES=100) as sim:
        yield sim


@pytest.fixture
def near(sim: SimulatedChain) -> str:
    return sim.layers[0]


def test_two_changes_that_overlap_leave_no_copy_of_the_first(sim, near):
    sim.during(near, "before", lambda: sim.cache.set("a", "second"))
    sim.cache.set("a", "first")
    assert sim.behind("authority").get("a", version=1) == "second"
    assert sim.cache.get("a") == "second"


def test_an_add_and_a_change_that_overlap_leave_no_copy_of_the_first(sim, near):
    sim.during(near, "before", lambda: sim.cache.set("a", "second"))
    assert sim.cache.add("a", "first")
    assert sim.cache.get("a") == "second"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "read",
    [lambda cache: cache.get("a"), lambda cache: cache.get_many(["a", "b"])],
    ids=["get", "get_many"],
)
def test_a_backfill_leaves_nothing_that_was_removed_meanwhile(sim, near, read, when):
    sim.behind("authority").set("a", "old", version=1)
    sim.during("authority", "after", lambda: sim.during(near, when, lambda: sim.cache.delete("a")))
    read(sim.cache)
    assert not sim.behind(near).has_key("a", version=1)
    assert sim.cache.get("a") is None


@pytest.mark.parametrize(
    "change",
    [lambda cache: cache.incr("a"), lambda cache: cache.touch("a", 10)],
    ids=["incr", "touch"],
)
@pytest.mark.parametrize("lost", [False, True], ids=["answered", "answer lost"])
def test_what_the_authority_decided_is_dropped_above(sim, near, change, lost):
    sim.cache.set("a", 1)
    if lost:
        sim.lose("authority")
    try:
        change(sim.cache)
    except ValueError:
        assert lost
    sim.heal("authority")
    assert not sim.behind(near).has_key("a", version=1)


# get_or_set


def test_what_was_computed_before_a_change_is_not_kept(sim):
    def compute() -> str:
        sim.cache.delete("a")
        return "computed before the end of that"

    assert sim.cache.get_or_set("a", compute).startswith("computed")
    assert sim.cache.get("a") is None
    assert not any(command.name == "add" for _, command, _ in sim.ends)


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.set("a", 1, 0),
        lambda cache: cache.delete("a"),
        lambda cache: cache.set_many({"b": 1, "a": 1}, 0),
        lambda cache: cache.delete_many(["b", "a"]),
        lambda cache: cache.clear(),
        lambda cache: attempt(cache.incr, "a"),
        lambda cache: attempt(cache.decr, "a"),
        lambda cache: cache.set("a", 1, version=1),
    ],
    ids=["set", "delete", "set_many", "delete_many", "clear", "incr", "decr", "its version"],
)
def test_every_change_is_told_to_what_is_being_computed(sim, change):
    def compute() -> str:
        (flight,) = process.single_flight.under_way.values()
        change(sim.cache)
        assert flight.outdated
        assert process.single_flight.under_way == {}
        return "computed"

    assert sim.cache.get_or_set("a", compute) == "computed"
    sim.behind("authority").delete("a", version=1)
    assert sim.cache.get("a") in (None, 1)


def test_what_another_computation_has_added_meanwhile_is_not_computed_again(sim):
    sim.during("authority", "after", lambda: sim.cache.get_or_set("a", lambda: "first"))
    assert sim.cache.get_or_set("a", lambda: pytest.fail("computed")) == "first"


@pytest.mark.parametrize("when", ["before", "after"])
def test_nor_what_is_being_added_when_the_change_comes(sim, when):
    def compute() -> str:
        sim.during("authority", when, lambda: sim.cache.delete("a"))
        return "computed before it"

    assert sim.cache.get_or_set("a", compute) == "computed before it"
    assert sim.cache.get("a") is None


def test_nor_what_is_kept_above_while_the_authority_is_away(sim, near):
    def compute() -> str:
        sim.during(near, "after", lambda: sim.cache.delete("a"))
        return "computed before it"

    sim.refuse("authority")
    sim.cache.get_or_set("a", compute)
    sim.heal("authority")
    assert sim.cache.get("a") is None


@pytest.mark.parametrize("away", ["refuse", "abandon"])
def test_while_the_authority_is_away_it_is_computed_once(sim, away):
    getattr(sim, away)("authority")
    computed: list[int] = []

    def compute() -> Any:
        computed.append(1)
        return "value"

    for _ in range(3):
        assert sim.cache.get_or_set("a", compute) == "value"
    assert computed == [1]


def test_a_computation_is_not_disturbed_by_changes_of_other_keys(sim):
    def compute() -> str:
        sim.cache.delete("b")
        sim.cache.set("a", "of another version", version=2)
        return "value"

    assert sim.cache.get_or_set("a", compute) == "value"
    assert sim.cache.get("a") == "value"


def test_while_its_key_waits_for_a_repair_the_value_is_kept_above(sim, near):
    sim.refuse("authority")
    sim.cache.delete("a")
    sim.heal("authority")
    assert sim.cache.get_or_set("a", lambda: "value") == "value"
    assert sim.behind(near).get("a", version=1) == "value"
    sim.tick()
    assert sim.cache.get_or_set("a", lambda: "never called") == "value"


# get_or_set under "raise": what was computed is the caller's


@pytest.fixture
def strict() -> Iterator[SimulatedChain]:
    with simulated_chain("memory", "authority", on_unavailable="raise", MAX_FAILURES=100) as sim:
        yield sim


def test_under_raise_a_key_that_waits_for_its_repair_is_computed(strict):
    strict.refuse("authority")
    with pytest.raises(CacheUnavailable):
        strict.cache.delete("a")
    strict.heal("authority")
    assert strict.cache.get_or_set("a", lambda: "value") == "value"
    assert strict.cache.get_or_set("a", "not needed") == "value", "kept above"


@pytest.mark.parametrize("default", [lambda: "value", "value"], ids=["called", "plain"])
def test_under_raise_it_is_returned_though_no_layer_could_keep_it(strict, default):
    strict.during("authority", "after", lambda: strict.refuse("authority"))
    assert strict.cache.get_or_set("a", default) == "value"


def test_under_raise_nothing_is_computed_where_nobody_could_tell(strict):
    strict.refuse("authority")
    with pytest.raises(CacheUnavailable):
        strict.cache.get_or_set("a", lambda: pytest.fail("computed"))


def test_under_raise_the_value_is_returned_though_the_quicker_one_cannot_be_read(strict):
    def compute() -> str:
        strict.behind("authority").set("a", "quicker", version=1)
        strict.during("authority", "after", lambda: strict.refuse("authority"))
        return "value"

    assert strict.cache.get_or_set("a", compute) == "value"


def test_under_raise_a_change_meanwhile_takes_it_back_in_silence(strict):
    def compute() -> str:
        strict.during("authority", "after", overtake)
        return "value"

    def overtake() -> None:
        strict.cache.delete("a")
        strict.refuse("authority")

    assert strict.cache.get_or_set("a", compute) == "value"
    strict.heal("authority")
    assert strict.cache.get("a") is None
