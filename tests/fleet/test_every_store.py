"""The board on real backends: what an order needs, and what happens when one is frozen or emptied."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from django_resilient_cache import conf
from django_resilient_cache.breaker import State
from django_resilient_cache.fleet.board import stores
from django_resilient_cache.fleet.board.board import Board, BoardUnavailable
from django_resilient_cache.fleet.board.order import Action
from django_resilient_cache.fleet.board.stores import CALL_SECONDS, open_board
from django_resilient_cache.fleet.console.control import Control
from django_resilient_cache.fleet.worker.heartbeat import ROUND_SECONDS
from tests.entries import DATABASE, DJANGO_REDIS, DJANGO_VALKEY, FILE, PYLIBMC, PYMEMCACHE, REDIS
from tests.fleet.simulated_fleet import Host, SimWorker, World
from tests.services import wait_until
from tests.services.cache_tables import ROUTERS, cache_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests import services

BACKENDS = {
    "file": FILE,
    "redis": REDIS,
    "django_redis": DJANGO_REDIS,
    "django_valkey": DJANGO_VALKEY,
    "pymemcache": PYMEMCACHE,
    "pylibmc": PYLIBMC,
    "database": DATABASE,
}
ON_VALKEY = ("redis", "django_redis", "django_valkey")
ON_MEMCACHED = ("pymemcache", "pylibmc")


def entry(kind: str, request: pytest.FixtureRequest, own: str = "") -> dict[str, Any]:
    """The entry in CACHES of a board; `own`: "own_" for a server of this test's own."""
    if kind == "file":
        location = str(request.getfixturevalue("tmp_path"))
    elif kind in ON_VALKEY:
        server: services.ValkeyServer = request.getfixturevalue(f"{own}valkey")
        pytest.importorskip("valkey" if kind == "django_valkey" else "redis")
        location = (
            server.url.replace("redis:", "valkey:") if kind == "django_valkey" else server.url
        )
    elif kind in ON_MEMCACHED:
        pytest.importorskip(kind)
        location = request.getfixturevalue(f"{own}memcached").location
    else:
        location = request.getfixturevalue(f"{own}board_table")
    return {"BACKEND": BACKENDS[kind], "LOCATION": location}


@pytest.fixture
def board_table(postgresql: Any, django_db_blocker: Any) -> Iterator[str]:
    """A cache table in a PostgreSQL, where the cache finds it."""
    yield from _table(postgresql, django_db_blocker)


@pytest.fixture
def own_board_table(own_postgresql: Any, django_db_blocker: Any) -> Iterator[str]:
    yield from _table(own_postgresql, django_db_blocker)


def _table(server: Any, blocker: Any) -> Iterator[str]:
    entry = server.databases_entry("board")
    with (
        blocker.unblock(),
        override_settings(DATABASE_ROUTERS=ROUTERS),
        cache_table("board", entry) as table,
    ):
        yield table
        stores._settings_changed(setting="CACHES")  # the threads end, and their connections
        assert wait_until(
            lambda: all(t.name != "resilient-cache-board" for t in threading.enumerate())
        )


@pytest.fixture(params=BACKENDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def board(kind: str, request: pytest.FixtureRequest, settings: Any) -> Board:
    return configure(settings, entry(kind, request))


def configure(settings: Any, board: dict[str, Any]) -> Board:
    settings.CACHES = settings.CACHES | {"board": board}
    settings.RESILIENT_CACHE_CONTROL_ALIAS = "board"
    return a_board()


def a_board() -> Board:
    config = conf.control_config(CALL_SECONDS)
    assert config is not None
    return open_board(config)


class RealHost(Host):
    """A host whose workers use the configured board; its clock is told by hand."""

    def access(self) -> Any:
        return a_board()._store

    def board(self, project: str = "project") -> Board:
        return Board(self.access(), project)  # the limits run on the real clock

    def worker(self, project: str = "project", rng: Any = lambda: 0.5) -> SimWorker:
        worker = super().worker(project, rng)
        board = self.board(project)
        worker.member._open_board = lambda: board
        return worker


def two_hosts() -> tuple[World, list[RealHost]]:
    world = World()
    return world, [RealHost(world, "web1"), RealHost(world, "web2", started=7e6, skew=-4000.0)]


def test_names_and_texts(board):
    board.allow(10)
    board.set("one", "text", 60)
    board.set("two", "x" * 100_000, None)
    assert board.get_many(["one", "two", "three"]) == {"one": "text", "two": "x" * 100_000}
    board.set("one", "again", 60)
    board.delete("two")
    board.delete("three")
    assert board.get_many(["one", "two"]) == {"one": "again"}


@pytest.mark.slow
def test_a_record_ends_where_the_board_keeps_time(board, kind):
    board.allow(30)
    board.set("short", "text", 1)
    board.set("long", "text", 60)
    time.sleep(2.1)
    found = board.get_many(["short", "long"])
    assert "long" in found
    assert ("short" in found) == (kind in ("file", "database"))


def test_two_hosts_report_follow_and_heal(board):
    world, hosts = two_hosts()
    workers = [host.worker() for host in hosts * 2]
    world.forward(5)
    control = hosts[1].control()
    assert {w.id for w in control.fleet().live} == {each.member.id for each in workers}
    orders = control.give(["redis"], Action.FORCE_OPEN, actor="ada", seconds=600)
    world.forward(1.2)
    (progress,) = control.progress(orders)
    assert progress.complete
    assert len(progress.applied) == 4
    assert world.states() == [State.FORCED_OPEN] * 4
    caches["board"].clear()
    world.forward(8)
    assert control.fleet().standing["redis"].order == orders[0]
    assert len(control.fleet().live) == 4
    control.give(["redis"], Action.RESET, actor="ada")
    world.forward(1.2)
    assert world.states() == [State.CLOSED] * 4
    for worker in workers:
        worker.end()
    assert control.fleet().workers == ()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in BACKENDS if kind != "file"])
def test_a_frozen_board_costs_nobody_more_than_its_limit(kind, request, settings):
    server = request.getfixturevalue(
        "own_valkey"
        if kind in ON_VALKEY
        else "own_memcached"
        if kind in ON_MEMCACHED
        else "own_postgresql"
    )
    configure(settings, entry(kind, request, own="own_"))
    world, (host, other) = two_hosts()
    worker = host.worker()
    world.forward(3)
    server.freeze()
    try:
        for _ in range(2):
            world.now += 15  # past every back-off
            began = time.monotonic()
            worker.member.tick()
            assert time.monotonic() - began < ROUND_SECONDS + 0.3
        began = time.monotonic()
        with pytest.raises(BoardUnavailable, match=r'CACHES\["board"\]'):
            other.control().give(["redis"], Action.FORCE_OPEN, actor="ada")
        assert time.monotonic() - began < CALL_SECONDS + 1.0
    finally:
        server.thaw()
    world.now += 15
    assert wait_for_order(world, other.control())
    assert world.states() == [State.FORCED_OPEN]


def wait_for_order(world: World, control: Control) -> bool:
    """Give an order as soon as the board takes it; whether all have applied it soon after."""
    for _ in range(20):
        try:
            orders = control.give(["redis"], Action.FORCE_OPEN, actor="ada")
            break
        except BoardUnavailable:
            time.sleep(0.2)
    else:
        return False
    world.forward(15, step=0.5)
    return bool(control.progress(orders)[0].complete)


def test_a_board_that_is_a_layer_too_counts_in_no_breaker(own_valkey, settings):
    settings.CACHES = settings.CACHES | {
        "redis": {"BACKEND": REDIS, "LOCATION": own_valkey.url},
    }
    settings.RESILIENT_CACHE_CONTROL_ALIAS = "redis"
    from django_resilient_cache import breakers

    world, (host, _) = two_hosts()
    worker = host.worker()
    world.forward(3)
    own_valkey.kill()
    for _ in range(20):
        world.now += 15
        worker.member.tick()
    assert breakers["redis"].state is State.CLOSED
    assert breakers["redis"].last_error is None
