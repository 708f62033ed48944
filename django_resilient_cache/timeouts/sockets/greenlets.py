"""How sync code waits for its sockets in an event loop.

`run_in_greenlet` runs a client's own sync code in a greenlet, after SQLAlchemy's `greenlet_spawn`: where
that code would block it switches to the task around it, and comes back when the event loop says
so.  One client, one pool and one codec serve sync and async callers alike, and no connection
belongs to a loop.  It needs the package `greenlet`; the rest is asyncio's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

try:
    import greenlet as _greenlet
except ImportError:  # an extra; without it sync code waits on threads
    _greenlet = None

from django_resilient_cache.concurrency.wakeup import wake

T = TypeVar("T")

#: Whether sync code can wait by the event loop here.
AVAILABLE = _greenlet is not None


class EventLoopWaits:
    """How the code of one call waits, which `run_in_greenlet` runs.

    While it waits, its frames must not hold the task, nor what leads to it (a future, a coroutine
    under way, the loop): no garbage collection sees into them, and a task that is left behind by
    its loop would stay for ever, with its place and its connection.
    """

    __slots__ = ("_task",)

    def __init__(self, task: Any) -> None:
        self._task = task

    def result(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Return what awaiting ``function(*args)`` gives; raises what ends the task meanwhile."""
        outcome: T = self._task.switch((function, args))
        return outcome

    def until_readable(self, fd: int, seconds: float) -> None:
        """Wait until there is something to read, for at most `seconds`."""
        self._task.switch((_until, ("add_reader", "remove_reader", fd, seconds)))

    def until_writable(self, fd: int, seconds: float) -> None:
        """Wait until something can be written, for at most `seconds`."""
        self._task.switch((_until, ("add_writer", "remove_writer", fd, seconds)))

    def pause(self, seconds: float) -> None:
        """Let others do something for so long."""
        self._task.switch((asyncio.sleep, (seconds,)))


async def run_in_greenlet(call: Callable[..., T]) -> T:
    """Return what ``call(event_loop=...)`` returns, which is sync code that waits by what it is given.

    What ends the task meanwhile is raised inside, where the code waits.
    """
    outer = _greenlet.getcurrent()
    inner = _greenlet.greenlet(call, outer)
    inner.gr_context = copy_context()
    wanted = inner.switch(event_loop=EventLoopWaits(outer))
    while not inner.dead:
        function, args = wanted
        try:
            result = await function(*args)
        except BaseException as error:  # of whatever kind, it is for the code inside
            if _greenlet.getcurrent() is not outer:
                # Another thread collects what was left behind by a loop; the code inside ends in
                # its own thread, as soon as that one lets it.
                raise
            wanted = inner.throw(error)
        else:
            wanted = inner.switch(result)
    returned: T = wanted
    return returned


async def _until(watch: str, leave: str, fd: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    try:
        getattr(loop, watch)(fd, wake, ready)
    except (OSError, ValueError):  # closed meanwhile: the client finds out as it goes on
        return
    timer = loop.call_later(seconds, wake, ready)
    try:
        await ready
    finally:
        with suppress(RuntimeError):  # the loop is closed
            getattr(loop, leave)(fd)
        timer.cancel()
