"""A connected socket that keeps to the armed budget, whatever the client around it does."""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any

from django_resilient_cache.timeouts.sockets.budget import (
    STARVED_AFTER,
    Budget,
    Interruption,
    budget_ended,
    current_budget,
    starvation,
    waited,
)
from django_resilient_cache.timeouts.sockets.greenlets import EventLoopWaits

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_ABORT = struct.pack("ii", 1, 0)
#: A request that took this many seconds to send was sent by a starved process: the answer is
#: probably there already, and asking for it before waiting saves a turn in the queue for the
#: interpreter.
_LATE = 0.001
#: An answer that has come by the end of the budget is taken; for so many seconds, since a long one
#: could go on for ever.
_OVERTIME = 0.02


class GuardedSocket:
    """Stands where the client expects its socket; does not block longer than it may.

    The socket below is non-blocking for good and all waiting is done here, so that arming a
    call costs no system call, each step of a dripping answer gets what is left, and an answer
    that is there at the end of the budget is still taken.  Without an armed budget it waits
    as long as the client's own time-out says, and raises the client's TimeoutError.

    `dirty`: an answer is outstanding.  `dead`: never to be used again.
    `asked`: when the last request was sent.  `_late`: when its budget was first found to have ended.
    """

    __slots__ = (
        "_eager",
        "_late",
        "_longest",
        "_own",
        "_pid",
        "_poll",
        "_recv",
        "_recv_into",
        "_send",
        "_sock",
        "asked",
        "dead",
        "dirty",
    )

    def __init__(self, sock: Any, own_timeout: float | None) -> None:
        sock.settimeout(0.0)
        self._sock = sock
        self._recv = sock.recv
        self._recv_into = sock.recv_into
        self._send = sock.send
        # TLS may hold decrypted bytes that no poll can see.
        self._eager = isinstance(sock, ssl.SSLSocket) or hasattr(sock, "pending")
        events = select.poll()
        events.register(sock, select.POLLIN)
        self._poll = events.poll
        self._pid = os.getpid()
        self._late = 0.0
        self.asked = 0.0
        self.dead = False
        self.dirty = False
        self.settimeout(own_timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    # What the client asks of a socket

    def recv(self, *args: Any) -> Any:
        return self._receive(self._recv, *args)

    def recv_into(self, *args: Any) -> Any:
        return self._receive(self._recv_into, *args)

    def sendall(self, data: Any, flags: int = 0) -> None:
        budget = current_budget.get()
        start = monotonic()
        if budget is not None:
            if budget.ends <= start and not budget.connecting:
                if self.dirty:
                    self.abort()
                raise budget_ended(budget, 0.0)  # before anything is sent a connection stays good
            if budget.asked:
                budget.waited += start - budget.asked
            budget.asked = start
            budget.socket = self
        self.asked = start
        self.dirty = True
        try:
            sent = self._send(data, flags)
        except _WOULD_BLOCK:
            sent = 0
        if sent != len(data) or type(data) is memoryview:
            self._send_rest(memoryview(data).cast("B")[sent:], flags, budget, start)

    def settimeout(self, seconds: float | None) -> None:
        self._own = seconds
        # The straight path is for sockets without TLS and budgets shorter than this.
        self._longest = 0.0 if self._eager else inf if seconds is None else seconds

    def gettimeout(self) -> float | None:
        return self._own

    def setblocking(self, flag: bool) -> None:
        self.settimeout(None if flag else 0.0)

    def fileno(self) -> int:
        number: int = self._sock.fileno()
        return number

    def shutdown(self, how: int) -> None:
        if self.dirty:
            self.abort()
        else:
            self._sock.shutdown(how)

    def close(self) -> None:
        if self.dirty:
            self.abort()
        else:
            self.dead = True
            self._sock.close()

    # What its connection asks of it

    def silent(self) -> bool:
        """Whether there surely is nothing to read at this moment, nor the end of the stream."""
        return not self._eager and not self._poll(0)

    def idle(self) -> bool:
        """Whether nothing has come that nobody asked for, nor the end of the stream.

        Asked between two exchanges; what there is to read is lost.
        """
        if not self._eager:
            return not self._poll(0)
        try:
            self._recv(1)  # TLS has messages of its own, and what it holds no poll can see
        except _WOULD_BLOCK:
            return True
        except OSError:
            return False
        return False

    def answered(self) -> bool:
        """Whether more of the answer is there already; may be asked by any thread."""
        try:
            events = select.poll()
            events.register(self._sock, select.POLLIN)
            return bool(events.poll(0))
        except (OSError, ValueError):  # closed meanwhile
            return True

    def abort(self) -> None:
        """End the connection at once, taking back what is still on its way to the server.

        A plain close would let the kernel deliver it, however late.  (What the server's own
        kernel has already got cannot be taken back.)
        """
        self.dead = True
        self.dirty = False
        with suppress(OSError):
            if self._pid == os.getpid():  # after a fork the connection is the parent's too
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        with suppress(OSError):
            self._sock.close()

    # Waiting

    def _receive(self, receive: Any, *args: Any) -> Any:
        budget = current_budget.get()
        now = monotonic()
        if budget is not None:
            # The straight path of nearly all answers; all the rest is for `_receive_within`.
            left = budget.ends - now
            if 0.0 < left < self._longest and now - self.asked < _LATE:
                waits = budget.waits
                try:
                    if waits is None:
                        self._poll(left * 1000)
                    else:
                        waits.until_readable(self._sock.fileno(), left)
                except Exception as error:  # noqa: BLE001 - from outside: it raises none itself
                    raise Interruption(error) from None
                try:
                    return receive(*args)
                except _WOULD_BLOCK:
                    now = monotonic()
        return self._receive_within(budget, now, receive, *args)

    def _receive_within(self, budget: Budget | None, now: float, receive: Any, *args: Any) -> Any:
        if self._own == 0.0:
            return receive(*args)
        ends = inf if self._own is None else now + self._own
        in_loop = _loop_of(budget) is not None
        if budget is not None and budget.ends < ends:
            ends = budget.ends
        else:
            budget = None  # the client's own time-out is the shorter one
        if budget is not None and ends < now:
            self._look_late(budget, now)
        # A task lets others have their turn before each part of a long answer.
        waits = not self._eager and (now - self.asked < _LATE or in_loop)
        while True:
            left = ends - now
            if waits:
                self._until_readable(left)
            waits = True
            try:
                return receive(*args)
            except _WOULD_BLOCK as error:
                if left <= 0.0:
                    raise self._ended(budget, now - self.asked) from None
                if isinstance(error, ssl.SSLWantWriteError):
                    self._until_writable(left)
            now = monotonic()

    def _look_late(self, budget: Budget, now: float) -> None:
        """Raise the end of `budget` where an answer goes on and on."""
        if self._late <= self.asked:  # the first look since the end, however late that is
            self._late = now
        elif now - self._late > _OVERTIME:
            raise self._overdue(budget, now - self.asked)

    def _send_rest(self, rest: memoryview, flags: int, budget: Budget | None, start: float) -> None:
        ends = inf if self._own is None else start + self._own
        if budget is not None and budget.ends < ends:
            ends = budget.ends
        else:
            budget = None
        while rest:
            left = ends - monotonic()
            if budget is not None and left < -_OVERTIME:
                raise self._overdue(budget, ends - start)
            self._until_writable(left)
            try:
                rest = rest[self._send(rest, flags) :]
            except _WOULD_BLOCK as error:
                if left <= 0.0:
                    raise self._ended(budget, ends - start) from None
                if isinstance(error, ssl.SSLWantReadError):
                    self._until_readable(left)

    def _until_readable(self, left: float) -> None:
        if left <= 0.0:
            return
        waits = _loop_of(current_budget.get())
        if waits is not None:
            waited(waits.until_readable, self._sock.fileno(), left)
        else:
            waited(self._poll, left * 1000 if left < inf else None)

    def _until_writable(self, left: float) -> None:
        if left <= 0.0:
            return
        waits = _loop_of(current_budget.get())
        if waits is not None:
            waited(waits.until_writable, self._sock.fileno(), left)
        else:
            events = select.poll()
            events.register(self._sock, select.POLLOUT)
            waited(events.poll, left * 1000 if left < inf else None)

    def _ended(self, budget: Budget | None, certain: float) -> BaseException:
        if budget is None:
            return TimeoutError("timed out")
        return self._expired(budget, certain)

    def _overdue(self, budget: Budget, took: float) -> BaseException:
        """Return the end of an exchange that goes on, and on: the other side's doing, mostly.

        A starved process may be what takes the time itself.
        """
        return self._expired(budget, took if starvation() < STARVED_AFTER else 0.0)

    def _expired(self, budget: Budget, certain: float) -> BaseException:
        self.abort()
        return budget_ended(budget, certain)


def _loop_of(budget: Budget | None) -> EventLoopWaits | None:
    return None if budget is None else budget.waits
