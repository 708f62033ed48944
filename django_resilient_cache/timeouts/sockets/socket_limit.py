"""The *sockets* limit: one budget for a whole operation, kept by the client's own sockets.

For redis-py and valkey-py under django-redis, django-valkey and Django's RedisCache, and for
pymemcache under Django's PyMemcacheCache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TypeVar

from django.core.cache.backends.base import BaseCache

from django_resilient_cache.adapters.instances import private_instance
from django_resilient_cache.concurrency import forks
from django_resilient_cache.concurrency.interruption import note
from django_resilient_cache.timeouts.bulkhead import Bulkhead
from django_resilient_cache.timeouts.sockets.budget import (
    Budget,
    BudgetEnded,
    Interruption,
    current_budget,
)
from django_resilient_cache.timeouts.sockets.greenlets import EventLoopWaits, run_in_greenlet
from django_resilient_cache.timeouts.sockets.guarding import disconnect, guard
from django_resilient_cache.timeouts.time_limit import BulkheadFull, Call, TimedOut, never

T = TypeVar("T")

#: Seconds that a call without a budget may take in an event loop, where all waiting needs one.
_ENDLESS = 1e6


class SocketsLimit:
    """Calls an alias on an instance of our own whose sockets keep to the budget.

    The instance is made at first use, shared by all threads of the process, and has
    connection pools of its own: neither options nor connections are mixed with those of
    ``caches[alias]``.  It is for aliases that `supported_clients.unsupported` has nothing
    against.
    """

    strategy = "sockets"

    def __init__(self, alias: str, max_concurrency: int = 16) -> None:
        self.alias = alias
        self._max = max_concurrency
        self._backend: BaseCache | None = None
        self._lock = threading.Lock()
        self._bulkhead = Bulkhead(max_concurrency)
        self.is_rejecting: Callable[[], bool] = never
        forks.reset_in_child(self._reset_after_fork)

    def backend(self) -> BaseCache:
        """Return the instance of our own, made now if it has to be."""
        backend = self._backend
        if backend is None:
            with self._lock:
                backend = self._backend
                if backend is None:
                    backend = private_instance(self.alias)
                    guard(backend)
                    self._backend = backend
        return backend

    def call(
        self,
        call: Call[T],
        budget: float | None,
        *,
        trial: bool,
        event_loop: EventLoopWaits | None = None,
    ) -> T:
        """Make the call within `budget` seconds; see `TimeLimit`."""
        backend = self._backend or self.backend()
        if budget is not None:
            own = Budget(monotonic() + budget, event_loop)
        elif current_budget.get() is None:
            return call.run(backend)
        else:  # left behind by a call that was interrupted just before it could reset it
            own = None
        token = current_budget.set(own)
        try:
            return call.run(backend)
        except BudgetEnded as end:
            if own is not None and own.error is not None:
                raise own.error from None  # the client was at it again when the time was up
            raise TimedOut(end.server_seconds) from None
        except BaseException as error:  # of whatever kind, the connection is in doubt
            # An interrupt may have come between a request and its answer.
            if own is not None and own.socket is not None and own.socket.dirty:
                own.socket.abort()
            if not isinstance(error, Interruption):
                raise
            interruption = error.error
        finally:
            current_budget.reset(token)
        note(interruption)
        try:
            raise interruption
        finally:
            del interruption  # it holds this frame

    async def acall(self, call: Call[T], budget: float | None, *, trial: bool) -> T:
        """As `call`, while the client's own code waits by the event loop.

        As many calls at a time as threads would make: each has a connection of its own, and tasks
        come by the thousand.
        """
        bulkhead = self._bulkhead
        left = _ENDLESS if budget is None else budget
        entered = False
        try:
            entered = bulkhead.enter_at_once()
            if not entered:
                ends = monotonic() + left
                entered = await bulkhead.aenter(0.0 if trial else left)
                left = ends - monotonic()
                if not entered or left <= 0.0 or (self.is_rejecting() and not trial):
                    raise BulkheadFull
            return await run_in_greenlet(partial(self.call, call, left, trial=trial))
        finally:
            if entered:
                bulkhead.leave()

    def reject_waiting(self) -> None:
        """Let those go who wait for a place."""
        self._bulkhead.reject_waiting()

    def _reset_after_fork(self) -> None:
        """Forget the parent's connections, attempts and lock."""
        self._lock = threading.Lock()
        self._backend = None
        self._bulkhead = Bulkhead(self._max)

    def close(self) -> None:
        """Close the connections; the next call makes new ones."""
        with self._lock:
            backend, self._backend = self._backend, None
        if backend is not None:
            disconnect(backend)
