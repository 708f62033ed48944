"""Servers that misbehave, as threads of the test.

One that drips its answer, one that never answers, one whose queue is full, a port nobody listens
on, a proxy that loses answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.real_servers import HOST, PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self


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
        rounds, ends = 0, self._loop.time() + 1.0
        while rounds < 5:  # what was accepted just now has a task soon, which begins soon
            await asyncio.sleep(0)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            late = self._loop.time() > ends  # in the middle of a handshake, say
            # One that has not begun yet would leave its connection open.
            for task in others if late else list(self._tasks):
                task.cancel()
            rounds = 0 if others else rounds + 1
        await self._cut()
        # What no task has taken over yet; only the loop itself knows of it.
        for transport in list(self._loop._transports.values()):  # type: ignore[attr-defined]  # asyncio's own
            transport.abort()
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
