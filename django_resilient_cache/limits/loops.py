"""How calls wait in an event loop: tasks for what comes from elsewhere, sync code for its sockets.

`in_loop` runs a client's own sync code in a greenlet, after SQLAlchemy's `greenlet_spawn`: where
that code would block it switches to the task around it, and comes back when the event loop says
so.  One client, one pool and one codec serve sync and async callers alike, and no connection
belongs to a loop.  It needs the package `greenlet`; the rest is asyncio's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from time import monotonic
from typing import Any, TypeVar

try:
    import greenlet as _greenlet
except ImportError:  # an extra; without it sync code waits on threads
    _greenlet = None

T = TypeVar("T")

#: Whether sync code can wait by the event loop here.
AVAILABLE = _greenlet is not None


class Waits:
    """How the code of one call waits, which `in_loop` runs.

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


async def in_loop(call: Callable[..., T]) -> T:
    """Return what ``call(waits=...)`` returns, which is sync code that waits by what it is given.

    What ends the task meanwhile is raised inside, where the code waits.
    """
    outer = _greenlet.getcurrent()
    inner = _greenlet.greenlet(call, outer)
    inner.gr_context = copy_context()
    wanted = inner.switch(waits=Waits(outer))
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
        getattr(loop, watch)(fd, _end, ready)
    except (OSError, ValueError):  # closed meanwhile: the client finds out as it goes on
        return
    timer = loop.call_later(seconds, _end, ready)
    try:
        await ready
    finally:
        with suppress(RuntimeError):  # the loop is closed
            getattr(loop, leave)(fd)
        timer.cancel()


class Bell:
    """What one task waits for, until somebody rings, from whatever thread, or time is up."""

    __slots__ = ("_loop", "_rung", "rung")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung: asyncio.Future[None] = self._loop.create_future()
        #: Whether anybody rang, perhaps after the task had left.
        self.rung = False

    def ring(self) -> bool:
        """End the wait, if there still is one; return whether the loop is there to see to it."""
        self.rung = True
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(_end, self._rung)
        return self._loop.is_running()

    async def wait(self, seconds: float | None) -> bool:
        """Wait for at most `seconds` (None: without end); return whether anybody rang."""
        timer = None if seconds is None else self._loop.call_later(seconds, _end, self._rung)
        try:
            await self._rung
        finally:
            if timer is not None:
                timer.cancel()
        if self.rung:
            return True
        self._rung = self._loop.create_future()  # to be waited for again
        self._end_if_rung()
        return False

    def _end_if_rung(self) -> None:
        """End the next wait, where somebody rang as the last one was over."""
        if self.rung:
            _end(self._rung)


class Places:
    """The tasks that wait for a place (a thread, a connection), longest first."""

    def __init__(self) -> None:
        self._waiting: deque[Bell] = deque()

    def freed(self) -> None:
        """Have one of those who wait look for the place that was given back just now."""
        while self._waiting:
            with suppress(IndexError):
                if self._waiting.popleft().ring():  # else its loop has stopped: the next one
                    return

    @contextmanager
    def queue(self) -> Iterator[Turn]:
        """Queue up; inside, look for a place each time before waiting for a turn.

        One may have been freed just before.
        """
        turn = Turn(self._waiting)
        try:
            yield turn
        finally:
            if not turn.leave():
                self.freed()  # called, and has no use for it


class Room:
    """Places for so many tasks at a time, from all event loops of the process; others queue."""

    def __init__(self, most: int) -> None:
        # A queue that threads may share: a semaphore takes two locks for each call.
        self._free = deque([None] * most)
        self._places = Places()

    async def enter(self, seconds: float) -> bool:
        """Take a place within `seconds`; return whether there was one."""
        if self._took_place():
            return True
        ends = monotonic() + seconds
        with self._places.queue() as turn:
            while not self._took_place():
                left = ends - monotonic()
                if left <= 0 or not await turn.comes(left):
                    return self._took_place()
        return True

    def leave(self) -> None:
        """Give the place back."""
        self._free.append(None)
        self._places.freed()

    def _took_place(self) -> bool:
        try:
            self._free.pop()
        except IndexError:
            return False
        return True


class Turn:
    """The place of one task in a queue."""

    def __init__(self, waiting: deque[Bell]) -> None:
        self._waiting = waiting
        self._queue_up()

    async def comes(self, seconds: float | None) -> bool:
        """Wait for at most `seconds` (None: without end) to be called; then queue up again."""
        if not await self._bell.wait(seconds):
            return False
        self._queue_up()
        return True

    def leave(self) -> bool:
        """Leave the queue; return False to one who was called meanwhile."""
        try:
            self._waiting.remove(self._bell)
        except ValueError:
            return False
        return True

    def _queue_up(self) -> None:
        self._bell = Bell()
        self._waiting.append(self._bell)


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
