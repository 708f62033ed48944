"""Setting up connections on helper threads, so that an attempt outlives an impatient caller."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

from django_resilient_cache.concurrency.wakeup import ThreadsafeEvent
from django_resilient_cache.timeouts import blame
from django_resilient_cache.timeouts.sockets.budget import (
    Budget,
    budget_ended,
    current_budget,
    uninterrupted,
)

#: Seconds for name lookup, TCP, TLS and greeting together.
CONNECT_SECONDS = 1.0
#: Helpers at work at a time, per limit.  Name lookups cannot be interrupted: what hangs in
#: one must not pile up.
MOST_HELPERS = 8


class ConnectAttempt:
    """One attempt to set up a connection; whoever holds the connection may wait for it."""

    def __init__(self, connect: Callable[[], None], seconds: float) -> None:
        self._connect = connect
        self._seconds = seconds
        self._over = threading.Event()
        #: Tasks that wait for the end.
        self._tasks: deque[ThreadsafeEvent] = deque()
        self._cleanup: Callable[[], None] | None = None
        self.error: BaseException | None = None
        self.budget = Budget(0.0)
        self.budget.connecting = True

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def is_current(self) -> bool:
        """Whether the code that asks is this attempt itself."""
        return current_budget.get() is self.budget

    def run(self) -> None:
        if self._cleanup is not None:  # given up while it waited for a helper
            self._end()
            return
        self.budget.ends = monotonic() + self._seconds
        token = current_budget.set(self.budget)
        try:
            self._connect()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            self.error = error
        finally:
            current_budget.reset(token)
            self._clean_up()  # first, so that nobody goes on with what is about to be closed
            self._end()
            self._clean_up()

    def _end(self) -> None:
        self._over.set()
        while self._tasks:
            with suppress(IndexError):
                self._tasks.popleft().set()

    def _clean_up(self) -> None:
        cleanup, self._cleanup = self._cleanup, None
        if cleanup is not None:
            cleanup()

    def abandon(self, cleanup: Callable[[], None]) -> None:
        """Nobody wants the connection any more: run `cleanup` as soon as the attempt is over."""
        self._cleanup = cleanup
        if self.is_over:
            self._clean_up()

    def wait(self, budget: Budget) -> None:
        """Wait for the end of the attempt, raising its error; or raise the end of `budget`."""
        joined = monotonic()
        left = max(0.0, budget.ends - joined)
        if budget.event_loop is None:
            over = uninterrupted(self._over.wait, left)
        else:
            over = uninterrupted(budget.event_loop.result, self._awaited, left)
        if not over:
            budget.error = self.budget.error or budget.error
            raise budget_ended(budget, self._server_seconds(joined))
        budget.completed += monotonic() - joined
        if self.error is not None:
            raise self.error

    async def _awaited(self, left: float) -> bool:
        event = ThreadsafeEvent()
        self._tasks.append(event)
        return self.is_over or await event.wait(left)

    def _server_seconds(self, joined: float) -> float:
        sock = self.budget.socket
        has_answered = None if sock is None else sock.answered
        return blame.in_connecting(joined, self.budget.asked, has_answered)


class ConnectsOnHelper:
    """Mixed in before a client's connection class: who sets a connection up may be left waiting.

    Subclasses give `_connectors`, and look after an attempt under way before they use or close the
    connection.
    """

    _connectors: Connectors
    #: What sets this connection up at the moment, or has lately.
    _attempt: ConnectAttempt | None = None

    def _connect_on_helper(self, connect: Callable[[], None], in_place: Callable[[], None]) -> None:
        """Run `connect` on a helper and wait as long as may be; without a budget, `in_place`."""
        budget = current_budget.get()
        if budget is None or budget.connecting:
            in_place()
            return
        attempt = self._attempt
        if attempt is None or attempt.is_over:
            seconds = max(CONNECT_SECONDS, budget.ends - monotonic())
            self._attempt = attempt = ConnectAttempt(connect, seconds)
            self._connectors.run(attempt)
        attempt.wait(budget)
        self._attempt = None

    @property
    def is_connecting(self) -> bool:
        """Whether an attempt is under way, its caller there or not."""
        attempt = self._attempt
        return attempt is not None and not attempt.is_over

    def _abandon_attempt(self, cleanup: Callable[[], None]) -> bool:
        """Leave the connection to the helper that is at work on it, if one is: `cleanup` follows."""
        attempt = self._attempt
        if attempt is None or attempt.is_over or attempt.is_current():
            return False
        attempt.abandon(cleanup)
        return True


@contextmanager
def within_budget(connection: Any, *names: str) -> Iterator[None]:
    """Hold the client's own way of connecting to the current budget, for the time of connecting.

    It makes sockets of its own there, out of our reach, but gives them the time-outs that are its
    attributes `names`.
    """
    budget = current_budget.get()
    if budget is None:
        yield
        return
    budget.asked = monotonic()
    left = max(0.05, budget.ends - budget.asked)
    own = {name: getattr(connection, name) for name in names}
    for name, seconds in own.items():
        setattr(connection, name, left if seconds is None else min(left, seconds))
    try:
        yield
    finally:
        for name, seconds in own.items():
            setattr(connection, name, seconds)


class Connectors:
    """A bounded number of daemon threads that run attempts and end when there are none."""

    def __init__(self, most: int = MOST_HELPERS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._at_work = 0
        self._queue: deque[ConnectAttempt] = deque()

    def run(self, attempt: ConnectAttempt) -> None:
        """Have `attempt` run soon."""
        with self._lock:
            if self._at_work >= self._most:
                self._queue.append(attempt)
                return
            self._at_work += 1
        try:
            threading.Thread(
                target=self._work, args=(attempt,), name="resilient-cache-connect", daemon=True
            ).start()
        except RuntimeError:  # no more threads here, or the interpreter is on its way out
            self._work(attempt)

    def _work(self, attempt: ConnectAttempt | None) -> None:
        while attempt is not None:
            attempt.run()
            attempt = self._next()

    def _next(self) -> ConnectAttempt | None:
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            self._at_work -= 1
            return None
