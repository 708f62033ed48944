"""A connected socket that keeps to the current budget, whatever the client around it does."""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any

from django_resilient_cache.timeouts import blame
from django_resilient_cache.timeouts.sockets.budget import (
    Budget,
    Interruption,
    budget_ended,
    current_budget,
    uninterrupted,
)

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

    The socket below is non-blocking for good and all waiting is done here, so that a budget costs
    no system call, each step of a dripping answer gets what is left, and an answer that is there
    at the end of the budget is still taken.  Without a budget it waits as long as the client's own
    time-out says, and raises the client's TimeoutError.

    `dirty`: an answer is outstanding.  `dead`: never to be used again.
    `asked`: when the last request was sent.
    """

    __slots__ = (
        "_is_tls",
        "_overtime_began",
        "_own_timeout",
        "_pid",
        "_poll",
        "_recv",
        "_recv_into",
        "_send",
        "_sock",
        "_straight_below",
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
        # It may hold decrypted bytes that no poll can see: what is there is read before any wait.
        self._is_tls = isinstance(sock, ssl.SSLSocket) or hasattr(sock, "pending")
        self._poll = _poll_for(sock, select.POLLIN)
        self._pid = os.getpid()
        self._overtime_began = 0.0
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
                raise budget_ended(budget)  # before anything is sent a connection stays good
            if budget.asked:
                budget.completed += start - budget.asked
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
        self._own_timeout = seconds
        # The straight path is for sockets without TLS and budgets shorter than the time-out.
        self._straight_below = 0.0 if self._is_tls else inf if seconds is None else seconds

    def gettimeout(self) -> float | None:
        return self._own_timeout

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
        return not self._is_tls and not self._poll(0)

    def idle(self) -> bool:
        """Whether nothing has come that nobody asked for, nor the end of the stream.

        Asked between two exchanges; what there is to read is lost.
        """
        if not self._is_tls:
            return not self._poll(0)
        try:
            self._recv(1)  # TLS has messages of its own, and what it holds no poll can see
        except _WOULD_BLOCK:
            return True
        except OSError:
            return False
        return False

    def answered(self) -> bool:
        """Whether more of the answer is there already, or none can come; for any thread to ask."""
        try:
            return self.dead or bool(_poll_for(self._sock, select.POLLIN)(0))
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
            if 0.0 < left < self._straight_below and now - self.asked < _LATE:
                event_loop = budget.event_loop
                try:
                    if event_loop is None:
                        self._poll(left * 1000)
                    else:
                        event_loop.until_readable(self._sock.fileno(), left)
                except Exception as error:  # noqa: BLE001 - from outside: it raises none itself
                    raise Interruption(error) from None
                try:
                    return receive(*args)
                except _WOULD_BLOCK:
                    now = monotonic()
        return self._receive_within(budget, now, receive, *args)

    def _receive_within(self, budget: Budget | None, now: float, receive: Any, *args: Any) -> Any:
        """Take what is there, or comes before the time is up, whoever's time that is."""
        if self._own_timeout == 0.0:
            return receive(*args)
        wait = _Wait(budget, now, self._own_timeout)
        if wait.budget is not None and wait.ends < now:
            self._allow_overtime(wait, now)
        # A task lets others have their turn before each part of a long answer.
        waits = not self._is_tls and (now - self.asked < _LATE or wait.event_loop is not None)
        while True:
            left = wait.ends - now
            if waits:
                self._until_readable(wait, left)
            waits = True
            try:
                return receive(*args)
            except _WOULD_BLOCK as error:
                if left <= 0.0:
                    raise self._cut(wait, now - self.asked) from None
                if isinstance(error, ssl.SSLWantWriteError):
                    self._until_writable(wait, left)
            now = monotonic()

    def _allow_overtime(self, wait: _Wait, now: float) -> None:
        """Let an answer be read that has come by the end; raise where it goes on and on."""
        if self._overtime_began <= self.asked:  # the first look since the end, however late it is
            self._overtime_began = now
        elif now - self._overtime_began > _OVERTIME:
            raise self._cut(wait, blame.in_endless_exchange(now - self.asked))

    def _send_rest(self, rest: memoryview, flags: int, budget: Budget | None, start: float) -> None:
        wait = _Wait(budget, start, self._own_timeout)
        while rest:
            left = wait.ends - monotonic()
            if wait.budget is not None and left < -_OVERTIME:
                raise self._cut(wait, blame.in_endless_exchange(wait.ends - start))
            self._until_writable(wait, left)
            try:
                rest = rest[self._send(rest, flags) :]
            except _WOULD_BLOCK as error:
                if left <= 0.0:
                    raise self._cut(wait, wait.ends - start) from None
                if isinstance(error, ssl.SSLWantReadError):
                    self._until_readable(wait, left)

    def _until_readable(self, wait: _Wait, left: float) -> None:
        if left <= 0.0:
            return
        if wait.event_loop is not None:
            uninterrupted(wait.event_loop.until_readable, self._sock.fileno(), left)
        else:
            uninterrupted(self._poll, _milliseconds(left))

    def _until_writable(self, wait: _Wait, left: float) -> None:
        if left <= 0.0:
            return
        if wait.event_loop is not None:
            uninterrupted(wait.event_loop.until_writable, self._sock.fileno(), left)
        else:
            uninterrupted(_poll_for(self._sock, select.POLLOUT), _milliseconds(left))

    def _cut(self, wait: _Wait, outstanding: float) -> BaseException:
        """Return what ends the exchange; for `outstanding` seconds the server owed its part."""
        if wait.budget is None:
            return TimeoutError("timed out")
        self.abort()
        return budget_ended(wait.budget, outstanding)


class _Wait:
    """How long one step of an exchange may wait, and how.

    `ends`: on the monotonic clock.  `budget`: whose end that is; None: the client's own time-out
    is the shorter one.  `event_loop`: what to wait by; None: it blocks its thread.
    """

    __slots__ = ("budget", "ends", "event_loop")

    def __init__(self, budget: Budget | None, start: float, own_timeout: float | None) -> None:
        self.ends = inf if own_timeout is None else start + own_timeout
        self.event_loop = None if budget is None else budget.event_loop
        self.budget = budget if budget is not None and budget.ends < self.ends else None
        if self.budget is not None:
            self.ends = self.budget.ends


def _poll_for(sock: Any, event: int) -> Callable[[float | None], Any]:
    events = select.poll()
    events.register(sock, event)
    return events.poll


def _milliseconds(seconds: float) -> float | None:
    return seconds * 1000 if seconds < inf else None
