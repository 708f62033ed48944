"""A caller's own budget for cache calls.  Standard library only."""

from __future__ import annotations

import time
from contextvars import ContextVar
from types import TracebackType

#: The most seconds that `remaining` names: locks and sockets accept neither infinity nor years.
_LONGEST = 1e6


class _Span:
    """One `with deadline(...)` block that was entered."""

    __slots__ = ("end", "outer", "over", "owner")

    def __init__(self, owner: deadline, end: float, outer: _Span | None) -> None:
        self.owner = owner
        self.end = end  # on the monotonic clock
        self.outer = outer
        self.over = False  # left: tasks and threads that inherited it are free of it too


#: The innermost block around the current code; None: no deadline.
_innermost: ContextVar[_Span | None] = ContextVar("resilient_cache_deadline", default=None)


class deadline:  # noqa: N801 - reads as a statement: `with deadline(0.2):`
    """Give all cache calls inside the block together at most `seconds` seconds.

    Works around sync and async code and nests: the earlier end wins.  Tasks started inside are
    bound by it until the block is left.  Each call gets the
    smaller of its layer's own limit and what is left.  A wait that this cuts short does not
    count as a failure of the layer.  When nothing is left, layers without a limit
    (local memory) are still asked, the others are not.

    Raises TypeError or ValueError where `seconds` is not a number >= 0.
    """

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(
                f"deadline(seconds) takes a number of seconds, for example 0.2; got {seconds!r}"
            )
        if not seconds >= 0:  # not a number is not either
            raise ValueError(f"deadline(seconds) must be 0 or more, got {seconds!r}")
        self._seconds = min(seconds, 1e15)  # an int may be beyond every float

    def __enter__(self) -> None:
        outer = _innermost.get()
        _innermost.set(_Span(self, time.monotonic() + self._seconds, _live(outer)))

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        span = _innermost.get()
        while span is not None and (span.owner is not self or span.over):
            span = span.outer
        if span is not None:
            span.over = True
            _innermost.set(_live(_innermost.get()))


def _live(span: _Span | None) -> _Span | None:
    """Return the innermost block from `span` outwards that was not left yet."""
    while span is not None and span.over:
        span = span.outer
    return span


def remaining() -> float | None:
    """Return the seconds left of the deadline around this call; None: there is none.

    0.0 or less: nothing is left.  A deadline too far away to matter reads as 11 days.
    """
    span = _innermost.get()
    if span is None or (span := _live(span)) is None:
        return None
    end = span.end
    while (span := _live(span.outer)) is not None:
        end = min(end, span.end)
    return min(end - time.monotonic(), _LONGEST)
