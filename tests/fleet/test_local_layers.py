"""What an order does to the layers of this process, and what a report says of them."""

from __future__ import annotations

import json
import logging
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import caches
from django.dispatch import Signal

from django_resilient_cache import State, breakers
from django_resilient_cache.fleet import install
from django_resilient_cache.fleet.board import report as reports
from django_resilient_cache.fleet.board.host import this_clock, this_process
from django_resilient_cache.fleet.board.order import Action, Order
from django_resilient_cache.fleet.worker.exits import on_other_ends
from django_resilient_cache.fleet.worker.local_layers import LocalLayers
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.layer.telemetry import CHANGES
from django_resilient_cache.testing import faults
from tests.entries import MEMORY, chain, layer
from tests.simulated_chain import FAULTY

pytestmark = pytest.mark.usefixtures("still_agent")


@pytest.fixture
def site(settings: Any) -> LocalLayers:
    settings.CACHES = {
        "default": chain("redis"),
        "second": chain("wrong"),
        "redis": layer(FAULTY, {"OPERATION_TIMEOUT": None, "MAX_FAILURES": 3}, LOCATION="behind"),
        "behind": layer(MEMORY),
        "wrong": layer(MEMORY, {"MAX_FAILURES": 0}),
    }
    return LocalLayers()


def order(action: Action, alias: str = "redis", reason: str = "") -> Order:
    return Order(
        alias=alias,
        action=action,
        id="1",
        number=1,
        actor="ada",
        reason=reason,
        given=0.0,
        seconds=None,
    )


def break_it() -> None:
    with faults("redis").fail(OSError("gone")):
        for n in range(4):
            caches["default"].set(f"key{n}", 1)
    assert breakers["redis"].state is State.OPEN


def test_each_order_does_what_it_says(site):
    break_it()
    for action, state in (
        (Action.FORCE_CLOSED, State.FORCED_CLOSED),
        (Action.AUTO, State.OPEN),
        (Action.FORCE_OPEN, State.FORCED_OPEN),
        (Action.RESET, State.CLOSED),
    ):
        assert site.act(order(action))
        assert breakers["redis"].state is state
    site.act(order(Action.FORCE_OPEN))
    site.end(order(Action.FORCE_OPEN))
    assert breakers["redis"].state is State.CLOSED


def test_a_reset_drops_no_ledger_and_forget_does_and_says_so(site, caplog):
    caplog.set_level(logging.WARNING, "django_resilient_cache")
    break_it()
    site.act(order(Action.RESET))
    assert len(registry.layer("redis").missed_changes) == 4
    caplog.clear()
    site.act(order(Action.FORGET, reason="flushed by hand"))
    assert len(registry.layer("redis").missed_changes) == 0
    assert [record.getMessage() for record in caplog.records] == [
        "redis: 4 missed keys forgotten, forget by ada: flushed by hand"
    ]


def test_transitions_name_who_and_why(site):
    break_it()
    site.act(order(Action.FORCE_OPEN, reason="maintenance"))
    site.act(order(Action.AUTO))
    site.act(order(Action.FORCE_OPEN))
    site.end(order(Action.FORCE_OPEN))
    reasons = [change["reason"] for change in registry.snapshot()["redis"]["changes"]]
    assert reasons == [
        "3 failures in a row",
        "force open by ada: maintenance",
        "auto by ada",
        "force open by ada",
        '"force open" by ada has ended',
    ]


@pytest.mark.parametrize("alias", ["wrong", "default", "nowhere"])
def test_a_layer_that_cannot_be_had_is_refused_and_told_of_once(site, alias, caplog):
    for action in (Action.FORCE_OPEN, Action.RESET):
        assert not site.act(order(action, alias))
    assert len(caplog.records) == 1
    site.end(order(Action.FORCE_OPEN, alias))


def test_the_aliases_are_the_layers_of_all_chains(site):
    assert list(site.aliases()) == ["redis", "wrong"]


def test_a_report_of_real_layers_is_understood(site):
    break_it()
    caches["default"].get("key0")
    clock = this_clock()
    text = reports.write_report("worker", this_process(), clock, site.layers(), {})
    json.dumps(json.loads(text), allow_nan=False)
    report = reports.read_report(text, "worker")
    assert report is not None
    view = reports.layer_view(report.layers["redis"], None, None, 0.0)
    assert view.state == "open"
    assert abs(view.since - time.time()) < 30
    assert view.retry_after is not None
    assert view.last_error == "OSError: gone"
    assert view.missed == 4
    (change,) = view.changes
    assert (change.old, change.new, change.error) == ("closed", "open", "OSError: gone")
    assert abs(change.at - time.time()) < 30


def test_the_last_transitions_are_kept_and_no_more(site):
    for _ in range(CHANGES):
        site.act(order(Action.FORCE_OPEN))
        site.act(order(Action.RESET))
    changes = registry.snapshot()["redis"]["changes"]
    assert len(changes) == CHANGES
    assert changes[-1]["new"] == "closed"


def test_an_error_of_any_length_makes_a_report_of_some(site):
    with faults("redis").fail(OSError("x" * 1_000_000)):
        for _ in range(4):
            caches["default"].get("key")
    text = reports.write_report("worker", this_process(), this_clock(), site.layers(), {})
    assert len(text) < 10_000
    assert reports.read_report(text, "worker") is not None


def test_it_is_installed_once_and_silent_in_a_test_run():
    member = install()
    assert install() is member
    assert member.tick() is None
    assert not member.joined


def test_celerys_children_say_goodbye_when_celery_says_that_they_end(monkeypatch):
    """They end without atexit, and without multiprocessing's own end."""
    left: list[int] = []
    ends = Signal()
    monkeypatch.setitem(
        sys.modules, "celery.signals", SimpleNamespace(worker_process_shutdown=ends)
    )
    on_other_ends(lambda: left.append(1))
    on_other_ends(lambda: left.append(2))  # a second report changes nothing
    ends.send(sender=None, pid=1, exitcode=0)
    assert left == [1]


def test_where_nothing_else_runs_a_process_nothing_is_asked_to_tell(monkeypatch):
    monkeypatch.setitem(sys.modules, "multiprocessing.util", None)
    on_other_ends(lambda: pytest.fail("nobody ended"))
