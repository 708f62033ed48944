"""The command as a process, against real workers on the default board."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import django_resilient_cache
from tests.services import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


class RealWorker:
    """One process that uses the cache."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.command.breaking_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=environment,
        )
        self.name = f"{os.uname().nodename}/{self.process.pid}"

    def told(self, word: str) -> str:
        """Have it do something; the state of its breaker afterwards."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        return self.process.stdout.readline().strip()

    @property
    def state(self) -> str:
        return self.told("nothing")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Site:
    """A site of its own: a private directory for temporary files makes a private board."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._stack = stack
        self._watch: subprocess.Popen[str] | None = None
        self._console: subprocess.Popen[str] | None = None
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.command.command_settings",
            "PYTHONPATH": os.pathsep.join(
                [str(Path(django_resilient_cache.__file__).parents[1]), str(ROOT)]
            ),
            "TMPDIR": str(directory),
            "COLUMNS": "100",
            "PYTHONWARNINGS": "error",
        }

    def workers(self, count: int) -> list[RealWorker]:
        """Start so many and return when all of them report."""
        started = [RealWorker(self.environment) for _ in range(count)]
        for worker in started:
            self._stack.callback(worker.end)
        self.until(lambda told: told["live"] == count)
        return started

    def until(self, condition: Callable[[Any], bool], seconds: float = 40.0) -> None:
        """Watch until the condition holds."""
        if self._watch is None:
            self._watch = subprocess.Popen(
                self.command("--watch", "--format", "json"),
                env=self.environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._stack.callback(self._watch.communicate)
            self._stack.callback(self._watch.kill)
        assert self._watch.stdout is not None
        end = time.monotonic() + seconds
        while not condition(told := json.loads(self._watch.stdout.readline())):
            assert time.monotonic() < end, told

    def run(self, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
        """`manage.py breakers ...`."""
        return subprocess.run(
            self.command(*args),
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def told(self, *args: str) -> subprocess.CompletedProcess[str]:
        """The same in a process that runs already, where Python need not start each time."""
        if self._console is None:
            self._console = subprocess.Popen(
                [sys.executable, "-m", "tests.processes.console"],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
            )
            self._stack.callback(self._console.communicate)
            self._stack.callback(self._console.kill)
        assert self._console.stdin is not None
        assert self._console.stdout is not None
        self._console.stdin.write(f"{json.dumps(args)}\n")
        said = json.loads(self._console.stdout.readline())
        return subprocess.CompletedProcess(args, said["code"], said["out"], said["error"])

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "django", "breakers", *args]


@pytest.fixture
def _frozen() -> None:
    """Nothing: here time passes, and users have their own names."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site of the test's own, where nobody works."""
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, list[RealWorker]]]:
    """A site with three workers, for all of these tests."""
    with ExitStack() as stack:
        site = Site(tmp_path_factory.mktemp("site"), stack)
        yield site, site.workers(3)


@pytest.fixture
def staffed(three: tuple[Site, list[RealWorker]]) -> Iterator[Site]:
    """That site; afterwards its workers are as if nothing had happened."""
    site, _ = three
    yield site
    assert site.told("--all", "--reset", "--forget").returncode == 0
    site.until(lambda told: told["ok"])


@pytest.fixture
def workers(staffed: Site, three: tuple[Site, list[RealWorker]]) -> list[RealWorker]:
    """The workers of `staffed`."""
    return three[1]


def test_an_order_reaches_every_worker(staffed: Site, workers: list[RealWorker]):
    assert [worker.told("break") for worker in workers[:2]] == ["open", "open"]
    staffed.until(lambda told: told["problems"] and " in 2 of 3 " in told["problems"][0])

    listed = staffed.run(COLUMNS="140")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert re.search(
        r"^redis   ○ open 2 of 3    \d\d:\d\d:\d\d \(\d+ s\) +in \d+ min",
        listed.stdout,
        re.MULTILINE,
    )
    assert "ConnectionError: Error 111 connecting" in listed.stdout
    check = staffed.run("--check")
    assert check.returncode == 1
    assert check.stdout.startswith("redis: open in 2 of 3 workers since ")

    reset = staffed.run("redis", "--reset")
    assert (reset.returncode, reset.stderr) == (0, "")
    assert re.fullmatch(r"redis: reset, applied by 3 of 3 workers in \d\.\d s\n", reset.stdout)
    assert [worker.state for worker in workers] == ["closed"] * 3
    check = staffed.run("--check")
    assert (check.returncode, check.stdout) == (0, "ok: memory, redis closed in 3 workers\n")


def test_a_forced_state_stands_until_it_is_ended(staffed: Site, workers: list[RealWorker]):
    forced = staffed.told("redis", "--force-open", "--reason", "a drill")
    assert forced.returncode == 0, forced.stderr
    assert re.match(r"redis: force open for 1 h \(until .*\), applied by 3 of 3", forced.stdout)
    assert [worker.state for worker in workers] == ["forced open"] * 3
    check = staffed.told("--check")
    assert check.returncode == 1
    assert re.fullmatch(
        r"redis: force open until .* left\), by shell .*: a drill \(in 3 of 3 workers\)\n",
        check.stdout,
    )
    ended = staffed.told("--auto")
    assert ended.returncode == 0
    assert re.search(
        r"redis: auto, applied by 3 .*\n  ended: force open for 1 h, by shell", ended.stdout
    )
    assert [worker.state for worker in workers] == ["closed"] * 3


def test_a_forced_state_ends_by_itself(staffed: Site, workers: list[RealWorker]):
    assert staffed.told("redis", "--force-open", "--for", "1").returncode == 0
    assert wait_until(lambda: {worker.state for worker in workers} == {"closed"}, 10)
    staffed.until(lambda told: told["ok"])


def test_forget_drops_what_was_missed(staffed: Site, workers: list[RealWorker]):
    for worker in workers[:2]:
        worker.told("break")
        worker.told("miss")
    staffed.until(lambda told: told["layers"]["redis"]["missed"] == 6)
    run = staffed.told("redis", "--forget")
    assert run.returncode == 0
    assert "; 6 missed keys in 2 workers dropped\n" in run.stdout
    staffed.until(lambda told: told["layers"]["redis"]["missed"] == 0)
    assert [worker.state for worker in workers] == ["open", "open", "closed"]


def test_a_frozen_worker_is_named_and_catches_up(staffed: Site, workers: list[RealWorker]):
    frozen = workers[1]
    frozen.told("break")
    frozen.signal(signal.SIGSTOP)
    try:
        run = staffed.told("redis", "--reset", "--wait", "2")
    finally:
        frozen.signal(signal.SIGCONT)
    assert run.returncode == 1
    assert re.fullmatch(
        rf"redis: reset, applied by 2 of 3 workers in 2\.\d s; silent: {frozen.name}\n", run.stdout
    )
    assert run.stderr.startswith("Not applied within 2.")
    assert frozen.name in run.stderr
    assert wait_until(lambda: frozen.state == "closed", 10)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--force-open",), 2, "--force-open needs the names of layers, or --all."),
        (("redsi",), 2, 'Did you mean "redis"?'),
        (("--reste",), 2, "unrecognized arguments: --reste"),
        (("--reset",), 1, "No live worker on the board: files in "),
    ],
)
def test_exit_codes(site: Site, args: tuple[str, ...], code: int, said: str):
    run = site.run(*args)
    assert run.returncode == code, run.stderr
    assert said in run.stderr
    assert "Traceback" not in run.stderr


def test_check_without_workers_fails_on_standard_output(site: Site):
    run = site.run("--check")
    assert (run.returncode, run.stderr) == (1, "")
    assert run.stdout.startswith("no live worker on the board: files in ")


def test_a_site_that_shares_nothing_says_what_to_change(site: Site):
    run = site.run(SITE_SHARING="")
    assert run.returncode == 1
    assert "RESILIENT_CACHE_CONTROL_ALIAS is None" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_board_that_cannot_be_read_fails_loudly(site: Site):
    assert site.told().returncode == 1
    (board,) = Path(site.environment["TMPDIR"]).glob("resilient-cache-*")
    board.chmod(0o777)
    run = site.run("--watch")
    assert run.stderr.startswith("CommandError: The board that workers share (files in ")
    assert "Traceback" not in run.stderr
    for each in (run, site.told(), site.told("--check"), site.told("--reset")):
        assert (each.returncode, each.stdout) == (1, "")
        assert str(board) in each.stderr


def test_a_mistake_elsewhere_in_the_settings_does_not_stop_it(staffed: Site):
    run = staffed.run("--reset", SITE_BROKEN="1")
    assert run.returncode == 0, run.stderr
    check = subprocess.run(
        [sys.executable, "-m", "django", "check"],
        env={**staffed.environment, "SITE_BROKEN": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "resilient_cache.E002" in check.stderr


def test_a_reader_that_goes_away_is_no_error_of_ours(staffed: Site):
    command = " ".join(staffed.command("--watch"))
    run = subprocess.run(
        ["bash", "-c", f"{command} | head -n 1; echo ${{PIPESTATUS[0]}}"],
        env=staffed.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stderr == ""
    assert run.stdout.splitlines()[-1] == "0"


def test_ctrl_c_ends_the_watching_with_success(staffed: Site):
    """On a terminal of 90 columns, in colour, redrawn in place."""
    ours, theirs = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 90, 0, 0))
    environment = {**staffed.environment, "TERM": "xterm"}
    del environment["COLUMNS"]
    # A shell's background job ignores Ctrl-C, and hands that down.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        staffed.command("--watch"),
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    signal.signal(signal.SIGINT, before)
    os.close(theirs)
    try:
        seen = read_until(ours, lambda text: text.count("\x1b[H") >= 3)
        process.send_signal(signal.SIGINT)
        seen += read_until(ours, lambda text: text.endswith("\x1b[J\r\n"))
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert "\x1b[32;1m● closed 3 of 3\x1b[0m" in seen
    assert "Traceback" not in seen
    assert seen.endswith("\x1b[J\r\n")


def read_until(terminal: int, enough: Callable[[str], bool], seconds: float = 20.0) -> str:
    seen, end = b"", time.monotonic() + seconds
    while time.monotonic() < end and not enough(seen.decode(errors="replace")):
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:  # its other end is closed
                break
    return seen.decode(errors="replace")
