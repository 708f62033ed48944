"""The budget of one operation on sockets, and how its end travels through a client.

Standard library only.  A budget is armed for the current thread, greenlet or task; whatever
waits on its behalf (sockets, pools, retries) asks `current_budget` how long it may.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from math import inf
from typing import Any, TypeVar

from django_resilient_cache.timeouts.sockets.greenlets import EventLoopWaits

T = TypeVar("T")

#: A pause this long when the processor is offered to others means that this process is starved.
STARVED_AFTER = 0.002
#: For so many seconds what was seen of that is taken to hold.
_STILL_TRUE = 0.005


class Budget:
    """What one operation may still spend, and what the server was given of it so far.

    `ends`: on the monotonic clock.
    `asked`: when the exchange in progress began, on the same clock; 0.0: none yet.
    `waited`: seconds spent in exchanges of this operation that were completed.
    `connecting`: the budget belongs to a helper that sets up a connection.
    `error`: the error of the client that was retried last.
    `socket`: the guarded socket that was used last.
    `waits`: how the call waits where an event loop runs it; None: it blocks its thread.
    """

    __slots__ = ("asked", "connecting", "ends", "error", "socket", "waited", "waits")

    def __init__(self, ends: float, waits: EventLoopWaits | None = None) -> None:
        self.ends = ends
        self.waits = waits
        self.asked = 0.0
        self.waited = 0.0
        self.connecting = False
        self.error: BaseException | None = None
        self.socket: Any = None


current_budget: ContextVar[Budget | None] = ContextVar("resilient_cache_armed", default=None)


class BudgetEnded(BaseException):
    """The end of a budget, on its way out of a client.

    A BaseException, because clients retry what they catch: redis-py retries its own errors
    and OSError, and whatever is named in ``retry_on_error``, where ``Exception`` is allowed.
    It never leaves a limit.  `given` is in seconds, see `TimedOut`.
    """

    def __init__(self, given: float) -> None:
        super().__init__(given)
        self.given = given


class Interruption(BaseException):
    """An exception from outside (of a signal's handler, say), on its way out of a client.

    A BaseException for the same reason: a client would take a TimeoutError of the caller's for
    one of the server's.  It never leaves a limit, which raises the `error` itself.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def waited(wait: Callable[..., T], *args: Any) -> T:
    """Return what ``wait(*args)`` does, which raises nothing of its own."""
    try:
        return wait(*args)
    except Exception as error:
        if current_budget.get() is None:
            raise
        raise Interruption(error) from None


class _Starvation:
    """How many seconds it takes to get the processor back after offering it.

    Microseconds in a healthy process; with other threads computing, about the interpreter's
    switch interval for each.  Calls that end at the same time ask once for all of them: in an event
    loop each would keep all others waiting.
    """

    def __init__(self) -> None:
        self._seen = (-inf, 0.0)

    def __call__(self) -> float:
        at, pause = self._seen
        start = time.monotonic()
        if start - at < _STILL_TRUE:
            return pause
        time.sleep(0)
        end = time.monotonic()
        self._seen = (end, end - start)
        return end - start


starvation = _Starvation()


def budget_ended(budget: Budget, certain: float) -> BudgetEnded:
    """Return the end of `budget`; for `certain` seconds the server surely owed an answer.

    The time of the exchanges before that one counts too, unless this process is starved:
    then nobody can tell the server's share from its own.
    """
    given = certain
    if budget.waited > 0.0 and starvation() < STARVED_AFTER:
        given += budget.waited
    return BudgetEnded(given)
