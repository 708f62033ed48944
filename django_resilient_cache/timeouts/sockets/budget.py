"""The budget of one operation on sockets, and how its end travels through a client.

Standard library only.  A budget is current for a thread, greenlet or task; whatever waits on its
behalf (sockets, pools, retries) asks `current_budget` how long it may.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from django_resilient_cache.timeouts import blame
from django_resilient_cache.timeouts.sockets.greenlets import EventLoopWaits

T = TypeVar("T")


class Budget:
    """What one operation may still spend, and what the server had of it so far.

    `ends`: on the monotonic clock.
    `asked`: when the exchange in progress began, on the same clock; 0.0: none yet.
    `completed`: seconds spent in the exchanges of this operation that are over.
    `connecting`: the budget belongs to a helper that sets up a connection.
    `error`: the error of the client that was retried last.
    `socket`: the guarded socket that was used last.
    `event_loop`: how the call waits where an event loop runs it; None: it blocks its thread.
    """

    __slots__ = ("asked", "completed", "connecting", "ends", "error", "event_loop", "socket")

    def __init__(self, ends: float, event_loop: EventLoopWaits | None = None) -> None:
        self.ends = ends
        self.event_loop = event_loop
        self.asked = 0.0
        self.completed = 0.0
        self.connecting = False
        self.error: BaseException | None = None
        self.socket: Any = None


current_budget: ContextVar[Budget | None] = ContextVar("resilient_cache_budget", default=None)


class BudgetEnded(BaseException):
    """The end of a budget, on its way out of a client.

    A BaseException, because clients retry what they catch: redis-py retries its own errors
    and OSError, and whatever is named in ``retry_on_error``, where ``Exception`` is allowed.
    It never leaves a limit.  `server_seconds`: see `TimedOut`.
    """

    def __init__(self, server_seconds: float) -> None:
        super().__init__(server_seconds)
        self.server_seconds = server_seconds


class Interruption(BaseException):
    """An exception from outside (of a signal's handler, say), on its way out of a client.

    A BaseException for the same reason: a client would take a TimeoutError of the caller's for
    one of the server's.  It never leaves a limit, which raises the `error` itself.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def uninterrupted(wait: Callable[..., T], *args: Any) -> T:
    """Return what ``wait(*args)`` does.  It raises nothing itself: what comes is an `Interruption`."""
    try:
        return wait(*args)
    except Exception as error:
        if current_budget.get() is None:
            raise
        raise Interruption(error) from None


def budget_ended(budget: Budget, outstanding: float = 0.0) -> BudgetEnded:
    """Return the end of `budget`; for `outstanding` seconds the server surely owed an answer."""
    return BudgetEnded(blame.in_exchanges(outstanding, budget.completed))
