"""Calls that overlap with changes in the same process: no layer keeps what is older."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.stage import Stage, staged


@pytest.fixture(params=[("memory", "authority"), ("upper", "authority")], ids=str)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with staged(*request.param, MAX_FAILURES=100) as stage:
        yield stage


@pytest.fixture
def near(stage: Stage) -> str:
    return stage.layers[0]


def test_two_changes_that_overlap_leave_no_copy_of_the_first(stage, near):
    stage.during(near, "before", lambda: stage.cache.set("a", "second"))
    stage.cache.set("a", "first")
    assert stage.behind("authority").get("a", version=1) == "second"
    assert stage.cache.get("a") == "second"


def test_an_add_and_a_change_that_overlap_leave_no_copy_of_the_first(stage, near):
    stage.during(near, "before", lambda: stage.cache.set("a", "second"))
    assert stage.cache.add("a", "first")
    assert stage.cache.get("a") == "second"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "read",
    [lambda cache: cache.get("a"), lambda cache: cache.get_many(["a", "b"])],
    ids=["get", "get_many"],
)
def test_a_backfill_leaves_nothing_that_was_removed_meanwhile(stage, near, read, when):
    stage.behind("authority").set("a", "old", version=1)
    stage.during(
        "authority", "after", lambda: stage.during(near, when, lambda: stage.cache.delete("a"))
    )
    read(stage.cache)
    assert not stage.behind(near).has_key("a", version=1)
    assert stage.cache.get("a") is None


@pytest.mark.parametrize(
    "change",
    [lambda cache: cache.incr("a"), lambda cache: cache.touch("a", 10)],
    ids=["incr", "touch"],
)
@pytest.mark.parametrize("lost", [False, True], ids=["answered", "answer lost"])
def test_what_the_authority_decided_is_dropped_above(stage, near, change, lost):
    stage.cache.set("a", 1)
    if lost:
        stage.lose("authority")
    try:
        change(stage.cache)
    except ValueError:
        assert lost
    stage.heal("authority")
    assert not stage.behind(near).has_key("a", version=1)


# get_or_set


def test_what_was_computed_before_a_change_is_not_kept(stage):
    def compute() -> str:
        stage.cache.delete("a")
        return "computed before the end of that"

    assert stage.cache.get_or_set("a", compute).startswith("computed")
    assert stage.cache.get("a") is None
    assert not any(name == "add" for _, name, _, _ in stage.ends)


@pytest.mark.parametrize("when", ["before", "after"])
def test_nor_what_is_being_added_when_the_change_comes(stage, when):
    def compute() -> str:
        stage.during("authority", when, lambda: stage.cache.delete("a"))
        return "computed before it"

    assert stage.cache.get_or_set("a", compute) == "computed before it"
    assert stage.cache.get("a") is None


def test_nor_what_is_kept_above_while_the_authority_is_away(stage, near):
    def compute() -> str:
        stage.during(near, "after", lambda: stage.cache.delete("a"))
        return "computed before it"

    stage.refuse("authority")
    stage.cache.get_or_set("a", compute)
    stage.heal("authority")
    assert stage.cache.get("a") is None


@pytest.mark.parametrize("away", ["refuse", "abandon"])
def test_while_the_authority_is_away_it_is_computed_once(stage, away):
    getattr(stage, away)("authority")
    computed: list[int] = []

    def compute() -> Any:
        computed.append(1)
        return "value"

    for _ in range(3):
        assert stage.cache.get_or_set("a", compute) == "value"
    assert computed == [1]


def test_a_computation_is_not_disturbed_by_changes_of_other_keys(stage):
    def compute() -> str:
        stage.cache.delete("b")
        stage.cache.set("a", "of another version", version=2)
        return "value"

    assert stage.cache.get_or_set("a", compute) == "value"
    assert stage.cache.get("a") == "value"


def test_while_its_key_waits_for_a_repair_the_value_is_kept_above(stage, near):
    stage.refuse("authority")
    stage.cache.delete("a")
    stage.heal("authority")
    assert stage.cache.get_or_set("a", lambda: "value") == "value"
    assert stage.behind(near).get("a", version=1) == "value"
    stage.tick()
    assert stage.cache.get_or_set("a", lambda: "never called") == "value"
