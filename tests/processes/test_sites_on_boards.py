"""Two workers on each kind of board: seen, steered, and gone."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.processes import boards
from tests.processes.site_processes import Site, boards_in, live, state_in
from tests.services import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

#: Which package it needs, and what makes the board.
KINDS = {
    "files": ("django", boards.files),
    "valkey": ("redis", boards.valkey),
    "memcached": ("pymemcache", boards.memcached),
    "postgresql": ("psycopg", boards.postgresql),
}


@pytest.fixture(scope="module")
def stories(
    tmp_path_factory: pytest.TempPathFactory, needs: Callable[[str], None]
) -> Iterator[dict[str, Future[None]]]:
    """What happens on each board, on all of them at once: most of it is waiting."""
    with ThreadPoolExecutor(len(KINDS)) as pool:
        yield {
            kind: pool.submit(story, tmp_path_factory.mktemp(kind), kind, needs) for kind in KINDS
        }


@pytest.mark.parametrize("kind", KINDS)
def test_workers_are_seen_and_obey_and_leave(kind, stories):
    stories[kind].result()


def story(directory: Path, kind: str, needs: Callable[[str], None]) -> None:
    package, board = KINDS[kind]
    needs(package)
    with ExitStack() as stack:
        environment = board(stack)
        site = Site(directory, stack, **environment)
        if "SITE_DATABASES" in environment:
            site.run("django", "createcachetable")
        workers_are_seen_and_obey_and_leave(site)


def workers_are_seen_and_obey_and_leave(site: Site) -> None:
    late = site.worker()
    first, second = site.workers(2)
    first.told("break")
    site.until(lambda seen: state_in(seen, first.pid) == "open", 5)
    seen = site.seen()
    assert live(seen) == {first.pid, second.pid}
    assert seen["problems"][0].startswith("redis: open in 1 of 2 workers since ")

    answer = site.breakers("redis", "--reset", "--wait", "10")
    assert answer.code == 0, answer
    assert "applied by 2 of 2 workers" in answer.out
    assert [first.state, second.state] == ["closed"] * 2

    began = time.monotonic()
    answer = site.breakers("redis", "--force-open", "--for", "6", "--wait", "10")
    assert answer.code == 0, answer
    first.end()
    assert live(site.seen()) == {second.pid}
    late.told("use")  # one that begins while it stands
    assert wait_until(lambda: late.state == "forced open", 10)
    assert wait_until(lambda: {second.state, late.state} == {"closed"}, 10)
    assert 4 < time.monotonic() - began < 10
    site.until(lambda seen: seen["ok"], 10)
    for worker in (second, late):
        worker.end()
    assert not site.seen()["workers"]
    assert site.breakers().code == 1


def test_an_order_without_an_end_outlives_all_workers(site):
    later = site.worker()
    (worker,) = site.workers(1)
    (board,) = boards_in(site.directory)
    assert board.stat().st_mode & 0o777 == 0o700
    assert site.breakers("redis", "--force-closed", "--for", "0", "--wait", "10").code == 0
    assert worker.state == "forced closed"
    worker.end()
    site.join([later])
    assert later.state == "forced closed"
    assert site.breakers("redis", "--auto", "--wait", "10").code == 0
    assert later.state == "closed"


def test_hosts_whose_clocks_tell_other_times_and_another_project(valkey, make_site):
    """One that is an hour ahead, one that is an hour behind; started at other times, too."""
    site = make_site(**boards.on_valkey(valkey))
    other = make_site(**boards.on_valkey(valkey), SITE_SECRET="of another project")
    here, theirs = site.worker(), other.worker()
    ahead = site.worker(SITE_HOST="web2", SITE_CLOCKS="[3600, 1e6]")
    behind = site.worker(SITE_HOST="web3", SITE_CLOCKS="[-3600, 2e6]")
    workers = site.join([here, ahead, behind])
    other.join([theirs])
    ahead.told("break")
    site.until(lambda seen: state_in(seen, ahead.pid) == "open", 5)
    assert "redis: open in 1 of 3 workers" in site.breakers("--check").out

    began = time.monotonic()
    answer = site.breakers("redis", "--force-open", "--for", "4", "--wait", "10")
    assert answer.code == 0, answer
    assert [worker.state for worker in workers] == ["forced open"] * 3
    assert 0 < site.seen()["layers"]["redis"]["order"]["left"] < 4
    assert wait_until(lambda: {worker.state for worker in workers} <= {"closed", "open"}, 20)
    assert 2 < time.monotonic() - began < 10
    site.until(lambda seen: seen["layers"]["redis"]["order"] is None, 10)
    # Reports go on: nobody is taken for silent because of what the time is elsewhere.
    assert live(site.seen()) == {worker.pid for worker in workers}

    # The other project has seen nothing of all this.
    assert theirs.told("transitions") == []
    assert live(other.seen()) == {theirs.pid}
    assert other.seen()["layers"]["redis"]["order"] is None
