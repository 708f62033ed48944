"""What a time limit is: a call on a backend inside a budget.

`direct` calls in place, `sockets` bounds the waits of the client's own sockets, `threads` has the
call made on a worker thread.  Limits only wait; who is to blame for a wait is the layer's decision.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar

from django.core.cache import BaseCache

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Abandoned(Protocol):
    """A call that was given up and has not ended."""

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Call back once it has ended, at once if it has; in whatever thread that is."""


class AbandonedCall:
    """The end of a call, and who is to be told of it: each once, whichever side comes first."""

    __slots__ = ("_callbacks", "_ended")

    def __init__(self) -> None:
        self._ended = False
        self._callbacks: deque[Callable[[], None]] = deque()

    def when_ended(self, callback: Callable[[], None]) -> None:
        """As `Abandoned.when_ended`."""
        self._callbacks.append(callback)
        if self._ended:
            self._call_back()

    def end(self) -> None:
        """Note that the call has ended."""
        self._ended = True
        self._call_back()

    def _call_back(self) -> None:
        while self._callbacks:
            with suppress(IndexError):
                self._callbacks.popleft()()


class Call(Protocol[T_co]):
    """What a limit runs: one call on a backend."""

    #: Set by the limit where it gives the call up and the call may still be made.
    abandoned: Abandoned | None

    def run(self, backend: BaseCache) -> T_co:
        """Make the call."""


class TimedOut(Exception):
    """The budget of one call ended before the call did.

    `server_seconds`: how long the other side really had, see `blame`.
    """

    def __init__(self, server_seconds: float) -> None:
        super().__init__(f"no answer after {server_seconds:.3f} s")
        self.server_seconds = server_seconds


class BulkheadFull(Exception):
    """No place was free within the budget, or by then the layer was not to be asked any more.

    `server_seconds`: how long the layer left calls without an answer in all places meanwhile, though
    their callers had given them up: for so long it would not have answered this one either.
    """

    def __init__(self, server_seconds: float = 0.0, why: str = "no place was free") -> None:
        super().__init__(why)
        self.server_seconds = server_seconds


def never() -> bool:
    """Say that calls which have waited for a place are to be made."""
    return False


class Limit(Protocol):
    """What holds for every way of calling one alias within a budget."""

    #: Whether calls that have waited for a place are not to be made any more: what others were told
    #: meanwhile holds for them too.
    is_rejecting: Callable[[], bool]

    def reject_waiting(self) -> None:
        """Let those go who wait for a place, with `BulkheadFull`: it `is_rejecting`."""

    def close(self) -> None:
        """Let go of connections and idle threads; the limit can be used again."""


class TimeLimit(Limit, Protocol):
    """How one alias is called within a budget."""

    #: As operators are shown it.
    strategy: str

    def call(self, call: Call[T], budget: float | None, *, trial: bool) -> T:
        """Run `call` on a backend for at most `budget` seconds (None: no limit).

        Raises `TimedOut` at the end of the budget and `BulkheadFull` where the layer could not even
        be asked; whatever else the call raises passes through unchanged.  Whatever ends it early,
        `call.abandoned` is what may still be made.
        """


class AwaitedLimit(Limit, Protocol):
    """How one alias is called within a budget while the event loop goes on."""

    async def acall(self, call: Call[T], budget: float | None, *, trial: bool) -> T:
        """As `TimeLimit.call`.  Cancellation passes at once; `call.abandoned` is what goes on then."""


class WithoutPlaces:
    """Mixed in: callers do not wait for a place, and there is nothing to let go of."""

    is_rejecting: Callable[[], bool] = staticmethod(never)

    def reject_waiting(self) -> None:
        """As `Limit.reject_waiting`."""

    def close(self) -> None:
        """As `Limit.close`."""
