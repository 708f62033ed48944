"""How workers agree on when an order ends, though each knows it from another moment on."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import Any

import pytest

from django_resilient_cache.breaker import State
from django_resilient_cache.fleet.board.order import Action, Order
from django_resilient_cache.fleet.board.posted_order import Posted, name_of, read_posted
from django_resilient_cache.fleet.worker.order_follower import OrderFollower
from tests.fleet.simulated_fleet import Host, SimWorker, World

CLOSED, FORCED_OPEN = State.CLOSED, State.FORCED_OPEN
PLACE = ("redis", "state")


def web(world: World, number: int) -> Host:
    return Host(world, f"web{number}", started=number * 1e5, skew=number * 100.0)


def forced_open(host: Host, seconds: float | None) -> Order:
    (order,) = host.control().give(["redis"], Action.FORCE_OPEN, actor="ada", seconds=seconds)
    return order


def written(world: World) -> Posted | None:
    keys = world.shelf.keys(name_of(PLACE))
    return read_posted(world.shelf.entries[keys[0]][0], PLACE) if keys else None


def lose(world: World) -> None:
    for key in world.shelf.keys(name_of(PLACE)):
        del world.shelf.entries[key]


def a_worker(host: Host) -> SimWorker:
    """One that has been at work for a while."""
    worker = host.worker()
    host.world.forward(3)
    return worker


def test_an_order_that_is_over_is_taken_up_by_nobody():
    """On a board that keeps no time its record would be there for an hour yet."""
    world = World(keeps_time=False)
    first = a_worker(web(world, 1))
    forced_open(web(world, 1), 100)
    world.forward(103)
    assert first.state() is CLOSED
    second = a_worker(web(world, 2))
    assert second.site.done == []


def test_an_order_that_the_board_ends_a_little_early_is_over(world):
    worker = a_worker(web(world, 1))
    forced_open(web(world, 1), 100)
    world.forward(98.2)
    lose(world)
    world.forward(1)
    assert worker.state() is CLOSED


def test_who_does_not_know_its_end_leaves_it_to_those_who_do(world):
    """One that has just started, elsewhere, cannot tell what was lost from what has ended."""
    first = a_worker(web(world, 1))
    forced_open(web(world, 1), 1000)
    world.forward(100)
    second = a_worker(web(world, 2))
    assert second.state() is FORCED_OPEN
    lose(world)
    world.forward(10)
    assert (first.state(), second.state()) == (FORCED_OPEN, FORCED_OPEN)
    posted = written(world)
    assert posted is not None
    assert posted.left == pytest.approx(1000 - 104, abs=5)


def test_where_nobody_knows_its_end_what_is_lost_is_over(world):
    first = a_worker(web(world, 1))
    forced_open(web(world, 1), 1000)
    world.forward(5)
    first.kill()
    second = a_worker(web(world, 2))
    lose(world)
    world.forward(3)
    assert second.state() is FORCED_OPEN  # for as long as somebody may write it back
    world.forward(7)
    assert second.state() is CLOSED
    assert written(world) is None


def test_who_knows_better_is_believed_afterwards(world):
    first = a_worker(web(world, 1))
    forced_open(web(world, 1), 1000)
    world.forward(5)
    second = a_worker(web(world, 2))
    first.frozen = True
    lose(world)
    world.forward(10)
    assert second.state() is CLOSED
    first.frozen = False
    world.forward(5)
    assert (first.state(), second.state()) == (FORCED_OPEN, FORCED_OPEN)
    world.forward(970)
    assert second.state() is FORCED_OPEN
    world.forward(20)
    assert (first.state(), second.state()) == (CLOSED, CLOSED)


def test_one_without_an_end_is_never_over_for_being_lost(world):
    first = a_worker(web(world, 1))
    forced_open(web(world, 1), None)
    world.forward(5)
    second = a_worker(web(world, 2))
    first.kill()
    lose(world)
    world.forward(60)
    assert second.state() is FORCED_OPEN
    posted = written(world)
    assert posted is not None
    assert posted.left == inf


def test_what_is_left_is_written_anew_so_that_who_comes_late_knows():
    """On a board that keeps no time, nothing else would tell."""
    world = World(keeps_time=False)
    first = a_worker(web(world, 1))
    forced_open(web(world, 1), 1000)
    world.forward(500, step=0.5)
    second = a_worker(web(world, 2))
    first.kill()
    world.forward(480, step=0.5)
    assert second.state() is FORCED_OPEN
    world.forward(80, step=0.5)
    assert second.state() is CLOSED


def test_that_is_seldom_and_by_one(world):
    for number in range(4):
        share = number / 4
        web(world, number).worker(rng=partial(float, share))
    world.forward(5)
    forced_open(web(world, 1), 3600)
    before = len(world.shelf.calls)
    world.forward(600, step=0.5)
    writes = [what for name, what in world.shelf.calls[before:] if name == "set"]
    orders = [what for what in writes if "order:" in what]
    assert 8 <= len(orders) <= 22


def test_an_order_that_comes_between_looking_and_writing_back_is_not_overwritten(world):
    """The window is not closed by reading again, but it is made small."""
    worker = a_worker(web(world, 1))
    forced_open(web(world, 1), 1000)
    world.forward(3)
    lose(world)
    look, given = worker.access.get_many, []

    def look_and_be_overtaken(keys: list[str], budget: float) -> dict[str, object]:
        found = look(keys, budget)
        if len(keys) > 1 and worker.member.follower.held[PLACE].absences == 1 and not given:
            given.extend(web(world, 2).control().give(["redis"], Action.RESET, actor="bob"))
        return found

    worker.access.get_many = look_and_be_overtaken  # type: ignore[method-assign]  # for one test
    while not given:
        world.forward(0.1)
    posted = written(world)
    assert posted is not None
    assert posted.order == given[0]
    world.forward(2)
    assert worker.state() is CLOSED


@pytest.mark.parametrize(
    ("uncertainty", "known"), [(0.0, True), (5.0, True), (60.0, False), (inf, False)]
)
def test_a_record_is_known_as_well_as_its_writer_knew(world, host, uncertainty, known):
    follower = OrderFollower(host.clock, lambda order: True, lambda order: None)
    board = host.board()
    board.allow(100)

    def look(posted: dict[str, Any]) -> None:
        follower.follow(board, ["redis"], posted)

    look({})
    world.now += 1
    other = web(world, 2)
    order = Order(
        alias="redis",
        action=Action.FORCE_OPEN,
        id="1",
        number=1,
        actor="ada",
        reason="",
        given=0.0,
        seconds=600.0,
    )
    Posted.now(order, 600.0, other.clock, uncertainty).put(board)
    look(board.get_many([name_of(PLACE)]))
    assert follower.held[PLACE].known is known
