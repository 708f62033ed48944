"""Processes of one site: workers, web servers, an operator; all ended by their ids."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django_resilient_cache
from tests import services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Seconds for anything to come about that has no limit of its own.
PATIENCE = 40.0

#: Times that something is tried which is held to a time: the machine may be busy.
ATTEMPTS = 3


@dataclass(frozen=True)
class Answer:
    """What one call of `manage.py breakers` came to."""

    code: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Use:
    """One use of a cache."""

    pid: int
    at: float

    @classmethod
    def said(cls, text: str) -> Use:
        pid, at = text.split()
        return cls(int(pid), float(at))


class Talker:
    """A process that answers each line with a line of JSON."""

    def __init__(self, process: subprocess.Popen[str], log: Callable[[], str]) -> None:
        self.process = process
        self.pid = process.pid
        self._log = log

    def told(self, line: str) -> Any:
        self.tell(line)
        return self.answer()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self._log()
        return json.loads(line)

    @property
    def state(self) -> str:
        """The state of its breaker."""
        return self.told("state")

    def end(self) -> None:
        """Have it end in order, by the end of its input."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(PATIENCE) == 0, self._log()


class Site:
    """A site of its own: a directory for temporary files makes a private board."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack, **environment: str) -> None:
        self.directory = directory
        self._processes: list[subprocess.Popen[str]] = []
        stack.callback(self._end)
        self._console: Talker | None = None
        # The package that these tests test, installed or not; then the tests themselves.
        package = Path(django_resilient_cache.__file__).parents[1]
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.processes.process_settings",
            "PYTHONPATH": os.pathsep.join([str(package), str(Path(__file__).parents[2])]),
            "TMPDIR": str(directory),
            **environment,
        }

    @property
    def log(self) -> str:
        """What the processes have said."""
        return (self.directory / "log").read_text(errors="replace")

    def start(self, *command: str, **more: Any) -> subprocess.Popen[str]:
        """Start `python -m ...`; it is ended with the site, stopped or not."""
        environment = {**self.environment, **more.pop("environment", {})}
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=environment,
                cwd=self.directory,
                **{"stdin": subprocess.DEVNULL, "stdout": log, **more},
                stderr=log,
                text=True,
            )
        self._processes.append(process)
        return process

    def run(self, *command: str) -> None:
        """Run `python -m ...` to its end."""
        assert self.start(*command).wait(60) == 0, self.log

    def worker(self, **environment: str) -> Talker:
        """Start a worker, which has used nothing yet."""
        return self._talker("tests.processes.obedient_worker", environment)

    def workers(self, count: int) -> list[Talker]:
        """Start so many, and return when they report."""
        return self.join([self.worker() for _ in range(count)])

    def join(self, workers: list[Talker]) -> list[Talker]:
        """Have these use their caches, and return when they report."""
        for each in workers:
            each.tell("use")
        for each in workers:
            each.answer()
        self.until(lambda seen: {each.pid for each in workers} <= live(seen))
        return workers

    def breakers(self, *arguments: str) -> Answer:
        """`manage.py breakers ...` in a process that runs already."""
        if self._console is None:
            self._console = self._talker("tests.processes.console", {})
        return Answer(**self._console.told(json.dumps(arguments)))

    def seen(self) -> Any:
        """What there is to be seen, as `--format json` has it."""
        answer = self.breakers("--format", "json")
        assert answer.out, answer.error
        return answer.json

    def until(self, condition: Callable[[Any], object], seconds: float = PATIENCE) -> float:
        """Look until the condition holds; when it was first seen to."""
        end = time.monotonic() + seconds
        while not condition(seen := self.seen()):
            assert time.monotonic() < end, (seen, self.log)
            time.sleep(0.02)
        return time.monotonic()

    def serve(self, *command: str, **environment: str) -> Server:
        """Start a web server; it answers when this returns."""
        server = Server(self, command, environment)
        assert services.wait_until(server.answers, PATIENCE, every=0.05), self.log
        return server

    def _end(self) -> None:
        """End everything, stopped or not; what does not want to, by force."""
        running = [each for each in self._processes if each.poll() is None]
        children = [pid for each in running for pid in children_of(each.pid)]
        for each in running:
            each.terminate()
        for pid in (*(each.pid for each in running), *children):
            resume(pid)
        for each in self._processes:
            _reap(each)
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _talker(self, module: str, environment: dict[str, str]) -> Talker:
        process = self.start(
            module, stdin=subprocess.PIPE, stdout=subprocess.PIPE, environment=environment
        )
        return Talker(process, lambda: self.log)


class Server:
    """A web server with workers; "PORT" in its command is where it is to listen."""

    def __init__(self, site: Site, command: Sequence[str], environment: dict[str, str]) -> None:
        self.port = services.free_port()
        self.url = f"http://{services.HOST}:{self.port}"
        words = [word.replace("PORT", str(self.port)) for word in command]
        self.process = site.start(*words, environment=environment)

    def get(self, path: str) -> Use:
        with urllib.request.urlopen(f"{self.url}/{path}/", timeout=20) as answer:
            return Use.said(answer.read().decode())

    def answers(self) -> bool:
        assert self.process.poll() is None
        with contextlib.suppress(urllib.error.URLError, OSError):
            self.get("bare")
            return True
        return False

    def first_uses(self, count: int, path: str = "use", seconds: float = PATIENCE) -> list[Use]:
        """Use the cache in so many workers; the first use in each."""
        found: dict[int, Use] = {}
        end = time.monotonic() + seconds
        while len(found) < count:
            assert time.monotonic() < end, found
            for use in at_once(lambda: self.get(path), 2 * count):
                found.setdefault(use.pid, use)
        return list(found.values())


def at_once(call: Callable[[], Use], count: int) -> Iterator[Use]:
    """Call in so many threads."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(count) as pool:
        yield from [task.result() for task in [pool.submit(call) for _ in range(count)]]


def live(seen: Any) -> set[int]:
    """The ids of the workers that report."""
    return {worker["pid"] for worker in seen["workers"] if not worker["stale"]}


def stale(seen: Any) -> set[int]:
    """The ids of the workers that are silent."""
    return {worker["pid"] for worker in seen["workers"] if worker["stale"]}


def state_in(seen: Any, pid: int) -> str:
    """The state of the far layer in one worker, as it reports."""
    (worker,) = [worker for worker in seen["workers"] if worker["pid"] == pid]
    return worker["layers"]["redis"]["state"]


def stop(pid: int) -> None:
    """Freeze a process."""
    os.kill(pid, signal.SIGSTOP)


def resume(pid: int) -> None:
    """Let it go on."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _reap(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def children_of(pid: int) -> list[int]:
    """The processes that this one has started, and those that they have."""
    found: list[int] = []
    for listed in Path("/proc").glob(f"{pid}/task/*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, re.findall(r"\d+", listed.read_text())):
                found += [child, *children_of(child)]
    return found


def boards_in(directory: Path) -> list[Path]:
    """The private directories where workers meet."""
    return sorted(directory.glob("resilient-cache-*"))
