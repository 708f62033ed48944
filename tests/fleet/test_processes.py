"""Real processes on the default board: seen, steered, frozen, forked, killed, gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import django_resilient_cache
from tests.services import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

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
import os, sys, time
import django
django.setup()
from django.core.cache import cache
from django_resilient_cache import breakers

def stay():
    cache.get("key")
    print("used", flush=True)
    sys.stdin.read()
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

    def start(self, code: str = "stay()") -> subprocess.Popen[str]:
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

    def worker(self, code: str = "stay()") -> subprocess.Popen[str]:
        """A process that has used its cache."""
        process = self.start(code)
        assert process.stdout is not None
        assert process.stdout.readline() == "used\n"
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
from django_resilient_cache.fleet.control import Control
from django_resilient_cache.fleet.orders import Action
control = Control()
for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""


class Operator:
    """A process with a `Control`, asked by expressions."""

    def __init__(self, site: Site) -> None:
        self.process = site.start(OPERATOR)

    def ask(self, expression: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(expression, file=self.process.stdin, flush=True)
        return eval(self.process.stdout.readline())

    def workers(self) -> dict[int, bool]:
        """By process id, whether it is silent."""
        return self.ask("{w.pid: w.stale for w in control.fleet().workers}")

    def give(self, action: str, enough: int = 99) -> tuple[set[int], set[int]]:
        """Give an order; the process ids of those who applied it and of those waited for.

        It waits no longer once so many have applied it.
        """
        self.ask(f"globals().update(o=control.give(['memory'], Action.{action}, actor='me'))")
        end = time.monotonic() + 20
        while True:
            applied, waiting = self.ask(
                "next(({w.pid for w in p.applied}, {w.pid for w in p.waiting}) "
                "for p in control.progress(o))"
            )
            if not waiting or len(applied) >= enough or time.monotonic() > end:
                return applied, waiting
            time.sleep(0.05)

    def states(self) -> set[str]:
        return self.ask("{w.layers['memory'].state for w in control.fleet().live}")


def soon(condition: Callable[[], bool], seconds: float = 20) -> bool:
    return wait_until(condition, seconds, every=0.05)


def test_two_processes_are_seen_steered_and_gone(site):
    operator = Operator(site)
    operator.workers()
    workers = [site.worker(), site.worker()]
    pids = {worker.pid for worker in workers}
    assert soon(lambda: operator.workers() == dict.fromkeys(pids, False))
    applied, waiting = operator.give("FORCE_OPEN")
    assert (applied, waiting) == (pids, set())
    assert operator.states() == {"forced open"}
    late = site.worker()
    assert soon(lambda: late.pid in operator.workers())
    assert operator.states() == {"forced open"}
    applied, waiting = operator.give("RESET")
    assert (applied, waiting) == ({*pids, late.pid}, set())
    assert operator.states() == {"closed"}
    for worker in (*workers, late):
        worker.communicate()
        assert worker.returncode == 0
    assert operator.workers() == {}


def test_a_frozen_one_is_named_and_catches_up_and_a_killed_one_is_silent(site):
    operator = Operator(site)
    well, frozen = site.worker(), site.worker()
    assert soon(lambda: len(operator.workers()) == 2)
    os.kill(frozen.pid, signal.SIGSTOP)
    applied, waiting = operator.give("FORCE_OPEN", enough=1)
    assert (applied, waiting) == ({well.pid}, {frozen.pid})
    os.kill(frozen.pid, signal.SIGCONT)
    assert operator.give("RESET") == ({well.pid, frozen.pid}, set())
    frozen.kill()
    frozen.wait()
    assert operator.workers() == {well.pid: False, frozen.pid: True}
    assert operator.give("RESET") == ({well.pid}, set())


def test_a_forked_child_is_a_worker_with_its_first_call(site):
    """As with gunicorn --preload: even one whose parent has used the very same backend object."""
    operator = Operator(site)
    parent = site.worker(
        """
        cache.get("key")
        print("used", flush=True)
        child = os.fork()
        if not child:
            time.sleep(2.5)
            cache.get("key")
            time.sleep(20)
            sys.exit()
        sys.stdin.read()
        import signal
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        """
    )
    assert soon(lambda: len(operator.workers()) == 1)
    assert set(operator.workers()) == {parent.pid}
    assert soon(lambda: len(operator.workers()) == 2)
    applied, waiting = operator.give("FORCE_OPEN")
    assert len(applied) == 2
    assert parent.pid in applied
    assert not waiting
    parent.communicate()
    assert parent.pid not in operator.workers()


def test_a_short_command_leaves_no_trace(site):
    process = site.start('cache.get("key")')
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert list((site.path / "tmp").iterdir()) == []


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_of_multiprocessing_says_goodbye(site, method):
    """It ends without atexit."""
    (site.path / "work.py").write_text(
        "import time\n"
        "import django\n"
        "django.setup()\n"
        "def work():\n"
        "    from django.core.cache import cache\n"
        "    cache.get('key')\n"
        "    time.sleep(6)\n"
    )
    operator = Operator(site)
    process = site.start(
        f"""
        import multiprocessing, work
        child = multiprocessing.get_context("{method}").Process(target=work.work)
        child.start()
        child.join()
        print("ended", child.exitcode, flush=True)
        sys.stdin.read()
        """
    )
    assert soon(lambda: len(operator.workers()) == 1, 30)
    assert process.stdout is not None
    assert process.stdout.readline() == "ended 0\n"
    assert operator.workers() == {}


def test_a_test_run_is_no_worker(site):
    """A site's own tests neither report nor obey, whatever they use."""
    process = site.start(
        """
        from django.test.utils import setup_test_environment
        setup_test_environment()
        cache.get("key")
        time.sleep(2.5)
        """
    )
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert list((site.path / "tmp").iterdir()) == []


def test_without_sharing_nothing_is_written(site):
    with (site.path / "one_site.py").open("a") as settings:
        settings.write("RESILIENT_CACHE_CONTROL_ALIAS = None\n")
    process = site.start("cache.get('key'); time.sleep(2.5)")
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
