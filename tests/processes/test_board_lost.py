"""A board that hangs, is emptied, or throws records away: on a Valkey of its own."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests import services
from tests.processes.boards import on_valkey
from tests.processes.site_processes import ATTEMPTS, PATIENCE, Site, live, resume, stop
from tests.services import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.processes.site_processes import Talker

pytestmark = pytest.mark.slow

#: Says what was measured: pytest --log-cli-level=INFO.
logger = logging.getLogger(__name__)

#: The limit of the far layer, in seconds, and by how much a call may be late.
LIMIT = 0.25
LATE = 0.05


@pytest.fixture(scope="module")
def data() -> Iterator[services.ValkeyServer]:
    """What the far layer is on."""
    with services.valkey_server() as server:
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[services.ValkeyServer]:
    """What the board is on."""
    with services.valkey_server() as server:
        yield server


@pytest.fixture(scope="module")
def shared(
    make_shared_site: Callable[..., Site],
    data: services.ValkeyServer,
    server: services.ValkeyServer,
) -> tuple[Site, list[Talker]]:
    site = make_shared_site(SITE_VALKEY=data.url, **on_valkey(server))
    return site, site.workers(2)


@pytest.fixture
def board(
    server: services.ValkeyServer, data: services.ValkeyServer, shared: tuple[Site, list[Talker]]
) -> Iterator[services.ValkeyServer]:
    """The board's server; afterwards everything goes on, and every worker is seen."""
    site, workers = shared
    yield server
    data.thaw()
    server.thaw()
    for worker in workers:
        resume(worker.pid)
    assert wait_until(lambda: ordered(site, "--reset"), PATIENCE, every=0.2)


def ordered(site: Site, *arguments: str) -> bool:
    """Whether an order to the far layer has reached both workers."""
    answer = site.breakers("redis", *arguments, "--wait", "5", "--format", "json")
    return answer.code == 0 and answer.json["orders"][0]["of"] == 2


class TestFrozen:
    def test_reads_take_as_long_as_ever(self, board, shared):
        """In turns with a board that answers, so that what else the machine does counts for both."""
        _, (worker, _) = shared
        seen = []
        for _ in range(ATTEMPTS):
            answers, hangs = [], []
            for _ in range(3):
                answers.append(worker.told("measure 500"))
                board.freeze()
                hangs.append(worker.told("measure 500"))
                board.thaw()
            ratios = {
                name: middle(hangs, name) / middle(answers, name) for name in ("p50", "p99", "max")
            }
            seen.append(ratios)
            logger.info("a frozen board to one that answers: %s", ratios)
            if ratios["p99"] < 2 and max(each["max"] for each in hangs) < LIMIT + LATE:
                return
        pytest.fail(f"{seen}")

    def test_an_order_fails_loudly(self, board, shared):
        site, workers = shared
        board.freeze()
        began = time.monotonic()
        answer = site.breakers("redis", "--force-open")
        assert time.monotonic() - began < 10
        assert answer.code == 1
        assert 'CACHES["board"]' in answer.error
        assert "no answer within" in answer.error
        assert [worker.state for worker in workers] == ["closed"] * 2
        board.thaw()

    def test_a_standing_order_stands_and_ends_in_time(self, board, shared):
        site, workers = shared
        began = time.monotonic()
        assert ordered(site, "--force-open", "--for", "4")
        board.freeze()
        time.sleep(1)
        assert [worker.state for worker in workers] == ["forced open"] * 2
        assert wait_until(lambda: {each.state for each in workers} == {"closed"}, 20, every=0.05)
        assert 3.9 < time.monotonic() - began < 7

    def test_an_order_from_before_is_caught_up(self, board, shared):
        site, (worker, other) = shared
        for each in (worker, other):
            stop(each.pid)
        assert site.breakers("redis", "--force-open", "--wait", "0").code == 0
        board.freeze()
        for each in (worker, other):
            resume(each.pid)
        time.sleep(2)
        assert [worker.state, other.state] == ["closed"] * 2
        board.thaw()
        assert wait_until(lambda: [worker.state, other.state] == ["forced open"] * 2, 15)

    def test_an_order_from_afterwards_is_obeyed(self, board, shared):
        site, workers = shared
        board.freeze()
        time.sleep(3)
        board.thaw()
        # Whoever had left the board alone for a while is back within that while.
        answer = site.breakers("redis", "--force-closed", "--wait", "15")
        assert answer.code == 0, answer
        assert [worker.state for worker in workers] == ["forced closed"] * 2

    def test_what_was_missed_is_repaired_no_later(self, board, data, shared):
        _, (worker, _) = shared
        board.freeze()
        time.sleep(1)
        data.freeze()
        for _ in range(6):
            worker.told("change")
        assert worker.told("missed") == 1
        assert worker.state == "open"
        data.thaw()
        began = time.monotonic()
        assert wait_until(lambda: worker.told("missed") == 0, 20)
        # The breaker's trial, and what the agent had begun with the board.
        assert time.monotonic() - began < 3.0


def middle(measured: list[dict[str, float]], name: str) -> float:
    return sorted(each[name] for each in measured)[len(measured) // 2]


def test_an_emptied_board_is_mended_and_what_stands_holds_for_new_workers(board, shared):
    site, workers = shared
    assert ordered(site, "--force-open", "--for", "600", "--reason", "a drill")
    new = site.worker()
    new.told("state")
    board.flush()
    assert not site.seen()["workers"]
    site.until(is_whole, 10)
    assert [worker.state for worker in workers] == ["forced open"] * 2
    order = site.seen()["layers"]["redis"]["order"]
    assert order["reason"] == "a drill"
    assert 500 < order["left"] < 600
    new.told("use")
    assert wait_until(lambda: new.state == "forced open", 10)
    new.end()
    assert live(site.seen()) == {worker.pid for worker in workers}


def is_whole(seen: Any) -> bool:
    """Whether two workers report, and the order stands."""
    return len(live(seen)) == 2 and seen["layers"]["redis"]["order"] is not None


def test_a_board_that_evicts_at_random_is_mended(board, shared):
    """As long as it does, and for good when it has stopped."""
    site, workers = shared
    assert ordered(site, "--force-open", "--for", "600")
    used = int(board.ask(b"INFO memory\r\n", b"\r\n\r\n").partition(b"used_memory:")[2].split()[0])
    configure(board, "maxmemory-policy", "allkeys-random")
    configure(board, "maxmemory", str(used + 1_000_000))
    over = threading.Event()
    filler = threading.Thread(target=fill, args=(board, over))
    filler.start()
    lost = 0
    try:
        end = time.monotonic() + 3
        while time.monotonic() < end or not lost:
            assert time.monotonic() < end + PATIENCE, "nothing was evicted"
            lost += not is_whole(site.seen())
            assert [worker.state for worker in workers] == ["forced open"] * 2
            time.sleep(0.02)
    finally:
        over.set()
        filler.join()
        configure(board, "maxmemory", "0")
    site.until(is_whole, 10)


def configure(server: services.ValkeyServer, name: str, value: str) -> None:
    assert server.ask(f"CONFIG SET {name} {value}\r\n".encode()) == b"+OK\r\n"


def fill(server: services.ValkeyServer, over: threading.Event) -> None:
    """Write other entries, so many that the server is full all the time."""
    text, number = "x" * 10_000, 0
    while not over.wait(0.003):
        number += 1
        server.ask(f"SET filler:{number} {text}\r\n".encode())
