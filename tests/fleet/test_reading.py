"""What an operator is shown, and what is left out because it makes no sense."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from django_resilient_cache.fleet.board import records, report, roster
from django_resilient_cache.fleet.board.host import Process, this_process
from django_resilient_cache.fleet.board.order import Action, Order
from django_resilient_cache.fleet.board.posted_order import Posted, read_posted
from tests.fleet.simulated_fleet import Host, finish, shown

RUBBISH = [
    None,
    7,
    b"bytes",
    "",
    "no json",
    "[]",
    "{}",
    "null",
    '"text"',
    '{"workers": []}',
    '{"workers": {"a": 1, "b": {"host": []}}}',
    '{"id": 1}',
    "[" * 100_000,
    "1" * 10_000,
    '{"order": {}, "left": NaN}',
    '{"at": 1e999}',
]


@pytest.mark.parametrize("found", RUBBISH, ids=range(len(RUBBISH)))
def test_what_is_no_record_is_ignored(found):
    assert roster.read_roster(found) == {}
    assert report.read_report(found, "worker") is None
    assert read_posted(found, ("redis", "state")) is None
    assert Order.from_record(found) is None


@pytest.mark.parametrize("found", RUBBISH, ids=range(len(RUBBISH)))
def test_rubbish_in_every_record_stops_nobody(world, host, found):
    workers = [host.worker(), host.worker()]
    world.forward(3)
    control = host.control()
    control.give(["redis"], Action.FORCE_OPEN, actor="ada")
    world.forward(3)
    for key in world.shelf.entries:
        world.shelf.entries[key] = (found, None)
    control.fleet()
    world.forward(10)
    assert len(control.fleet().live) == 2
    assert control.fleet().standing["redis"].order.actor == "ada"
    orders = control.give(["redis"], Action.RESET, actor="ada")
    assert finish(control, orders, world).complete
    assert all(not worker.member._failures for worker in workers)


def a_report(host: Host, **layer: object) -> str:
    layers = {"redis": shown("open", **layer)}
    return report.write_report("worker", host.process(), host.clock, layers, {})


@pytest.mark.parametrize(
    "change",
    [
        {"state": None},
        {"since": "yesterday"},
        {"hits": -1},
        {"missed": 1.5},
        {"retry_after": True},
        {"changes": 7},
        {"changes": [{"at": 1}]},
        {"last_error": ["x"]},
    ],
)
def test_a_report_with_a_wrong_value_is_none(host, change):
    assert report.read_report(a_report(host), "worker") is not None
    assert report.read_report(a_report(host, **change), "worker") is None


def test_a_report_is_of_the_worker_under_whose_name_it_is_found(host):
    assert report.read_report(a_report(host), "another") is None


def test_an_order_is_found_in_its_own_place_only(host):
    order = an_order()
    board = host.board()
    board.allow(1)
    Posted.now(order, 5.0, host.clock).put(board)
    ((text, _),) = host.world.shelf.entries.values()
    assert read_posted(text, ("redis", "state")) is not None
    assert read_posted(text, ("other", "state")) is None
    assert read_posted(text, ("redis", "ledger")) is None


def an_order(**changes: object) -> Order:
    usual = Order(
        alias="redis",
        action=Action.FORCE_OPEN,
        id="1",
        number=1,
        actor="ada",
        reason="",
        given=0.0,
        seconds=5.0,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]  # options by name


@pytest.mark.parametrize("action", list(Action))
def test_an_order_comes_back_as_it_was(action):
    order = an_order(action=action, seconds=None, reason="because: ä\n")
    again = Order.from_record(json.loads(json.dumps(order.to_record())))
    assert again == replace(order, reason="because: ä ")


def test_texts_from_the_board_are_one_line_and_short():
    assert records.text("a\nb\x1b[31m\ud800c") == "a b [31m c"
    assert len(records.text("x" * 10_000)) == records.LONGEST_TEXT


def test_the_next_trial_and_the_end_of_suspicion_come_nearer_as_a_report_ages(world, host):
    worker = host.worker()
    worker.site.layers = lambda: {
        "redis": shown("open", retry_after=9.0, suspect=True, suspect_seconds=3.0),
    }
    world.forward(3)
    frozen = host.control().fleet().workers[0].layers["redis"].retry_after
    worker.frozen = True
    world.forward(4)
    layer = host.control().fleet().workers[0].layers["redis"]
    assert layer.retry_after == pytest.approx(frozen - 4)
    assert layer.suspect_seconds == 0


def test_the_age_of_another_hosts_report_is_not_guessed_by_its_clock(world, host):
    there = Host(world, "web2", started=1e6, skew=-9999)
    worker = there.worker()
    worker.site.layers = lambda: {"redis": shown("open", retry_after=9.0)}  # type: ignore[method-assign]  # for one test
    world.forward(6)
    (seen,) = host.control().fleet().workers
    assert seen.layers["redis"].retry_after == 9.0


def test_live_workers_come_first_by_host_and_process(world, host):
    there = Host(world, "db1")
    workers = [host.worker(), there.worker(), host.worker()]
    world.forward(3)
    workers[1].kill()
    world.forward(17)
    names = [(worker.name, worker.stale) for worker in host.control().fleet().workers]
    assert [stale for _, stale in names] == [False, False, True]
    assert names[2][0].startswith("db1/")


def test_on_a_board_of_one_host_nobody_lives_on_after_it_was_started_anew(world, host):
    world.shelf.keeps_time = False
    world.shelf.one_host = True
    host.worker()
    world.forward(3)
    assert len(host.control().fleet().live) == 1
    assert Host(world, "web1 again").control().fleet().live == ()


class TestSameHost:
    """Where the reader can see the processes of the workers."""

    @pytest.fixture
    def seen(self, world, host):
        """A worker whose process is this one."""

        def process() -> Process:
            return replace(this_process(), boot=host.clock.boot)

        host.process = process
        worker = host.worker()
        world.forward(3)
        return worker

    def test_one_that_is_there_is_live(self, host, seen):
        assert len(host.control().fleet().live) == 1

    def test_one_whose_process_is_gone_is_silent_at_once_and_not_waited_for(
        self, world, host, seen, monkeypatch
    ):
        seen.frozen = True
        monkeypatch.setattr(os, "kill", gone)
        control = host.control()
        (worker,) = control.fleet().workers
        assert worker.stale
        progress = finish(control, control.give(["redis"], Action.RESET, actor="a"), world, 1.0)
        assert progress.complete
        assert progress.applied == ()

    def test_one_that_has_been_silent_for_long_is_waited_for_while_its_process_is_there(
        self, world, host, seen
    ):
        seen.frozen = True
        world.forward(30)
        control = host.control()
        assert control.fleet().live == ()
        progress = finish(control, control.give(["redis"], Action.RESET, actor="a"), world, 1.0)
        assert [worker.id for worker in progress.waiting] == [seen.member.id]


def gone(pid: int, signal: int) -> None:
    raise ProcessLookupError
