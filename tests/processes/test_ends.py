"""A process ends as soon as it is told to, though its board hangs."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pytest

from tests import services
from tests.processes.boards import on_valkey
from tests.processes.commands import celery, gunicorn, uvicorn
from tests.processes.site_processes import ATTEMPTS, PATIENCE, Site, Use, live

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    #: A process, and those of its processes that may be workers.
    Started = tuple[subprocess.Popen[str], set[int]]

pytestmark = pytest.mark.slow

#: Says what was measured: pytest --log-cli-level=INFO.
logger = logging.getLogger(__name__)

#: Seconds from SIGTERM to the end; and more than a process needs that takes no part.
AT_MOST = 1.5
MORE_AT_MOST = 1.0


@pytest.fixture
def board() -> Iterator[services.ValkeyServer]:
    with services.valkey_server() as server:
        yield server


@pytest.fixture
def site(
    make_site: Callable[..., Site], board: services.ValkeyServer, valkey: services.ValkeyServer
) -> Site:
    return make_site(SITE_QUEUES=valkey.url.removesuffix("0"), **on_valkey(board))


def worker(site: Site, page: str) -> Started:
    started = site.worker()
    started.told(page)
    return started.process, {started.pid}


def web(site: Site, page: str) -> Started:
    return served(site, page, gunicorn(2, "--worker-class", "sync"))


def asgi(site: Site, page: str) -> Started:
    return served(site, page, uvicorn(2))


def served(site: Site, page: str, command: list[str]) -> Started:
    server = site.serve(*command)
    return server.process, {use.pid for use in server.first_uses(2, page)}


def queue(site: Site, page: str) -> Started:
    from tests.processes.tasks import celery_at, uses

    url = site.environment["SITE_QUEUES"] + ("1" if page == "use" else "2")
    queue = celery_at(url)
    process = site.start(*celery(), environment={"SITE_CELERY": url})
    found: dict[int, Use] = {}
    while len(found) < 2:
        found |= uses(queue, 2, page)
    return process, set(found)


@pytest.mark.parametrize(
    ("package", "start"),
    [("django", worker), ("gunicorn", web), ("uvicorn", asgi), ("celery", queue)],
)
def test_a_process_ends_though_the_board_hangs(site, board, needs, package, start):
    """In a moment; where others need longer by themselves, in hardly more than that."""
    needs(package)
    took = without = 0.0
    for _ in range(ATTEMPTS):
        (idle, _), (busy, workers) = start(site, "bare"), start(site, "use")
        site.until(lambda seen, workers=workers: workers <= live(seen))
        board.freeze()
        try:
            time.sleep(0.2)
            without, took = ends(idle, busy)
        finally:
            board.thaw()
        logger.info("from SIGTERM to the end: %.2f s, one without a board: %.2f s", took, without)
        if took < AT_MOST or took - without < MORE_AT_MOST:
            return
    pytest.fail(f"{took:.2f} s, one without a board: {without:.2f} s")


def ends(*processes: subprocess.Popen[str]) -> list[float]:
    """The seconds from SIGTERM to the end of each, all at once."""
    began, took = time.monotonic(), {}
    for process in processes:
        process.terminate()
    while len(took) < len(processes):
        assert time.monotonic() - began < PATIENCE
        for process in processes:
            if process.poll() is not None:
                took.setdefault(process.pid, time.monotonic() - began)
        time.sleep(0.01)
    return [took[process.pid] for process in processes]
