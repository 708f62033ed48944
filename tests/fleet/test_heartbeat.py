"""A worker reports, is seen to be gone when it is, and leaves a board alone that is away."""

from __future__ import annotations

import logging
from functools import partial

import pytest

from django_resilient_cache.breaker import State
from django_resilient_cache.fleet.board.board import BoardUnavailable
from django_resilient_cache.fleet.board.order import Action
from django_resilient_cache.fleet.worker.heartbeat import LONGEST_AWAY
from tests.fleet.simulated_fleet import Host, SimWorker, World, finish


def live(host: Host) -> list[str]:
    return sorted(worker.id for worker in host.control().fleet().live)


def ids(*workers: SimWorker) -> list[str]:
    return sorted(worker.member.id for worker in workers)


def test_a_worker_is_seen_a_second_after_its_first_use(world, host):
    worker = host.worker()
    world.forward(0.5)
    assert world.shelf.calls == []
    world.forward(0.7)
    assert live(host) == ids(worker)


def test_many_that_start_at_once_are_all_seen_soon(world, host):
    """The roster loses all but the last writer of each round."""
    workers = [host.worker(rng=partial(float, n / 8)) for n in range(8)]
    real = world.shelf.entries
    for worker in workers:
        worker.access.slow = True
    world.forward(1.1)  # all have read the roster before anybody wrote it
    world.shelf.land()
    for worker in workers:
        worker.access.slow = False
    assert real
    world.forward(1.0)
    assert live(host) == ids(*workers)


def test_a_change_is_reported_at_once(world, host):
    worker = host.worker()
    world.forward(3)
    worker.site.breakers["redis"].force_open()
    worker.member.changed()
    worker.wake()
    world.forward(0.3)
    (seen,) = host.control().fleet().workers
    assert seen.layers["redis"].state == "forced open"


def test_a_breaker_that_flaps_is_reported_five_times_a_second_at_most(world, host):
    worker = host.worker()
    world.forward(3)
    before = len(world.shelf.calls)
    for _ in range(100):
        worker.member.changed()
        worker.wake()
        world.forward(0.01, step=0.01)
    reports = [call for call in world.shelf.calls[before:] if "report:" in str(call[1])]
    assert 4 <= len(reports) <= 6


def test_without_changes_it_reports_every_five_seconds_and_polls_about_every_second(world, host):
    host.worker()
    world.forward(10)
    before = len(world.shelf.calls)
    world.forward(100)
    calls = world.shelf.calls[before:]
    polls = [call for call in calls if call[0] == "get_many"]
    reports = [call for call in calls if call[0] == "set"]
    assert 100 <= len(polls) <= 135
    assert 17 <= len(reports) <= 21


def test_one_that_ends_in_order_is_gone_at_once(world, host):
    first, second = host.worker(), host.worker()
    world.forward(3)
    first.end()
    assert live(host) == ids(second)
    assert len(host.control().fleet().workers) == 1


def test_many_that_end_at_once_are_gone_whatever_the_roster_loses(world, host):
    workers = [host.worker() for _ in range(4)]
    world.forward(3)
    roster = world.shelf.keys("roster")[0]
    before = world.shelf.entries[roster]
    for worker in workers[:3]:
        worker.end()
        world.shelf.entries[roster] = before
    assert len(host.control().fleet().workers) == 1
    world.forward(60)
    assert world.shelf.entries[roster] != before


def test_one_that_never_reported_leaves_nothing_behind(world, host):
    worker = host.worker()
    world.forward(0.5)
    worker.end()
    assert world.shelf.calls == []


def test_one_that_is_killed_is_shown_as_silent_and_then_gone(world, host):
    other, victim = host.worker(), host.worker()
    world.forward(3)
    victim.kill()
    world.forward(17)
    fleet = host.control().fleet()
    assert [worker.stale for worker in fleet.workers] == [False, True]
    assert live(host) == ids(other)
    world.forward(100)
    assert [worker.id for worker in host.control().fleet().workers] == ids(other)


@pytest.mark.parametrize("keeps_time", [True, False])
def test_a_host_that_is_lost_is_noticed_by_another(keeps_time):
    """On a board without a clock of its own, its last report looks as good as any."""
    world = World(keeps_time=keeps_time)
    here, there = Host(world, "web1"), Host(world, "web2", started=7e5, skew=-500)
    mine, lost = here.worker(), [there.worker(), there.worker()]
    world.forward(40)
    for worker in lost:
        worker.kill()
    world.forward(130)
    assert [worker.id for worker in here.control().fleet().workers] == ids(mine)


def test_one_that_was_frozen_and_taken_off_the_roster_comes_back(world, host):
    host.worker()
    frozen = host.worker()
    world.forward(3)
    frozen.frozen = True
    world.forward(200)
    assert len(host.control().fleet().workers) == 1
    frozen.frozen = False
    world.forward(2)
    assert len(live(host)) == 2


def test_a_forked_child_is_a_worker_of_its_own_that_knows_what_its_parent_did(world, host):
    parent = host.worker()
    world.forward(3)
    control = host.control()
    finish(control, control.give(["redis"], Action.FORCE_OPEN, actor="ada", seconds=50), world)
    child = parent.fork()
    assert child.member.id != parent.member.id
    world.forward(3)
    assert live(host) == ids(parent, child)
    assert child.site.done == []
    assert child.state() is State.FORCED_OPEN
    world.forward(50)
    assert world.states() == [State.CLOSED] * 2


def test_a_child_that_ends_before_it_reported_does_not_sign_its_parent_off(world, host):
    parent = host.worker()
    world.forward(3)
    parent.fork().end()
    world.forward(0.5)
    assert live(host) == ids(parent)


class TestAway:
    @pytest.fixture
    def worker(self, world, host):
        worker = host.worker()
        world.forward(3)
        return worker

    def test_it_is_left_alone_more_and_more(self, world, worker):
        world.shelf.away = True
        world.forward(20)
        before = len(world.shelf.calls)
        world.forward(10 * LONGEST_AWAY, step=0.5)
        assert 8 <= len(world.shelf.calls) - before <= 13

    def test_orders_hold_as_they_are_and_end_when_they_are_to_end(self, world, host, worker):
        control = host.control()
        finish(control, control.give(["redis"], Action.FORCE_OPEN, actor="a", seconds=60), world)
        world.shelf.away = True
        world.forward(55)
        assert worker.state() is State.FORCED_OPEN
        world.forward(5.2)  # though it looks at the board every ten seconds only
        assert worker.state() is State.CLOSED

    def test_an_order_fails_loudly_and_nothing_of_it_comes_later(self, world, host, worker):
        world.shelf.away = True
        for method in (
            host.control().fleet,
            lambda: host.control().give(["redis"], Action.FORCE_OPEN, actor="ada"),
        ):
            with pytest.raises(BoardUnavailable, match=r"\(the shelf\).*nobody there\. See to it"):
                method()
        world.shelf.away = False
        world.forward(30)
        assert worker.state() is State.CLOSED

    def test_when_it_is_back_workers_are_soon(self, world, host, worker):
        world.shelf.away = True
        world.forward(300)
        world.shelf.away = False
        world.shelf.clear()
        world.forward(1.2 * LONGEST_AWAY)
        assert live(host) == ids(worker)

    def test_one_log_line_when_it_goes_and_one_when_it_is_back(self, world, worker, caplog):
        caplog.set_level(logging.INFO, "django_resilient_cache")
        world.shelf.away = True
        world.forward(200)
        world.shelf.away = False
        world.forward(30)
        away, back = (record.getMessage() for record in caplog.records)
        assert away == (
            "The board that workers share (the shelf) cannot be used: BoardAway: nobody there. "
            "See to it.  Orders hold as they are; caches are not affected."
        )
        assert back == "The board that workers share is back (the shelf)"

    def test_a_single_failure_is_no_news(self, world, worker, caplog):
        world.shelf.away = True
        world.forward(1.0)
        world.shelf.away = False
        world.forward(10)
        assert caplog.records == []

    def test_a_changing_breaker_does_not_make_it_ask_sooner(self, world, worker):
        world.shelf.away = True
        world.forward(60)
        before = len(world.shelf.calls)
        worker.member.changed()
        worker.wake()
        world.forward(1)
        assert len(world.shelf.calls) <= before + 1

    def test_nobody_is_told_of_the_end(self, world, worker):
        world.shelf.away = True
        world.forward(20)
        before = len(world.shelf.calls)
        worker.end()
        assert len(world.shelf.calls) == before


def test_a_mistake_in_here_is_logged_once_and_retried_seldom(world, host, caplog):
    worker = host.worker()
    world.forward(3)
    worker.site.layers = None
    world.forward(100)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_without_a_board_it_sleeps(world, host):
    worker = host.worker()
    worker.member._open_board = lambda: None
    world.forward(2)
    assert worker.member.tick() is None
    worker.member._open_board = host.board
    assert worker.member.tick() is None
    worker.member.forget_board()
    worker.wake()
    world.forward(1)
    assert live(host) == ids(worker)


def test_several_projects_on_one_board_do_not_see_each_other(world, host):
    mine, other = host.worker("mine"), host.worker("other")
    world.forward(3)
    control = host.control("mine")
    finish(control, control.give(["redis"], Action.FORCE_OPEN, actor="ada"), world)
    assert (mine.state(), other.state()) == (State.FORCED_OPEN, State.CLOSED)
    assert [w.id for w in host.control("other").fleet().workers] == ids(other)
    assert host.control("other").fleet().standing == {}
