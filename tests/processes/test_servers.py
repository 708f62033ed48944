"""Workers of every kind of server: seen soon after their first use, and gone when they have gone.

Uvicorn's are ended by a signal, and so shown as silent before they are gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.processes.commands import celery, gunicorn, uvicorn
from tests.processes.site_processes import PATIENCE, Server, Site, Use, children_of, live, state_in
from tests.services import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

pytestmark = pytest.mark.slow

#: Seconds from the first use of a cache within which a worker is seen.
AT_MOST = 2.0

#: Workers of each server.
WORKERS = 2

#: Which package it needs, what starts it, and the page that uses the cache.
KINDS = {
    "sync": ("gunicorn", gunicorn(WORKERS, "--worker-class", "sync"), "use"),
    "gthread": ("gunicorn", gunicorn(WORKERS, "--worker-class", "gthread"), "use"),
    "gevent": ("gevent", gunicorn(WORKERS, "--worker-class", "gevent"), "use"),
    "preload": ("gunicorn", gunicorn(WORKERS, "--preload"), "use"),
    "uvicorn": ("uvicorn", uvicorn(WORKERS), "use-async"),
    "uvicorn's sync views": ("uvicorn", uvicorn(WORKERS), "use"),
}


@pytest.fixture(scope="module")
def site(make_shared_site: Callable[..., Site]) -> Site:
    made = make_shared_site()
    made.seen()  # whoever looks has started before it matters when
    return made


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(kind: str, site: Site, needs: Callable[[str], None]) -> Server:
    package, command, _ = KINDS[kind]
    needs(package)
    more = {"SITE_EAGER": "1"} if kind == "preload" else {}
    return site.serve(*command, **more)


def test_every_worker_is_seen_soon_after_its_first_use_and_its_end_is_seen(kind, server, site):
    assert not named(site.seen()) & set(children_of(server.process.pid))
    uses = server.first_uses(WORKERS, KINDS[kind][2])
    assert len({use.pid for use in uses} - {server.process.pid}) == WORKERS
    # Every worker is an attempt: the machine may be busy.
    assert min(seen_after(site, uses)) < AT_MOST
    answer = site.breakers("redis", "--force-open", "--for", "600", "--wait", "10")
    assert answer.code == 0, answer
    assert all(state_in(site.seen(), use.pid) == "forced open" for use in uses)
    server.process.terminate()
    server.process.wait(PATIENCE)
    ended = {server.process.pid, *(use.pid for use in uses)}
    signs_off = not kind.startswith("uvicorn")
    assert not (named if signs_off else live)(site.seen()) & ended


def seen_after(site: Site, uses: Iterable[Use]) -> list[float]:
    """After how many seconds each of these workers was seen."""
    return [seen_at(site, use.pid) - use.at for use in uses]


def seen_at(site: Site, pid: int) -> float:
    return site.until(lambda seen: pid in live(seen))


def named(seen: Any) -> set[int]:
    """All processes on the roster."""
    return {worker["pid"] for worker in seen["workers"]}


def test_a_worker_that_has_served_its_time_leaves_and_the_next_one_comes(site, needs):
    needs("gunicorn")
    server = site.serve(*gunicorn(1, "--max-requests", "6"))
    old = server.get("use")
    site.until(lambda seen: old.pid in live(seen))
    after = []
    for _ in range(3):
        while (new := server.get("use")).pid == old.pid:
            continue
        after += seen_after(site, [new])
        assert old.pid not in named(site.seen())
        if after[-1] < AT_MOST:
            break
        old = new
    assert min(after) < AT_MOST, after


def test_children_of_celery_are_workers_that_leave_when_they_have_done_their_part(
    site, valkey, needs
):
    needs("celery")
    from tests.processes.tasks import celery_at, uses

    queue = celery_at(valkey.url)
    process = site.start(
        *celery("--max-tasks-per-child", "6"), environment={"SITE_CELERY": valkey.url}
    )
    found: dict[int, Use] = {}
    while len(found) < 2:
        found |= uses(queue, 2)
    assert set(found) <= set(children_of(process.pid))
    assert min(seen_after(site, found.values())) < AT_MOST
    assert process.pid not in named(site.seen())
    assert wait_until(lambda: not set(uses(queue, 6)) & set(found))
    assert not named(site.seen()) & set(found)
    assert wait_until(lambda: bool(uses(queue, 1) and at_work(site, process.pid)), every=1.5)
    last = at_work(site, process.pid)
    process.terminate()
    process.wait(PATIENCE)
    assert not named(site.seen()) & last


def at_work(site: Site, parent: int) -> set[int]:
    """The children that report."""
    return live(site.seen()) & set(children_of(parent))
