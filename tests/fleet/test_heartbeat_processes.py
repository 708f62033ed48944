"""Real processes on the default board: those that leave in their own way, and those that take no part.

Servers and their workers, frozen and killed, are in tests/processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import django_resilient_cache
from tests.services import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
]

SITE = """
SECRET_KEY = "for tests only"
INSTALLED_APPS = ["django_resilient_cache"]
CACHES = {
    "default": {
        "BACKEND": "django_resilient_cache.backend.ResilientCache", "LOCATION": ["memory"],
    },
    "memory": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
}
"""

START = """
import json, os, sys, time
import django
django.setup()
from django.core.cache import cache
"""


class Site:
    """A project in a directory of its own, with a directory for temporary files of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "tmp").mkdir()
        (path / "one_site.py").write_text(SITE)
        root = str(Path(django_resilient_cache.__file__).parent.parent)
        self.env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "one_site",
            "TMPDIR": str(path / "tmp"),
            "PYTHONPATH": os.pathsep.join([str(path), root]),
        }
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, code: str) -> subprocess.Popen[str]:
        """A process; `code` runs after the site is set up."""
        process = subprocess.Popen(
            [sys.executable, "-c", START + textwrap.dedent(code)],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    try:
        yield site
    finally:
        site.stop()


OPERATOR = """
from django_resilient_cache.fleet.console.control import Control
control = Control()
for _ in sys.stdin:
    print(json.dumps({w.pid: w.stale for w in control.fleet().workers}), flush=True)
"""


class Operator:
    """A process that looks at the board."""

    def __init__(self, site: Site) -> None:
        self.process = site.start(OPERATOR)

    def workers(self) -> dict[str, bool]:
        """By process id, whether it is silent."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(file=self.process.stdin, flush=True)
        found: dict[str, bool] = json.loads(self.process.stdout.readline())
        return found


def soon(condition: Callable[[], bool], seconds: float = 20) -> bool:
    return wait_until(condition, seconds, every=0.05)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_of_multiprocessing_says_goodbye(site, method):
    """It ends without atexit."""
    (site.path / "work.py").write_text(
        "import django\n"
        "django.setup()\n"
        "def work(enough):\n"
        "    from django.core.cache import cache\n"
        "    cache.get('key')\n"
        "    enough.wait()\n"
    )
    operator = Operator(site)
    process = site.start(
        f"""
        import multiprocessing, work
        context = multiprocessing.get_context("{method}")
        enough = context.Event()
        child = context.Process(target=work.work, args=[enough])
        child.start()
        sys.stdin.readline()
        enough.set()
        child.join()
        print("ended", child.exitcode, flush=True)
        """
    )
    assert soon(lambda: len(operator.workers()) == 1, 30)
    out, _ = process.communicate("enough\n", timeout=60)
    assert out == "ended 0\n"
    assert operator.workers() == {}


def test_no_thread_but_the_agent_s_asks_the_board(site):
    """So no cache call can wait for it: not the first, not one that opens or closes a breaker."""
    process = site.start(
        """
        import threading
        from django_resilient_cache import breakers
        from django_resilient_cache.fleet.board.board import Board
        asked = set()
        def noting(method):
            def noted(*args):
                asked.add((method.__name__, threading.current_thread().name))
                return method(*args)
            return noted
        for name in ("get_many", "set", "delete"):
            setattr(Board, name, noting(getattr(Board, name)))
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            cache.set("key", 1)
            cache.get("key")
            breakers["memory"].force_open()
            cache.get("key")
            breakers["memory"].reset()
            time.sleep(0.001)
        print(json.dumps(sorted(asked)), flush=True)
        """
    )
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    background = "resilient-cache-background"
    assert json.loads(out) == [["get_many", background], ["set", background]]


def test_a_test_run_is_no_worker(site):
    """A site's own tests neither report nor obey, whatever they use."""
    process = site.start(
        """
        from django.test.utils import setup_test_environment
        setup_test_environment()
        cache.get("key")
        time.sleep(1.5)
        """
    )
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert list((site.path / "tmp").iterdir()) == []


def test_without_sharing_nothing_is_written(site):
    with (site.path / "one_site.py").open("a") as settings:
        settings.write("RESILIENT_CACHE_CONTROL_ALIAS = None\n")
    process = site.start("cache.get('key'); time.sleep(1.5)")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert list((site.path / "tmp").iterdir()) == []


def test_the_end_of_a_process_does_not_wait_for_a_board_that_hangs(site):
    with (site.path / "one_site.py").open("a") as settings:
        settings.write(
            "CACHES['board'] = {'BACKEND': 'hung.HungCache'}\n"
            "RESILIENT_CACHE_CONTROL_ALIAS = 'board'\n"
        )
    (site.path / "hung.py").write_text(
        "import os, time\n"
        "from django.core.cache.backends.filebased import FileBasedCache\n"
        "class HungCache(FileBasedCache):\n"
        "    hung = False\n"
        "    def __init__(self, location, params):\n"
        "        super().__init__(os.path.join(os.environ['TMPDIR'], 'board'), params)\n"
        "    def get_many(self, *args, **kwargs):\n"
        "        if HungCache.hung: time.sleep(60)\n"
        "        return super().get_many(*args, **kwargs)\n"
        "    def set(self, *args, **kwargs):\n"
        "        if HungCache.hung: time.sleep(60)\n"
        "        return super().set(*args, **kwargs)\n"
    )
    process = site.start(
        """
        import hung
        cache.get("key")
        time.sleep(2.5)
        assert os.listdir(os.environ["TMPDIR"]) == ["board"]
        hung.HungCache.hung = True
        print(time.time(), flush=True)
        """
    )
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert time.time() - float(out) < 10  # with what the interpreter takes; the board takes 60
