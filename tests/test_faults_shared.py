"""Faults that are switched from another process: real ones, on both sides."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from django_resilient_cache.testing import SharedFaults, faults, rehearsal
from django_resilient_cache.testing.shared_faults import UNSETTLED_SECONDS
from tests.entries import MEMORY
from tests.services import wait_until
from tests.simulated_chain import FAULTY

#: A site's process: does what it reads line by line, and answers in JSON.
WORKER = """
    import json, sys, time
    from django.conf import settings
    settings.configure(CACHES={
        "default": {
            "BACKEND": "django_resilient_cache.backend.ResilientCache",
            "LOCATION": ["memory", "redis"],
        },
        "memory": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "redis": {
            "BACKEND": "django_resilient_cache.testing.FaultyCache",
            "LOCATION": "real",
            "OPTIONS": {"SHARED": sys.argv[1]},
            "RESILIENCE": {"OPERATION_TIMEOUT": 0.5, "MAX_FAILURES": 3, "RESET_TIMEOUT": 60},
        },
        "real": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "real",
        },
    })
    import django
    django.setup()
    from django.core.cache import caches
    from django_resilient_cache import breakers
    from django_resilient_cache.testing import faults
    for line in sys.stdin:
        try:
            answer = eval(line)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)
"""


class Worker:
    """Another process."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WORKER), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def ask(self, expression: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{expression}\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def does(self, expression: str) -> Any:
        self.ask(expression)
        return self.answer()

    def end(self) -> int:
        with self.process as process:  # whose pipes are closed
            try:
                assert process.stdin is not None
                process.stdin.close()
                return process.wait(10)
            finally:
                process.kill()


@contextmanager
def worker(directory: Path) -> Iterator[Worker]:
    running = Worker(directory)
    try:
        yield running
    finally:
        assert running.end() == 0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Made with the first fault."""
    return tmp_path / "run" / "redis"


@pytest.fixture
def site(directory: Path) -> Iterator[Worker]:
    with worker(directory) as running:
        yield running


def test_a_fault_begins_and_ends_in_another_process(directory: Path, site: Worker) -> None:
    assert site.does("caches['redis'].set('k', 1)") is None
    with SharedFaults(directory).fail(OSError("rehearsed")) as shared:
        assert site.does("caches['redis'].get('k')") == "OSError: rehearsed"
        assert site.does("caches['redis'].get('k')") == "OSError: rehearsed"
        with shared.lose_answers(keys="other"):
            assert site.does("len(faults('redis').in_force)") == 2
    assert site.does("caches['redis'].get('k')") == 1
    assert list(directory.iterdir()) == [], "nothing is left behind"


def test_a_hanging_call_of_another_process_goes_on_when_healed(
    directory: Path, site: Worker
) -> None:
    shared = SharedFaults(directory)
    hung = shared.hang(operations=["set"])
    assert site.does("faults('redis').hanging") == 0  # it has started
    site.ask("caches['redis'].set('k', 'after all')")
    time.sleep(0.2)
    hung.heal()
    assert site.answer() is None
    assert site.does("caches['real'].get('k')") == "after all"


@pytest.mark.slow
def test_a_hung_layer_of_another_process_opens_its_breaker_and_is_forgiven(
    directory: Path, site: Worker
) -> None:
    with SharedFaults(directory).hang():
        for number in range(6):
            assert site.does(f"caches['default'].get('k{number}')") is None
        assert site.does("breakers['redis'].state.value") == "open"
        assert site.does("caches['default'].set('k', 'kept near')") is None
        assert site.does("caches['default'].get('k')") == "kept near"
    assert site.does("breakers['redis'].reset()") is None
    assert site.does("caches['default'].set('new', 'again')") is None
    assert site.does("caches['real'].get('new')") == "again"


def test_a_late_change_lands_in_another_process_when_healed(directory: Path, site: Worker) -> None:
    late = SharedFaults(directory).late()
    assert site.does("caches['redis'].set('k', 1)").startswith("TimeoutError")
    assert site.does("caches['real'].get('k')") is None
    late.heal()
    landed = "(time.sleep(0.01), caches['real'].get('k'))[1]"
    assert wait_until(lambda: site.does(landed) == 1, 5), "without another call"


def test_corrupt_and_slow_reach_another_process(directory: Path, site: Worker) -> None:
    shared = SharedFaults(directory)
    site.does("caches['redis'].set('k', 1)")
    with shared.corrupt(keys="k"):
        assert site.does("caches['redis'].get('k')").startswith("UnpicklingError")
        assert site.does("caches['default'].get('k', 'a miss')") == "a miss"
    with shared.slow(0.1):
        assert site.does("[time.monotonic(), caches['redis'].get('k'), time.monotonic()]")[1] == 1
    assert site.does("caches['default'].get('k')") == 1


def test_who_has_the_settings_needs_no_path(directory: Path) -> None:
    """`faults(alias)` switches all processes where the alias is shared."""
    with worker(directory) as one, worker(directory) as other:
        one.does("str(faults('redis').fail(LookupError('from one')))")
        assert other.does("caches['redis'].get('k')") == "LookupError: from one"
        assert one.does("caches['redis'].get('k')") == "LookupError: from one"
        assert other.does("faults('redis').heal()") is None
        assert one.does("caches['redis'].get('k')") is None


def test_a_worker_that_starts_later_finds_what_is_in_force(directory: Path) -> None:
    SharedFaults(directory).fail()
    with worker(directory) as running:
        assert running.does("caches['redis'].get('k')").startswith("ConnectionError")
        SharedFaults(directory).heal()
        assert running.does("caches['redis'].get('k')") is None


def test_a_process_that_hangs_ends_at_once(directory: Path) -> None:
    """Neither what hangs nor what is late delays the interpreter's exit."""
    with SharedFaults(directory).hang(operations=["get"]) as shared, shared.late(keys="late"):
        running = Worker(directory)
        assert running.does("caches['default'].get('k', 'a miss')") == "a miss"
        assert running.does("caches['redis'].set('late', 1)").startswith("TimeoutError")
        assert running.does("[faults('redis').hanging, faults('redis').pending]") == [1, 1]
        began = time.monotonic()
        assert running.end() == 0
        assert time.monotonic() - began < 2.5  # of which the interpreter itself takes some


def test_forked_children_share_too_and_leave_their_parents_faults_alone(directory: Path) -> None:
    settings = {
        "default": {
            "BACKEND": FAULTY,
            "LOCATION": "real",
            "OPTIONS": {"SHARED": str(directory)},
        },
        "real": {"BACKEND": MEMORY, "LOCATION": "forked"},
    }
    with override_settings(CACHES=settings):
        faults("default").fail(KeyError("in force"))
        faults("default").late(operations=["set"])
        child = os.fork()
        if not child:
            status = 1
            try:
                faults("default").discard()
                caches["default"].get("k")
            except KeyError:
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert len(faults("default").in_force) == 2
    assert list(directory.iterdir()) == [], "they end with the settings"


def test_changes_close_together_are_all_seen(directory: Path) -> None:
    """Even where the directory's time, which may be coarse, is the same before and after."""
    one, other = SharedFaults(directory), SharedFaults(directory)
    for number in range(50):
        if number % 5:
            one.fail()
        else:
            one.heal()
        directory.mkdir(parents=True, exist_ok=True)
        tenth = time.time_ns() // 10**7 * 10**7
        os.utime(directory, ns=(tenth, tenth))
        assert len(other.in_force) == number % 5


def test_what_hangs_at_the_end_of_a_rehearsal_is_not_made_here_either(directory: Path) -> None:
    settings = {
        "default": {
            "BACKEND": FAULTY,
            "LOCATION": "real",
            "OPTIONS": {"SHARED": str(directory)},
        },
        "real": {"BACKEND": MEMORY, "LOCATION": "shared"},
    }
    errors: list[Exception] = []

    def change() -> None:
        try:
            caches["default"].set("k", 1)
        except ConnectionError as error:
            errors.append(error)

    with override_settings(CACHES=settings):
        thread = threading.Thread(target=change)
        with rehearsal():
            faults("default").hang()
            thread.start()
            assert wait_until(lambda: faults("default").hanging == 1, 5)
        thread.join(5)
        assert len(errors) == 1
        assert caches["real"].get("k") is None


def test_faults_that_come_and_go_at_once(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """None is lost, none is read by halves, and in the end nothing is left."""
    errors: list[BaseException] = []
    watching = SharedFaults(directory)
    done = threading.Event()

    def switch() -> None:
        try:
            mine = SharedFaults(directory)
            for _ in range(30):
                with mine.fail(keys="menu:*"), mine.hang(operations=["get"]):
                    assert len(mine.in_force) >= 2
        except BaseException as error:  # whatever it is, the test looks at it
            errors.append(error)

    def watch() -> None:
        try:
            while not done.is_set():
                for fault in watching.in_force:
                    assert fault.keys or fault.operations
                time.sleep(0.001)
        except BaseException as error:  # whatever it is, the test looks at it
            errors.append(error)

    threads = [threading.Thread(target=switch) for _ in range(4)]
    watcher = threading.Thread(target=watch)
    for thread in (*threads, watcher):
        thread.start()
    for thread in threads:
        thread.join(30)
    done.set()
    watcher.join(10)
    assert errors == []
    assert caplog.records == []
    assert watching.in_force == []
    assert list(directory.iterdir()) == []


def test_a_settled_directory_is_only_looked_at(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each call costs is one stat."""
    shared = SharedFaults(directory)
    shared.fail(keys="other")
    time.sleep(UNSETTLED_SECONDS * 1.2)
    shared.call("get", ("k",), lambda: 1)
    monkeypatch.setattr(SharedFaults, "_names", lambda self: pytest.fail("listed"))
    for _ in range(10):
        assert shared.call("get", ("k",), lambda: 1) == 1


# The command


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "django_resilient_cache.testing", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "DJANGO_SETTINGS_MODULE": ""},
    )


def said(*arguments: str) -> str:
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_begins_shows_and_heals(directory: Path, site: Worker) -> None:
    path = str(directory)
    assert said(path) == f"{path}: nothing goes wrong\n"
    told = said(path, "fail", "--operations", "get,get_many", "--error", "OSError")
    assert told == f"{path}: fail(error=OSError, operations=get+get_many) until healed\n"
    assert site.does("caches['redis'].get('k')").startswith("OSError")
    assert site.does("caches['redis'].set('k', 1)") is None
    assert said(path, "show") == f"{path}: fail(error=OSError, operations=get+get_many)\n"
    assert said(path, "heal") == f"{path}: 1 ended\n"
    assert site.does("caches['redis'].get('k')") == 1


@pytest.mark.parametrize("how", ["its time", signal.SIGINT, signal.SIGTERM])
def test_the_command_can_stay_and_end_the_fault_itself(directory: Path, how: Any) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "django_resilient_cache.testing", str(directory)),
            *("slow", "--seconds", "0.2", "--for", "0.3" if how == "its time" else "60"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        assert "hang(seconds=0.2) for " in process.stdout.readline()
        if how != "its time":
            assert len(SharedFaults(directory).in_force) == 1
            process.send_signal(how)
        assert process.wait(20) == 0
        assert list(directory.iterdir()) == []
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["slow"], "slow needs --seconds"),
        (["hang", "--operations", "gets"], "operations is 'gets'; write 'get'"),
        (["fail", "--seconds", "1"], "seconds is 1.0; write none: FAIL does not wait"),
        (["fail", "--error", "no.Such"], "error is 'no.Such'; write the dotted name"),
        (["hang", "--for", "0"], "0 is no number of seconds above 0"),
        (["explode"], "invalid choice"),
    ],
)
def test_a_mistake_at_the_command_is_told_and_changes_nothing(
    directory: Path, arguments: list[str], told: str
) -> None:
    done = command(str(directory), *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert not directory.exists()


def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for action in ("show", "heal", "hang"):
        done = command(str(file), action)
        assert done.returncode == 1
        assert str(file) in done.stderr
        assert "Traceback" not in done.stderr
