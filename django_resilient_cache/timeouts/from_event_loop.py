"""How a layer is called from an event loop where its limit has no way of its own to be awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Generic

from asgiref.sync import sync_to_async
from django.core.cache import BaseCache

from django_resilient_cache.adapters.instances import private_instance
from django_resilient_cache.timeouts.sockets.socket_limit import SocketsLimit
from django_resilient_cache.timeouts.threads.thread_limit import ThreadLimit
from django_resilient_cache.timeouts.time_limit import (
    Abandoned,
    AbandonedCall,
    Call,
    T,
    TimedOut,
    WithoutPlaces,
)


class SocketsOnThreads:
    """The sockets limit, with threads that wait for its calls: for want of `greenlet`."""

    def __init__(self, limit: SocketsLimit, threads: ThreadLimit) -> None:
        self._limit = limit
        self._threads = threads
        self.reject_waiting = threads.reject_waiting
        self.close = threads.close

    @property
    def is_rejecting(self) -> Callable[[], bool]:
        """Those of its threads."""
        return self._threads.is_rejecting

    @is_rejecting.setter
    def is_rejecting(self, is_rejecting: Callable[[], bool]) -> None:
        self._threads.is_rejecting = is_rejecting

    async def acall(self, call: Call[T], budget: float | None, *, trial: bool) -> T:
        """As `AwaitedLimit.acall`."""
        ends = None if budget is None else monotonic() + budget
        on_sockets = _OnSockets(self._limit, call, ends, trial=trial)
        try:
            return await self._threads.acall(on_sockets, budget, trial=trial)
        finally:
            call.abandoned = on_sockets.abandoned


class _OnSockets(Generic[T]):
    """A call that a thread hands on to the sockets limit."""

    def __init__(
        self, limit: SocketsLimit, call: Call[T], ends: float | None, *, trial: bool
    ) -> None:
        self._limit = limit
        self._call = call
        self._ends = ends
        self._trial = trial
        self.abandoned: Abandoned | None = None

    def run(self, backend: BaseCache) -> T:
        left = None if self._ends is None else self._ends - monotonic()
        if left is not None and left <= 0:
            raise TimedOut(0.0)
        return self._limit.call(self._call, left, trial=self._trial)


class OrmThread(WithoutPlaces):
    """Calls a database without a limit where Django's async code does so: in the ORM's thread.

    There are the connections that the code around it uses, and their transactions.  Django closes
    them.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._backend: BaseCache | None = None

    async def acall(self, call: Call[T], budget: float | None, *, trial: bool) -> T:
        """As `AwaitedLimit.acall`."""
        if self._backend is None:
            self._backend = private_instance(self._alias)
        in_thread = _CallInThread(call, self._backend)
        made = asyncio.ensure_future(sync_to_async(in_thread)())
        made.add_done_callback(_seen)
        try:
            result: T = await asyncio.shield(made)
        except (asyncio.CancelledError, GeneratorExit):
            if not in_thread.prevented():
                call.abandoned = in_thread
            raise
        return result


class _CallInThread(AbandonedCall):
    """A call that its caller may leave: it is not made then, or goes on to its end."""

    def __init__(self, call: Call[Any], backend: BaseCache) -> None:
        super().__init__()
        self._call = call
        self._backend = backend
        #: Taken by whoever comes first: the thread that makes the call, or the caller giving up.
        self._claim = threading.Lock()

    def __call__(self) -> Any:
        if not self._claim.acquire(blocking=False):
            return None
        try:
            return self._call.run(self._backend)
        finally:
            self.end()

    def prevented(self) -> bool:
        """Make sure that the call is not made; return False where it was begun."""
        return self._claim.acquire(blocking=False)


def _seen(made: asyncio.Future[Any]) -> None:
    """Look at what nobody waits for any more, or asyncio would complain."""
    if not made.cancelled():
        made.exception()
