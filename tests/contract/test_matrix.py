"""What the suite covers: kinds of layer, limits, places, ways to call; and what it leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_resilient_cache.layer.registry import registry
from tests.contract import kinds as module
from tests.contract.api import METHODS, WAYS, InALoopEach
from tests.contract.bench import POSITIONS, Bench
from tests.contract.every_method import ABOVE_ONLY, CALLS, NOBODY
from tests.contract.kinds import EVERY, KINDS, Kind
from tests.contract.outages import all_outages
from tests.contract.recorder import all_warnings
from tests.contract.scenarios import SCENARIOS
from tests.contract.test_healthy import OF_THE_NEAREST, differing, expect_none, plan

pytestmark = pytest.mark.usefixtures("still_agent")

LIMITS = ("direct", "sockets", "thread")


def test_the_matrix_is_what_its_module_says() -> None:
    said = [line for line in str(module.__doc__).splitlines() if line.startswith("    ")]
    assert said == list(matrix())


def matrix() -> Iterator[str]:
    yield f"    {'kind':<19}" + "  ".join(limit.center(7) for limit in LIMITS).rstrip()
    for kind in KINDS:
        marks = ("*" if limit == kind.limits[0] else "x" for limit in LIMITS)
        cells = (
            (mark if limit in kind.limits else "").center(7)
            for mark, limit in zip(marks, LIMITS, strict=True)
        )
        yield f"    {kind.name:<19}" + "  ".join(cells).rstrip()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name, indirect=True)
@pytest.mark.parametrize("position", ["alone"], indirect=True)
def test_auto_picks_the_limit_that_is_marked(bench: Bench) -> None:
    with bench.caches(layer={"RESILIENCE": {}}):
        assert registry.layer("layer").guard.strategy == bench.kind.limits[0]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.label, indirect=True)
@pytest.mark.parametrize("position", ["alone"], indirect=True)
def test_each_kind_is_under_the_limit_that_it_is_said_to_be_under(bench: Bench) -> None:
    with bench.caches() as cache:
        cache("chain").get("k")
        strategy = registry.layer("layer").guard.strategy
        assert strategy.partition(",")[0] == bench.kind.strategy


OUTSIDE = [pytest.param(kind, id=kind.name) for kind in KINDS if "sockets" not in kind.limits]


@pytest.mark.parametrize("kind", OUTSIDE, indirect=True)
@pytest.mark.parametrize("position", ["alone"], indirect=True)
def test_what_the_matrix_leaves_out_is_refused(bench: Bench) -> None:
    sockets = {"OPERATION_TIMEOUT": 1, "TIMEOUT_STRATEGY": "sockets"}
    with bench.caches(layer={"RESILIENCE": sockets}) as cache:
        with pytest.raises(ImproperlyConfigured, match="sockets"):
            cache("chain").get("k")


def pairs(rows: Any, one: int, other: int) -> set[tuple[Any, Any]]:
    return {(row[one], row[other]) for row in rows}


def test_every_scenario_meets_every_kind_under_every_limit() -> None:
    rows = [(way, kind.label, place, name) for way, kind, place, name in plan()]
    labels = [kind.label for kind in EVERY]
    assert pairs([row for row in rows if row[0] == "sync"], 1, 3) == set(product(labels, SCENARIOS))
    assert pairs(rows, 0, 1) == set(product(WAYS, labels))
    assert pairs(rows, 0, 3) == set(product(WAYS, SCENARIOS))
    assert pairs(rows, 0, 2) == set(product(WAYS, POSITIONS))
    assert pairs(rows, 1, 2) == set(product(labels, POSITIONS))
    others = SCENARIOS.keys() - OF_THE_NEAREST
    assert pairs(rows, 2, 3) >= set(product(POSITIONS, others))


def test_every_outage_meets_every_place() -> None:
    rows = [(kind.name, kind.strategy, fault, place) for kind, fault, place in all_outages()]
    faults = {row[2] for row in rows}
    assert pairs(rows, 2, 3) == set(product(faults, POSITIONS))
    assert pairs(rows, 1, 3) == set(product(LIMITS, POSITIONS))
    assert pairs(rows, 0, 3) == set(product((kind.name for kind in KINDS), POSITIONS))


def test_every_method_is_called_during_an_outage() -> None:
    names = {name.partition(" ")[0] for name in CALLS}
    assert names - {"in"} == METHODS - {"close"}
    assert CALLS.keys() == NOBODY.keys() == ABOVE_ONLY.keys()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name, indirect=True)
def test_the_async_methods_need_no_particular_loop(bench: Bench, kind: Kind) -> None:
    """From sync code each call has an event loop of its own, and what was open is none's."""
    with bench.caches(), all_warnings():
        for name in ("batches", "counters", "get_or_set"):
            expect_none(differing(bench, name, InALoopEach()))
