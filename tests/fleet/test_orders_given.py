"""Orders reach every worker, once, and end when they are to end."""

from __future__ import annotations

import pytest

from django_resilient_cache.breaker import State
from django_resilient_cache.fleet.board.board import BoardUnavailable
from django_resilient_cache.fleet.board.order import Action
from tests.fleet.simulated_fleet import Host, World, finish

CLOSED, OPEN, FORCED_OPEN, FORCED_CLOSED = (
    State.CLOSED,
    State.OPEN,
    State.FORCED_OPEN,
    State.FORCED_CLOSED,
)


@pytest.fixture
def hosts(world: World) -> list[Host]:
    """Two hosts that agree on nothing: one is an hour ahead."""
    return [
        Host(world, "web1", started=5.0),
        Host(world, "web2", started=90_000.0, skew=3600.0),
    ]


@pytest.fixture
def fleet(world: World, hosts: list[Host]) -> World:
    """Two workers on each host, which have all reported."""
    for each in hosts * 2:
        each.worker()
    world.forward(3)
    return world


def break_it(world: World, alias: str = "redis") -> None:
    for worker in world.workers:
        for _ in range(5):
            permit = worker.site.breakers[alias].acquire()
            permit.failure(OSError("gone"))


@pytest.mark.parametrize("giver", [0, 1])
@pytest.mark.parametrize(
    ("action", "state"),
    [
        (Action.RESET, CLOSED),
        (Action.FORCE_OPEN, FORCED_OPEN),
        (Action.FORCE_CLOSED, FORCED_CLOSED),
    ],
)
def test_an_order_reaches_every_worker_within_a_poll(fleet, hosts, giver, action, state):
    break_it(fleet)
    control = hosts[giver].control()
    orders = control.give(["redis"], action, actor="ada")
    progress = finish(control, orders, fleet)
    assert fleet.states() == [state] * 4
    assert len(progress.applied) == 4
    assert progress.seconds < 1.2
    assert fleet.states("other") == [CLOSED] * 4


def test_an_order_is_applied_once(fleet, hosts):
    control = hosts[0].control()
    control.give(["redis"], Action.RESET, actor="ada")
    fleet.forward(60)
    assert [len(worker.site.done) for worker in fleet.workers] == [1, 1, 1, 1]


def test_of_two_orders_the_later_holds(fleet, hosts):
    first, second = hosts[0].control(), hosts[1].control()
    opened = first.give(["redis"], Action.FORCE_OPEN, actor="ada")
    (closed,) = second.give(["redis"], Action.FORCE_CLOSED, actor="bob")
    assert finish(first, opened, fleet).superseded == closed
    assert finish(second, [closed], fleet).complete
    assert fleet.states() == [FORCED_CLOSED] * 4


def test_a_clock_that_is_behind_gives_no_lower_number(fleet, hosts):
    (ahead,) = hosts[1].control().give(["redis"], Action.FORCE_OPEN, actor="ada")
    (behind,) = hosts[0].control().give(["redis"], Action.RESET, actor="bob")
    assert behind.number == ahead.number + 1
    fleet.forward(2)
    assert fleet.states() == [CLOSED] * 4


def test_reset_ends_a_standing_order_and_auto_gives_back_the_state_before(fleet, hosts):
    control = hosts[0].control()
    break_it(fleet)
    for order, state in (
        (Action.FORCE_CLOSED, FORCED_CLOSED),
        (Action.AUTO, OPEN),
        (Action.FORCE_OPEN, FORCED_OPEN),
        (Action.RESET, CLOSED),
    ):
        finish(control, control.give(["redis"], order, actor="ada"), fleet)
        assert fleet.states() == [state] * 4
        assert ("redis" in control.fleet().standing) is order.stands


def test_forget_reaches_the_ledgers_and_ends_no_order(fleet, hosts):
    control = hosts[0].control()
    control.give(["redis"], Action.FORCE_OPEN, actor="ada", seconds=100)
    orders = control.give(["redis"], Action.FORGET, actor="ada")
    assert finish(control, orders, fleet).complete
    assert [worker.site.forgotten for worker in fleet.workers] == [["redis"]] * 4
    fleet.forward(50)
    assert fleet.states() == [FORCED_OPEN] * 4
    assert [worker.site.forgotten for worker in fleet.workers] == [["redis"]] * 4


def test_a_standing_order_ends_everywhere_when_its_time_is_up(fleet, hosts):
    control = hosts[0].control()
    control.give(["redis"], Action.FORCE_OPEN, actor="ada", seconds=100)
    fleet.forward(97)
    assert fleet.states() == [FORCED_OPEN] * 4
    left = control.fleet().standing["redis"].left
    assert left is not None
    assert 1 < left < 5
    fleet.forward(5)
    assert fleet.states() == [CLOSED] * 4
    assert control.fleet().standing == {}
    fleet.forward(200)
    assert fleet.states() == [CLOSED] * 4


def test_one_without_an_end_stands_until_it_is_revoked(fleet, hosts):
    control = hosts[0].control()
    control.give(["redis"], Action.FORCE_OPEN, actor="ada")
    fleet.forward(5000, step=5)
    assert fleet.states() == [FORCED_OPEN] * 4
    assert control.fleet().standing["redis"].left is None
    finish(control, control.give(["redis"], Action.AUTO, actor="ada"), fleet)
    assert fleet.states() == [CLOSED] * 4


def test_a_worker_that_starts_takes_up_what_stands_and_nothing_else(fleet, hosts):
    control = hosts[0].control()
    control.give(["redis"], Action.FORCE_OPEN, actor="ada", seconds=100)
    control.give(["other"], Action.RESET, actor="ada")
    control.give(["other"], Action.FORGET, actor="ada")
    fleet.forward(50)
    new = hosts[1].worker()
    fleet.forward(2)
    assert new.state("redis") is FORCED_OPEN
    assert [order.alias for order in new.site.done] == ["redis"]
    fleet.forward(46)
    assert new.state("redis") is FORCED_OPEN
    fleet.forward(5)
    assert new.state("redis") is CLOSED


def test_a_restart_of_all_workers_makes_no_order_longer(fleet, hosts):
    """Nobody is left who knows when it began; the board still does, and so does its own host."""
    hosts[0].control().give(["redis"], Action.FORCE_OPEN, actor="ada", seconds=100)
    fleet.forward(20)
    for worker in list(fleet.workers):
        worker.end()
    fleet.forward(60)
    for each in hosts:
        each.worker()
    fleet.forward(15)
    assert fleet.states() == [FORCED_OPEN] * 2
    fleet.forward(12)
    assert fleet.states() == [CLOSED] * 2


def test_a_frozen_worker_catches_up(fleet, hosts):
    frozen = fleet.workers[0]
    frozen.frozen = True
    control = hosts[1].control()
    break_it(fleet)
    orders = control.give(["redis"], Action.RESET, actor="ada")
    progress = finish(control, orders, fleet)
    assert [worker.id for worker in progress.waiting] == [frozen.member.id]
    assert len(progress.applied) == 3
    fleet.forward(600, step=1)
    frozen.frozen = False
    fleet.forward(2)
    assert frozen.state() is CLOSED
    assert finish(control, orders, fleet).complete


def test_one_that_slept_through_a_whole_order_is_not_left_in_it(fleet, hosts):
    control = hosts[1].control()
    control.give(["redis"], Action.FORCE_OPEN, actor="ada")
    fleet.forward(2)
    frozen = fleet.workers[0]
    frozen.frozen = True
    control.give(["redis"], Action.FORCE_CLOSED, actor="ada", seconds=10)
    fleet.forward(300)
    frozen.frozen = False
    fleet.forward(2)
    assert frozen.state() is CLOSED
    assert fleet.states() == [CLOSED] * 4


def test_what_one_slept_through_for_days_it_leaves_to_the_board(fleet, hosts):
    """Records of orders that do not stand last a day: after that, nobody may know better."""
    control = hosts[0].control()
    control.give(["redis"], Action.FORCE_OPEN, actor="ada")
    fleet.forward(2)
    frozen = fleet.workers[0]
    frozen.frozen = True
    finish(control, control.give(["redis"], Action.RESET, actor="ada"), fleet)
    fleet.forward(200_000, step=1000)
    for worker in list(fleet.workers[1:]):
        worker.end()
    hosts[0].worker()
    fleet.forward(5)
    frozen.frozen = False
    fleet.forward(10)
    assert fleet.states() == [CLOSED] * 2


def test_what_is_on_the_board_when_one_wakes_up_after_days_is_meant_for_it(fleet, hosts):
    """It is no newcomer, to whom a reset is done: it holds what the reset has ended."""
    control = hosts[0].control()
    control.give(["redis"], Action.FORCE_OPEN, actor="ada")
    fleet.forward(2)
    frozen = fleet.workers[0]
    frozen.frozen = True
    fleet.forward(100_000, step=1000)
    control.give(["redis"], Action.RESET, actor="ada")
    fleet.forward(2)
    frozen.frozen = False
    fleet.forward(2)
    assert fleet.states() == [CLOSED] * 4


def test_an_order_to_an_alias_that_cannot_be_obeyed_keeps_no_other_waiting(fleet, hosts):
    lame = fleet.workers[2]
    lame.site.refused.add("redis")
    control = hosts[0].control()
    orders = control.give(["redis", "other"], Action.FORCE_OPEN, actor="ada")
    finish(control, orders, fleet)
    bad, good = control.progress(orders)
    assert [worker.id for worker in bad.waiting] == [lame.member.id]
    assert good.complete
    assert lame.state("other") is FORCED_OPEN


class TestLoss:
    """What the board loses is written again, and nothing else comes of it."""

    def test_everything(self, fleet, hosts):
        control = hosts[0].control()
        control.give(["redis"], Action.FORCE_OPEN, actor="ada", seconds=1000)
        fleet.forward(300)
        fleet.shelf.clear()
        fleet.forward(3)
        (standing,) = control.fleet().standing.values()
        assert standing.order.actor == "ada"
        assert standing.left is not None
        assert 690 < standing.left < 700
        fleet.forward(5)
        assert len(control.fleet().live) == 4
        assert fleet.states() == [FORCED_OPEN] * 4
        fleet.forward(680)
        assert fleet.states() == [FORCED_OPEN] * 4
        fleet.forward(15)
        assert fleet.states() == [CLOSED] * 4

    def test_everything_again_and_again_makes_no_order_longer(self, fleet, hosts):
        hosts[0].control().give(["redis"], Action.FORCE_OPEN, actor="ada", seconds=200)
        for _ in range(19):
            fleet.forward(10)
            fleet.shelf.clear()
        fleet.forward(13)
        assert fleet.states() == [CLOSED] * 4

    def test_an_order_just_after_it_was_given(self, fleet, hosts):
        control = hosts[0].control()
        orders = control.give(["redis"], Action.FORCE_OPEN, actor="ada")
        fleet.shelf.clear()
        assert finish(control, orders, fleet).complete
        assert fleet.states() == [FORCED_OPEN] * 4

    def test_a_write_over_an_order(self, fleet, hosts):
        """Two read, both write: the lower one last."""
        control = hosts[0].control()
        control.give(["redis"], Action.FORCE_OPEN, actor="ada")
        (key,) = [key for key in fleet.shelf.keys("order:") if "state" in key]
        before = fleet.shelf.entries[key]
        fleet.forward(2)
        orders = control.give(["redis"], Action.RESET, actor="ada")
        fleet.shelf.entries[key] = before
        assert finish(control, orders, fleet).complete
        fleet.forward(2)
        fleet.shelf.entries[key] = before
        fleet.forward(5)
        assert fleet.states() == [CLOSED] * 4
        assert control.fleet().standing == {}

    def test_an_order_that_was_revoked_does_not_come_back(self, fleet, hosts):
        control = hosts[0].control()
        finish(control, control.give(["redis"], Action.FORCE_OPEN, actor="ada"), fleet)
        frozen = fleet.workers[0]
        frozen.frozen = True
        finish(control, control.give(["redis"], Action.RESET, actor="ada"), fleet)
        fleet.shelf.clear()
        frozen.frozen = False
        fleet.forward(10)
        assert fleet.states() == [CLOSED] * 4

    def test_the_roster_alone(self, fleet, hosts):
        fleet.shelf.entries.pop(fleet.shelf.keys("roster")[0])
        fleet.forward(6)
        assert len(hosts[0].control().fleet().live) == 4

    def test_the_roster_while_an_order_is_waited_for(self, fleet, hosts):
        """Who was there when it was given is waited for, on the roster or not."""
        frozen = fleet.workers[0]
        frozen.frozen = True
        control = hosts[0].control()
        orders = control.give(["redis"], Action.RESET, actor="ada")
        fleet.shelf.entries.pop(fleet.shelf.keys("roster")[0])
        progress = finish(control, orders, fleet)
        assert [worker.id for worker in progress.waiting] == [frozen.member.id]
        assert len(progress.applied) == 3

    def test_what_is_written(self, fleet, hosts):
        fleet.shelf.forgetful = True
        with pytest.raises(BoardUnavailable, match="does not keep what is written"):
            hosts[0].control().give(["redis"], Action.RESET, actor="ada")


def test_boards_without_a_clock_of_their_own_go_by_the_workers():
    """DatabaseCache and files end entries by the clock of who looks, an hour off or not."""
    world = World(keeps_time=False)
    hosts = [Host(world, "web1"), Host(world, "web2", started=9.0, skew=1800.0)]
    for each in hosts * 2:
        each.worker()
    world.forward(3)
    for each in hosts:
        control = each.control()
        assert len(control.fleet().live) == 4
        orders = control.give(["redis"], Action.FORCE_OPEN, actor="ada", seconds=100)
        assert finish(control, orders, world).complete
        world.forward(96)
        assert world.states() == [FORCED_OPEN] * 4
        world.forward(6)
        assert world.states() == [CLOSED] * 4
        late = each.worker()
        world.forward(5)
        assert late.state() is CLOSED
        late.end()
