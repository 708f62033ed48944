"""How a layer is called from an event loop where its limit has no way of its own to be awaited."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol

from asgiref.sync import sync_to_async
from django.core.cache import BaseCache

from django_resilient_cache.adapters.instances import private_instance
from django_resilient_cache.timeouts.sockets.socket_limit import SocketsLimit
from django_resilient_cache.timeouts.threads.thread_limit import ThreadLimit
from django_resilient_cache.timeouts.time_limit import Operation, T, TimedOut, abandon, never


class AwaitedLimit(Protocol):
    """How one alias is called within a budget while the event loop goes on."""

    refused: Callable[[], bool]

    async def acall(
        self, operation: Operation[T], args: tuple[Any, ...], budget: float | None, *, trial: bool
    ) -> T:
        """As `Limit.call`.  Cancellation passes at once; `abandoned_by` tells what goes on then."""

    def reject_waiting(self) -> None:
        """As `Limit.reject_waiting`."""

    def after_fork(self) -> None:
        """As `Limit.after_fork`."""

    def close(self) -> None:
        """As `Limit.close`."""


class SocketsOnThreads:
    """The sockets limit, with threads that wait for its calls: for want of `greenlet`."""

    def __init__(self, limit: SocketsLimit, threads: ThreadLimit) -> None:
        self._limit = limit
        self._threads = threads

    @property
    def refused(self) -> Callable[[], bool]:
        return self._threads.refused

    @refused.setter
    def refused(self, refused: Callable[[], bool]) -> None:
        self._threads.refused = refused

    async def acall(
        self, operation: Operation[T], args: tuple[Any, ...], budget: float | None, *, trial: bool
    ) -> T:
        ends = None if budget is None else monotonic() + budget

        def call(_: object, *args: Any) -> T:
            left = None if ends is None else ends - monotonic()
            if left is not None and left <= 0:
                raise TimedOut(0.0)
            return self._limit.call(operation, args, left, trial=trial)

        return await self._threads.acall(call, args, budget, trial=trial)

    def reject_waiting(self) -> None:
        self._threads.reject_waiting()

    def after_fork(self) -> None:
        self._threads.after_fork()

    def close(self) -> None:
        self._threads.close()


class OrmThread:
    """Calls a database without a limit where Django's async code does so: in the ORM's thread.

    There are the connections that the code around it uses, and their transactions.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self.refused: Callable[[], bool] = never  # there are no places
        self._backend: BaseCache | None = None

    async def acall(
        self, operation: Operation[T], args: tuple[Any, ...], budget: float | None, *, trial: bool
    ) -> T:
        if self._backend is None:
            self._backend = private_instance(self._alias)
        call = _Call(operation, (self._backend, *args))
        made = asyncio.ensure_future(sync_to_async(call)())
        made.add_done_callback(_seen)
        try:
            result: T = await asyncio.shield(made)
        except (asyncio.CancelledError, GeneratorExit) as end:
            if not call.prevented():
                abandon(end, call, args)
            raise
        return result

    def reject_waiting(self) -> None:
        """Nobody waits for a place."""

    def after_fork(self) -> None:
        """An instance for a database belongs to no process."""

    def close(self) -> None:
        """Django closes the connections."""


class _Call:
    """A call that its caller may leave: it is not made then, or goes on to its end."""

    def __init__(self, operation: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._operation = operation
        self._args = args
        #: Taken by whoever comes first: the thread that makes the call, or the caller giving up.
        self._claim = threading.Lock()
        self._ended = False
        self._callbacks: deque[Callable[[], None]] = deque()

    def __call__(self) -> Any:
        if not self._claim.acquire(blocking=False):
            return None
        try:
            return self._operation(*self._args)
        finally:
            self._ended = True
            self._call_back()

    def prevented(self) -> bool:
        """Make sure that the call is not made; return False where it was begun."""
        return self._claim.acquire(blocking=False)

    def when_ended(self, callback: Callable[[], None]) -> None:
        """As `Abandoned.when_ended`."""
        self._callbacks.append(callback)
        if self._ended:
            self._call_back()

    def _call_back(self) -> None:
        while self._callbacks:
            with suppress(IndexError):
                self._callbacks.popleft()()


def _seen(made: asyncio.Future[Any]) -> None:
    """Look at what nobody waits for any more, or asyncio would complain."""
    if not made.cancelled():
        made.exception()
