"""The limits: three ways to keep one operation inside its time, behind one interface.

`direct` calls in place, `sockets` arms the client's own sockets, `thread` waits for a
worker thread.  They only wait; who is to blame for a wait is the layer's decision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

#: What a limit runs: called with the raw backend first, then its own arguments.
Operation = Callable[..., T]


class TimedOut(Exception):
    """The budget of one operation ended before the operation did.

    `given` is the time in seconds that the other side was really given: the time spent
    waiting for it, without what this process lost to its own busy threads.  A layer is
    blamed for what it was given, never for what its caller could not spare.
    """

    def __init__(self, given: float, abandoned: Abandoned | None = None) -> None:
        super().__init__(f"no answer after {given:.3f} s")
        self.given = given
        #: The call, where it goes on without its caller and may still change something.
        self.abandoned = abandoned


class Abandoned(Protocol):
    """A call that was given up and has not ended."""

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Call back once it has ended, at once if it has; in whatever thread that is."""


def abandon(error: BaseException, call: Abandoned, args: tuple[Any, ...] = ()) -> None:
    """Note on an interruption of a caller (a signal's exception, say) that its call goes on.

    `args`: what the limit was given for the operation.
    """

    def ended() -> None:
        _left.pop(id(args), None)

    error.__dict__[_ABANDONED] = call
    if isinstance(error, GeneratorExit):
        _left[id(args)] = call
        call.when_ended(ended)


def abandoned_by(error: BaseException, args: tuple[Any, ...] = ()) -> Abandoned | None:
    """Return the call that `error` interrupted and that may still be made; None: there is none."""
    call: Abandoned | None = getattr(error, _ABANDONED, None)
    if call is None and isinstance(error, GeneratorExit):
        call = _left.get(id(args))
    return call


_ABANDONED = "_resilient_cache_abandoned"

#: Calls that coroutines left which were closed, by their arguments (which they hold): of those that
#: await one another each is thrown a GeneratorExit of its own, in any order by the garbage collector.
_left: dict[int, Abandoned] = {}


class BulkheadFull(Exception):
    """No place was free within the budget, or by then the layer was not to be asked any more.

    `given`: seconds for which the layer left calls without an answer in all places meanwhile, though
    their callers had given them up: for so long it would not have answered this one either.
    """

    def __init__(self, given: float = 0.0, why: str = "no place was free") -> None:
        super().__init__(why)
        self.given = given


def never() -> bool:
    """Say that calls which have waited for a place are to be made."""
    return False


class Limit(Protocol):
    """How one alias is called within a budget."""

    strategy: str
    #: Whether those who have waited for a place are not to ask any more: what others were told
    #: meanwhile holds for them too.
    refused: Callable[[], bool]

    def call(
        self, operation: Operation[T], args: tuple[Any, ...], budget: float | None, *, trial: bool
    ) -> T:
        """Run ``operation(raw_backend, *args)`` for at most `budget` seconds (None: no limit).

        Raises `TimedOut` at the end of the budget and `BulkheadFull` where it could not even be
        asked; whatever else the operation raises passes through unchanged.
        """

    def reject_waiting(self) -> None:
        """Let those go who wait for a place, with `BulkheadFull`: they are `refused` now."""

    def after_fork(self) -> None:
        """Forget, in a forked child, what belongs to the parent (threads, connections)."""

    def close(self) -> None:
        """Let go of connections and idle threads; the limit can be used again."""
