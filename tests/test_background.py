"""The background thread: it starts when there is something to do, and keeps nobody waiting."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from django_resilient_cache.concurrency.background import (
    STALLED_SECONDS,
    STOP_SECONDS,
    THREAD_NAME,
    BackgroundThread,
)
from django_resilient_cache.concurrency.background import background as own_background
from tests import services
from tests.clock import Clock
from tests.forked import in_child, needs_fork, with_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def background() -> Iterator[BackgroundThread]:
    background = BackgroundThread()
    yield background
    background.stop()


class Ticks:
    """A tick that counts its rounds."""

    def __init__(self, *answers: Any) -> None:
        self.rounds = 0
        self.threads: set[str] = set()
        self._answers = list(answers)

    def __call__(self) -> float | None:
        self.rounds += 1
        self.threads.add(threading.current_thread().name)
        answer = self._answers.pop(0) if self._answers else None
        if isinstance(answer, BaseException):
            raise answer
        return answer


def soon(condition: Callable[[], bool]) -> bool:
    return services.wait_until(condition, 5)


def background_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == THREAD_NAME]


def test_it_has_no_thread_until_there_is_something_to_do(background):
    before = len(background_threads())
    background.add_tick(Ticks())
    assert len(background_threads()) == before
    background.wake()
    assert len(background_threads()) == before + 1


def test_it_is_one_daemon_thread_however_often_it_is_woken(background):
    before = len(background_threads())
    ticks = Ticks()
    background.add_tick(ticks)
    threads = [threading.Thread(target=background.wake) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert soon(lambda: ticks.rounds > 0)
    assert len(background_threads()) == before + 1
    assert all(thread.daemon for thread in background_threads())
    assert ticks.threads == {"resilient-cache-background"}


def test_ensure_running_starts_the_thread_and_wakes_no_running_one(background):
    ticks = Ticks()
    background.add_tick(ticks)
    background.ensure_running()
    assert soon(lambda: ticks.rounds > 0)
    time.sleep(0.05)
    rounds = ticks.rounds
    for _ in range(10):
        background.ensure_running()
    time.sleep(0.05)
    assert ticks.rounds == rounds


def test_it_sleeps_as_long_as_its_ticks_want_to(background):
    often, never = Ticks(0.001, 0.001, 0.001), Ticks(60, 60, 60)
    background.add_tick(never)
    background.add_tick(often)
    background.wake()
    assert soon(lambda: often.rounds == 4)
    assert never.rounds == 4
    time.sleep(0.05)
    assert often.rounds == 4


def test_tasks_are_run_in_order_off_the_callers_thread(background):
    done: list[tuple[int, str]] = []
    for n in range(100):
        background.send(lambda n=n: done.append((n, threading.current_thread().name)))
    assert soon(lambda: len(done) == 100)
    assert done == [(n, "resilient-cache-background") for n in range(100)]


def test_it_does_not_take_the_context_of_the_request_that_came_first(background):
    seen: list[object] = []
    of_the_request.set("request")
    background.send(lambda: seen.append(of_the_request.get(None)))
    assert soon(lambda: seen == [None])


of_the_request = contextvars.ContextVar("of_the_request")


def test_what_raises_hurts_nobody(background, caplog):
    bad, good = Ticks(ZeroDivisionError(), 0.001), Ticks()
    done: list[int] = []
    background.add_tick(bad)
    background.add_tick(good)

    def raises() -> None:
        raise LookupError("of a task")

    background.send(raises)
    background.send(lambda: done.append(1))
    assert soon(lambda: bad.rounds == 3)
    assert good.rounds == 3
    assert done == [1]
    assert {type(r.exc_info[1]) for r in caplog.records} == {ZeroDivisionError, LookupError}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_ends_the_thread_does_not_end_the_work(background):
    done: list[int] = []
    background.add_tick(Ticks(SystemExit()))
    before = set(threading.enumerate())
    background.wake()
    assert soon(lambda: background._thread is None)
    for thread in set(threading.enumerate()) - before:
        thread.join(5)  # what it has to say of its end belongs to this test
    background.send(lambda: done.append(1))
    assert soon(lambda: done == [1])


def test_before_a_long_sleep_the_idle_callbacks_run(background):
    idle: list[str] = []
    ticks = Ticks(0.001, 0.001)
    background.add_tick(ticks)
    background.on_idle(lambda: idle.append(threading.current_thread().name))
    background.wake()
    assert soon(lambda: idle == ["resilient-cache-background"])
    assert ticks.rounds == 3


# Where it cannot run


@pytest.fixture
def stuck(monkeypatch) -> tuple[BackgroundThread, Clock]:
    """A background thread in a process whose threads do not run."""
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    clock = Clock()
    return BackgroundThread(clock), clock


def test_one_that_was_woken_and_does_not_run_cannot_run(stuck):
    background, clock = stuck
    assert not background.cannot_run
    background.wake()
    clock.forward(STALLED_SECONDS - 0.1)
    background.wake()
    assert not background.cannot_run
    clock.forward(0.2)
    assert background.cannot_run


def test_one_that_cannot_run_runs_tasks_in_the_callers_thread(stuck):
    background, clock = stuck
    done: list[str] = []
    background.send(lambda: done.append("first"))
    clock.forward(STALLED_SECONDS + 1)
    assert done == []
    background.send(lambda: done.append("second"))
    assert done == ["first", "second"]


def test_an_interpreter_that_gives_no_thread_is_no_error(monkeypatch):
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    background = BackgroundThread()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        background.wake()
        background.wake()
    done: list[int] = []
    background.send(lambda: done.append(1))
    assert soon(lambda: done == [1])
    background.stop()


# The end


def test_stopping_runs_what_is_left_and_waits_no_longer_than_it_must(background):
    done: list[int] = []
    background.send(lambda: done.append(1))
    began = time.monotonic()
    background.stop()
    assert time.monotonic() - began < STOP_SECONDS
    assert done == [1]
    assert soon(lambda: background._thread is None)


def test_stopping_does_not_wait_for_what_hangs(background):
    release = threading.Event()
    started = threading.Event()

    def hang() -> None:
        started.set()
        release.wait(10)

    background.send(hang)
    assert started.wait(5)
    done: list[int] = []
    background.send(lambda: done.append(1))
    began = time.monotonic()
    background.stop()
    took = time.monotonic() - began
    release.set()
    assert took < STOP_SECONDS + 0.2
    assert done == []


def test_after_the_end_nothing_is_started(background):
    background.stop()
    background.wake()
    assert background._thread is None


# Processes


@needs_fork
@with_threads
def test_a_forked_process_begins_with_no_thread_and_no_tasks():
    real = own_background
    real.send(lambda: None)
    with real._running:
        real._tasks.append(lambda: None)
        checked = in_child(lambda: real._thread is None and not real._tasks and not real.cannot_run)
    real._tasks.clear()
    assert checked == 0


@needs_fork
@with_threads
def test_a_forked_process_starts_its_own_when_it_has_something_to_do():
    real = own_background
    real.wake()

    def works() -> bool:
        done: list[int] = []
        real.send(lambda: done.append(os.getpid()))
        return soon(lambda: done == [os.getpid()])

    assert in_child(works) == 0


def run(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process with a chain of two layers, whose authority is faulty."""
    return subprocess.run(
        [sys.executable, "-c", PREPARED + code],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "", **more},
        check=False,
    )


PREPARED = """
import os, sys, threading, time
from django.conf import settings
settings.configure(
    USE_TZ=True,
    # As an app it has a fleet, whose workers start the thread with the first use of a chain.
    INSTALLED_APPS=os.environ.get("APPS", "").split(),
    CACHES={
    "default": {
        "BACKEND": "django_resilient_cache.backend.ResilientCache",
        "LOCATION": ["memory", "faulty"],
    },
    "memory": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "faulty": {
        "BACKEND": "django_resilient_cache.testing.FaultyCache",
        "LOCATION": "behind",
        "RESILIENCE": {"OPERATION_TIMEOUT": 0.1, "MAX_FAILURES": 100},
    },
    "behind": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "behind",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    },
    "over direct": {
        "BACKEND": "django_resilient_cache.backend.ResilientCache", "LOCATION": "direct",
    },
    "direct": {
        "BACKEND": "django_resilient_cache.testing.FaultyCache",
        "LOCATION": "behind direct",
        "RESILIENCE": {"OPERATION_TIMEOUT": None, "MAX_FAILURES": 100},
    },
    "behind direct": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    },
)
import django
django.setup()
from django.core.cache import cache, caches
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.testing import faults
layer = registry.layer
def background_threads():
    return [t for t in threading.enumerate() if t.name == "resilient-cache-background"]
"""


def test_setting_up_the_app_does_not_start_it():
    done = run(
        "assert not background_threads(), background_threads()", APPS="django_resilient_cache"
    )
    assert done.returncode == 0, done.stderr


def seconds_to_the_end(code: str) -> float:
    """The time from the last line of `code` to the end of its process; the shortest of three.

    Without what the interpreter itself takes, which is a lot while others use the processor.
    """

    def seconds(code: str) -> float:
        done = run(code + "print(time.time(), flush=True)\n")
        ended = time.time()
        assert done.returncode == 0, done.stderr
        return ended - float(done.stdout)

    return min(seconds(code) for _ in range(3)) - min(seconds("") for _ in range(3))


def test_neither_imports_nor_healthy_calls_start_it():
    done = run(
        "cache.set('key', 1); cache.get('key'); cache.get('none'); cache.delete('key')\n"
        "assert cache.add('lock', 1) and cache.get_or_set('other', lambda: 2) == 2\n"
        "assert not background_threads(), background_threads()"
    )
    assert done.returncode == 0, done.stderr


def test_a_short_command_ends_without_a_word_but_the_logs():
    done = run(
        "faults('faulty').fail()\n"
        "cache.set('key', 1)\n"
        "assert background_threads()\n"
        "print('before the end', flush=True)\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "before the end\n"
    assert done.stderr.count("\n") <= 1, done.stderr


@pytest.mark.slow
def test_a_process_whose_repair_hangs_ends_within_a_second():
    took = seconds_to_the_end(
        "cache.set('key', 1)\n"
        "with faults('faulty').fail():\n"
        "    cache.delete('key')\n"
        "    faults('faulty').hang()\n"  # before it is healed, and repaired
        "deadline = time.monotonic() + 5\n"
        "while not faults('faulty').hanging and time.monotonic() < deadline:\n"
        "    time.sleep(0.01)\n"
        "assert faults('faulty').hanging\n"
    )
    assert took < 1.0


@pytest.mark.slow
def test_a_short_command_ends_soon_after_a_write_that_failed():
    took = seconds_to_the_end("faults('faulty').fail()\ncache.set('key', 1)\ncache.delete('key')\n")
    assert took < 1.0


@pytest.mark.slow
def test_a_process_ends_soon_in_the_middle_of_a_repair():
    took = seconds_to_the_end(
        "keys = [f'key{n}' for n in range(50_000)]\n"
        "with faults('faulty').fail():\n"
        "    cache.delete_many(keys)\n"
        "deadline = time.monotonic() + 10\n"
        "while len(layer('faulty').missed_changes) == 50_000 and time.monotonic() < deadline:\n"
        "    time.sleep(0.001)\n"
        "assert 0 < len(layer('faulty').missed_changes) < 50_000, len(layer('faulty').missed_changes)\n"
    )
    assert took < 1.0


def test_no_thread_is_started_where_the_interpreter_ends():
    """A handler of the end may use the cache, whose background thread has been stopped by then, or not yet."""
    done = run(
        "import atexit\n"
        "def late():\n"
        "    faults('faulty').fail()\n"
        "    cache.delete('key')\n"
        "    print('deleted', flush=True)\n"
        "atexit.register(late)\n"
        "faults('faulty').fail()\n"
        "cache.set('key', 1)\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "deleted\n"


@pytest.mark.slow
@needs_fork
def test_a_fork_in_the_middle_of_a_repair_leaves_both_processes_able_to_end_it():
    done = run(
        "keys = [f'key{n}' for n in range(1000)]\n"
        "cache.set_many(dict.fromkeys(keys, 'old'))\n"
        "caches['memory'].clear()\n"
        "with faults('faulty').fail():\n"
        "    cache.delete_many(keys)\n"
        "    faults('faulty').hang()\n"  # before it is healed, and repaired
        "deadline = time.monotonic() + 10\n"
        "while not faults('faulty').hanging and time.monotonic() < deadline:\n"
        "    time.sleep(0.001)\n"
        "assert faults('faulty').hanging\n"
        "child = os.fork()\n"
        "faults('faulty').heal()\n"
        "assert cache.get_many(keys) == {}\n"
        "while len(layer('faulty').missed_changes) and time.monotonic() < deadline:\n"
        "    time.sleep(0.001)\n"
        "assert not len(layer('faulty').missed_changes)\n"
        "assert caches['behind'].get_many(keys) == {}\n"
        "assert len(background_threads()) == 1\n"
        "if child:\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "    print('both')\n",
        PYTHONWARNINGS="ignore::DeprecationWarning",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "both\n"


@needs_fork
def test_the_first_call_of_a_forked_process_starts_its_thread():
    """What its parent left to be done is found there, whether or not there is anything."""
    done = run(
        "cache.set('key', 1)\n"
        "assert cache.get('key') == 1\n"
        "child = os.fork()\n"
        "assert not background_threads()\n"
        "assert cache.get('key') == 1\n"
        "assert len(background_threads()) == (not child)\n"
        "deadline = time.monotonic() + 10\n"
        "while not layer('memory').missed_changes.in_sync and time.monotonic() < deadline:\n"
        "    time.sleep(0.001)\n"
        "assert layer('memory').missed_changes.in_sync\n"
        "if child:\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
    )
    assert done.returncode == 0, done.stderr


# Processes whose threads do not run, as under uWSGI without --enable-threads

#: Keeps every other thread from running, as a server does that is not told of threads: it waits
#: for requests with the interpreter's lock in its hand.
IDLE = """
import ctypes
sys.setswitchinterval(1000)
def wait_for_a_request(seconds):
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
"""

#: A fork that Python is not told of, as of the workers of such a server.
UNTOLD_FORK = """
import ctypes
fork = ctypes.CDLL(None).fork
"""


@pytest.mark.slow
def test_where_threads_do_not_run_calls_do_the_work():
    done = run(
        IDLE + "faults('direct').fail()\n"
        "direct = caches['over direct']\n"
        "for n in range(5):\n"
        "    direct.delete(f'key{n}')\n"
        "faults('direct').heal()\n"
        f"wait_for_a_request({STALLED_SECONDS + 0.2})\n"
        "direct.get('anything')\n"
        "left = len(layer('direct').missed_changes)\n"
        "print(left)\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0\n"
    assert "failed on demand" in done.stderr  # what it had to log was said, too


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks by the C library")
def test_a_process_that_was_forked_without_a_word_repairs_too():
    """The thread stayed with the parent, and nobody has said so."""
    done = run(
        UNTOLD_FORK + "faults('direct').fail()\n"
        "direct = caches['over direct']\n"
        "direct.delete('first')\n"
        "deadline = time.monotonic() + 10\n"
        "while not background_threads() and time.monotonic() < deadline:\n"
        "    time.sleep(0.01)\n"
        "time.sleep(0.2)\n"
        "if fork() == 0:\n"
        "    direct.delete('second')\n"
        "    faults('direct').heal()\n"
        f"    time.sleep({STALLED_SECONDS + 0.2})\n"
        "    direct.get('anything')\n"
        "    print(len(layer('direct').missed_changes), flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0\n"
