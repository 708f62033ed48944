"""Eight workers of two gunicorn masters: one that is busy, one whose workers idle."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes.commands import gunicorn
from tests.processes.site_processes import (
    ATTEMPTS,
    Server,
    Site,
    children_of,
    live,
    resume,
    stale,
    stop,
)
from tests.services import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.slow, pytest.mark.exclusive]

#: Says what was measured: pytest --log-cli-level=INFO.
logger = logging.getLogger(__name__)

#: Seconds within which an order has reached everybody.
AT_MOST = 1.5


class Workers:
    """The eight; `idle` are the processes that have served next to nothing."""

    def __init__(self, site: Site, busy: Server, quiet: Server) -> None:
        self.site = site
        self.busy = busy
        self.quiet = quiet

    @property
    def idle(self) -> list[int]:
        return children_of(self.quiet.process.pid)


@pytest.fixture(scope="module")
def eight(make_shared_site: Callable[..., Site], needs: Callable[[str], None]) -> Iterator[Workers]:
    needs("gunicorn")
    site = make_shared_site(SITE_HURRY="1")
    threaded = ("--worker-class", "gthread", "--threads", "2")
    busy = site.serve(*gunicorn(4, *threaded, "--preload"))
    quiet = site.serve(*gunicorn(4, *threaded))
    for server in (busy, quiet):
        server.first_uses(4)
    over = threading.Event()

    def visit() -> None:
        while not over.wait(0.02):
            busy.get("use")

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        site.until(lambda seen: len(live(seen)) == 8)
        yield Workers(site, busy, quiet)
    finally:
        over.set()
        visitor.join()


def given(eight: Workers, *arguments: str) -> Any:
    """What came of an order for Redis, after the answer that the command gave."""
    answer = eight.site.breakers("redis", *arguments, "--format", "json")
    (order,) = answer.json["orders"]
    return answer, order


def test_an_order_reaches_all_of_them_in_about_a_second(eight):
    """Of twenty orders the slowest: from the giving until the last worker was seen to obey."""
    slowest = []
    for _ in range(ATTEMPTS):
        took = [0.0]
        while len(took) <= 20 and took[-1] < AT_MOST:
            answer, order = given(eight, "--reset", "--wait", "10")
            assert (answer.code, order["applied"], order["of"]) == (0, 8, 8), answer
            took.append(order["seconds"])
        slowest.append(max(took))
        logger.info("seconds until all had obeyed: %s", sorted(took[1:]))
        if slowest[-1] < AT_MOST:
            return
    pytest.fail(f"the slowest of each attempt: {slowest}")


def test_the_command_says_so(eight):
    answer = eight.site.breakers("redis", "--reset", "--wait", "10")
    assert answer.code == 0, answer
    assert answer.out.startswith("redis: reset, applied by 8 of 8 workers in ")


def test_a_stopped_worker_is_named_and_catches_up(eight):
    frozen = eight.idle[0]
    stop(frozen)
    try:
        answer, order = given(eight, "--force-open", "--wait", "2")
        assert answer.code == 1
        assert [laggard["pid"] for laggard in order["laggards"]] == [frozen]
        (name,) = [f"{laggard['host']}/{laggard['pid']}" for laggard in order["laggards"]]
        assert name in answer.error
        assert (order["applied"], order["of"]) == (7, 8)
    finally:
        resume(frozen)
    eight.site.until(lambda seen: has_applied(seen, frozen) == order["order"]["id"], 10)
    assert given(eight, "--auto", "--wait", "10")[0].code == 0


def has_applied(seen: Any, pid: int) -> str | None:
    """The id of the order that this worker has applied last."""
    for worker in seen["workers"]:
        if worker["pid"] == pid:
            applied = worker["layers"]["redis"]["applied"]
            return applied and applied["id"]
    return None


def test_a_killed_worker_is_silent_and_then_gone_and_keeps_nobody_waiting(eight):
    """Its master starts another one, which reports once it has used its cache."""
    killed = eight.idle[0]
    os.kill(killed, signal.SIGKILL)
    eight.site.until(lambda seen: stale(seen) == {killed}, 5)
    answer, order = given(eight, "--reset", "--wait", "10")
    assert answer.code == 0, answer
    assert order["of"] == 7
    eight.site.until(lambda seen: not stale(seen))
    assert wait_until(lambda: len(eight.idle) == 4)
    assert len(live(eight.site.seen())) == 7
    (new,) = set(eight.idle) - live(eight.site.seen())
    eight.quiet.first_uses(4)
    eight.site.until(lambda seen: new in live(seen), 10)
    assert len(live(eight.site.seen())) == 8
