"""Connections and pools of redis-py and valkey-py that keep to the current budget.

Both clients are one code base.  Everything is done in subclasses of the client's own
connection and pool classes; no code of the client is replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from queue import Empty
from time import monotonic
from typing import Any

from django_resilient_cache.timeouts.bulkhead import WaitingTask, WaitQueue
from django_resilient_cache.timeouts.sockets.budget import (
    Budget,
    BudgetEnded,
    budget_ended,
    current_budget,
    uninterrupted,
)
from django_resilient_cache.timeouts.sockets.connecting import (
    Connectors,
    ConnectsOnHelper,
    within_budget,
)
from django_resilient_cache.timeouts.sockets.greenlets import EventLoopWaits
from django_resilient_cache.timeouts.sockets.guarded_socket import GuardedSocket
from django_resilient_cache.timeouts.time_limit import BulkheadFull

#: What the classes below are mixed into: classes of a client that is not there for the types.
_Client: Any = object


class BudgetedBackoff:
    """The pauses between a client's retries, as far as the budget goes.

    Where a pause does not fit, no further try could: the error that would have been retried
    is the outcome.
    """

    def __init__(self, backoff: Any) -> None:
        self._backoff = backoff

    def reset(self) -> None:
        self._backoff.reset()

    def compute(self, failures: int) -> float:
        pause: float = self._backoff.compute(failures)
        budget = current_budget.get()
        if budget is not None:
            budget.error = sys.exc_info()[1]  # called from the client's `except` block
            if monotonic() + pause >= budget.ends:
                raise budget.error or budget_ended(budget)
            if budget.event_loop is not None and pause > 0.0:
                uninterrupted(budget.event_loop.pause, pause)
                return 0.0
        return pause


class GuardedConnection(ConnectsOnHelper, _Client):  # type: ignore[misc]  # a base that is Any
    """Mixed in before a client's connection class: its sockets keep to the budget."""

    #: The client's exceptions; set by `guarded_connection_class`, as are `_connectors`.
    _errors: Any
    _response_error: type[Exception]
    _sock: GuardedSocket | None
    #: Answers outstanding of a pipeline.
    _expected = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.retry._backoff, BudgetedBackoff):
            self.retry._backoff = BudgetedBackoff(self.retry._backoff)

    # Setting up

    def connect(self, *args: Any, **kwargs: Any) -> None:
        """Make sure that the connection can be used: called whenever one leaves its pool."""
        attempt = self._attempt
        if attempt is not None and attempt.is_over:
            self._attempt = attempt = None
        if attempt is None:
            sock = self._sock
            if sock is not None:
                if not sock.dead and not sock.dirty:
                    return
                self.disconnect()
        self._greeted(partial(super().connect, *args, **kwargs))

    def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        # Some versions connect by this one, from `connect` and in the middle of an operation.
        self._greeted(partial(super().connect_check_health, *args, **kwargs))

    def _greeted(self, connect: Callable[[], None]) -> None:
        self._connect_on_helper(partial(self._greet, connect), in_place=connect)

    def _greet(self, connect: Callable[[], None]) -> None:
        """Connect, on a helper; what a pipeline expects is none of the greeting's."""
        expected, self._expected = self._expected, 0
        try:
            connect()
        except BudgetEnded:
            self.disconnect()
            raise self._errors.TimeoutError("Timeout connecting to server") from None
        finally:
            self._expected = expected

    def _connect(self) -> GuardedSocket:
        own = self.socket_timeout
        with within_budget(self, "socket_timeout", "socket_connect_timeout"):
            sock = super()._connect()
        return GuardedSocket(sock, own)

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        if self._abandon_attempt(super().disconnect):
            return
        self._expected = 0
        super().disconnect(*args, **kwargs)

    # Exchanges

    def can_read(self, *args: Any, **kwargs: Any) -> bool:
        sock = self._sock
        if args or kwargs or sock is None or not sock.silent() or not _drained(self._parser):
            readable: bool = super().can_read(*args, **kwargs)
            return readable
        budget = current_budget.get()
        if budget is not None and budget.ends <= monotonic() and not budget.connecting:
            raise budget_ended(budget)  # before anything is sent: the connection stays good
        return False

    def pack_commands(self, commands: Any) -> Any:
        commands = list(commands)
        packed = super().pack_commands(commands)
        self.expect(len(commands))
        return packed

    def expect(self, answers: int) -> None:
        """Know how many answers there are to what is sent next."""
        self._expected = answers

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        sock: Any = self._sock
        try:
            response = super().read_response(*args, **kwargs)
        except self._response_error as error:
            self._answered(sock)
            if sock is not None and isinstance(error, self._errors.ReadOnlyError):
                sock.dead = True  # the server is no longer the one that takes writes
            raise
        if self._expected:
            self._answered(sock)
        else:
            sock.dirty = False
        return response

    def _answered(self, sock: GuardedSocket | None) -> None:
        self._expected = max(0, self._expected - 1)
        if sock is not None and not self._expected:
            sock.dirty = False


class GuardedPool(_Client):  # type: ignore[misc]  # a base that is Any
    """Mixed in before a client's pool class: its connections are guarded."""

    #: Set by `guarded_pool_class`: the client's exceptions.
    _errors: Any
    _connectors: Connectors

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own: Any = self.connection_class
        self.connection_class: Any = guarded_connection_class(own, self._connectors)

    def make_connection(self) -> Any:
        """Make one more connection; that there are too many is not the server's fault."""
        full = getattr(self, "_created_connections", 0) >= self.max_connections
        try:
            return super().make_connection()
        except self._errors.ConnectionError as error:
            if not full or current_budget.get() is None:
                raise
            raise self._none_free(error) from error

    def _none_free(self, error: Exception) -> BulkheadFull:
        return BulkheadFull(why=f"{error} (max_connections of its pool is {self.max_connections})")


class GuardedSentinelPool(_Client):  # type: ignore[misc]  # a base that is Any
    """The same for Sentinel's pools: a connection may outlive an impatient caller."""

    def owns_connection(self, connection: Any) -> bool:
        """Whether the pool takes `connection` back.

        The client's own takes back what is connected to the master that it knows.  What is not
        connected yet would be given up with its caller, each time anew.
        """
        if connection.is_connecting:
            return bool(connection.pid == self.pid)
        return bool(super().owns_connection(connection))


class GuardedBlockingPool(GuardedPool):
    """The same for pools whose callers queue: they do at most until their budget ends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Tasks that queue; threads do so in the client's own queue.
        self._tasks = WaitQueue(int)
        super().__init__(*args, **kwargs)

    @property
    def timeout(self) -> float | None:
        own: float | None = self.__dict__["timeout"]
        budget = current_budget.get()
        if budget is None:
            return own
        if budget.event_loop is not None:
            return 0.0  # the loop must not be kept waiting: see `_take_in_loop`
        left = max(0.0, budget.ends - monotonic())
        return left if own is None else min(own, left)

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self.__dict__["timeout"] = seconds

    def get_connection(self, *args: Any, **kwargs: Any) -> Any:
        take = partial(super().get_connection, *args, **kwargs)
        budget = current_budget.get()
        try:
            if budget is None or budget.event_loop is None:
                return take()
            return self._take_in_loop(take, budget, budget.event_loop)
        except Exception as error:
            if budget is None or not _found_none(error):
                raise
            raise self._none_free(error) from None

    def _take_in_loop(
        self, take: Callable[[], Any], budget: Budget, event_loop: EventLoopWaits
    ) -> Any:
        """Take a connection as soon as one is free, as long as the client itself would wait."""
        own: float | None = self.__dict__["timeout"]
        ends = budget.ends if own is None else min(budget.ends, monotonic() + own)
        while True:
            try:
                return take()
            except Exception as error:
                if ends <= monotonic() or not _found_none(error):
                    raise
            uninterrupted(event_loop.result, self._one_is_free, ends)

    async def _one_is_free(self, ends: float) -> None:
        # Not in the queue while a connection is set up: who is called there must look at once.
        left = ends - monotonic()
        with WaitingTask(self._tasks, left) as waiter:
            if self.pool.empty():
                await waiter.is_called(left)

    def release(self, connection: Any) -> None:
        super().release(connection)
        self._tasks.call_next()


def guarded_connection_class(base: type, connectors: Connectors) -> type:
    """Return a subclass of the client's connection class `base` that keeps to the budget."""
    errors = import_module(f"{client_package(base)}.exceptions")
    own = {"_errors": errors, "_response_error": errors.ResponseError, "_connectors": connectors}
    return type(base.__name__, (GuardedConnection, base), own)


def guarded_pool_class(base: type, connectors: Connectors) -> type:
    """Return a subclass of the client's pool class `base` whose connections are guarded."""
    package = client_package(base)
    own = {"_errors": import_module(f"{package}.exceptions"), "_connectors": connectors}
    bases: tuple[type, ...] = (GuardedPool, base)
    if issubclass(base, import_module(f"{package}.connection").BlockingConnectionPool):
        bases = (GuardedBlockingPool, *bases)
    if issubclass(base, import_module(f"{package}.sentinel").SentinelConnectionPool):
        bases = (GuardedSentinelPool, *bases)
    return type(base.__name__, bases, own)


def client_package(cls: type) -> str:
    """Return "redis" or "valkey": the client that `cls` is, or derives from."""
    for each in cls.__mro__:
        package = each.__module__.partition(".")[0]
        if package in ("redis", "valkey"):
            return package
    raise TypeError(f"{cls!r} belongs to neither redis-py nor valkey-py")


def _found_none(error: Exception) -> bool:
    """Whether it says that no connection was free."""
    return isinstance(error.__context__, Empty)


def _drained(parser: Any) -> bool:
    """Whether `parser` surely holds nothing that it has received but not handed out."""
    reader = getattr(parser, "_reader", None)
    if reader is not None:
        return hasattr(reader, "has_data") and not reader.has_data()
    unread = getattr(getattr(parser, "_buffer", None), "unread_bytes", None)
    return unread is not None and unread() == 0
