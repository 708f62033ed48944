"""How threads and tasks wait for a place: a thread, a connection, a call among those under way.

A place is handed over without a lock: a task that is collected as garbage leaves its queue in the
middle of whatever the collecting thread does.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Self, TypeVar

from django_resilient_cache.concurrency.wakeup import ThreadsafeEvent

T = TypeVar("T")

#: Who has waited for this share of its time gets a place too late to make much of it.
_TOO_LATE = 0.9


class WaitQueue:
    """Those that wait for one of a limited number of places (threads, connections).

    The one that waits longest is next, and a task that comes does not overtake, nor take the place
    that another was called for.  Where the first has little of its time left, more want a place
    than can have one: in that order each would get it too late to use it.  Then the one that came
    last is next, until the others have given up (adaptive LIFO: Maurer, "Fail at Scale", ACM Queue
    13(8), 2015).  A thread takes what is free when it comes: to wake another one takes a while in a
    busy process, in which nobody would have the place.

    A waiter is in one of four states.  Each is a place where it stands, and each move is one
    operation of a deque:

    * waiting: in `waiting`;
    * called: in `called`, by whoever freed a place (`call_next`), and about to be woken;
    * looking: first in `waiting` again, by its own thread or task: it tries to take the place.
      Where it finds none it stays, and is the next one;
    * gone: in neither.  It has a place, has given up, or was rejected.  If it was called and has no
      use for the place, it calls the next one.

    `free` tells how many places there are to take at the moment.
    """

    def __init__(self, free: Callable[[], int]) -> None:
        self._free_places = free
        self.waiting: deque[Waiter] = deque()
        self.called: deque[Waiter] = deque()

    def take(self, try_take: Callable[[], T | None], seconds: float | None) -> T | None:
        """Return the place that `try_take` finds, waiting for up to `seconds` (None: without end).

        None: there was none in time, or all waiters were rejected.
        """
        ends = inf if seconds is None else monotonic() + seconds
        with WaitingThread(self, seconds) as waiter:
            while (found := try_take()) is None:
                left = None if seconds is None else ends - monotonic()
                if (left is not None and left <= 0.0) or not waiter.is_called(left):
                    return None
        return found

    async def atake(self, try_take: Callable[[], T | None], seconds: float | None) -> T | None:
        """As `take`, in turn, while the event loop goes on."""
        if not self.must_queue() and (found := try_take()) is not None:
            return found
        ends = inf if seconds is None else monotonic() + seconds
        with WaitingTask(self, seconds) as waiter:
            while not (waiter.may_look() and (found := try_take()) is not None):
                left = None if seconds is None else ends - monotonic()
                if (left is not None and left <= 0.0) or not await waiter.is_called(left):
                    return None
        return found

    def must_queue(self) -> bool:
        """Whether somebody waits that a task which comes now must not overtake."""
        while self.waiting:
            with suppress(IndexError, ValueError):
                first = self.waiting[0]
                if first.can_be_woken:
                    return not first.is_late or not self.has_spare_place()
                self.waiting.remove(first)
                first.call()
        return bool(self.called) and not self.has_spare_place()

    def has_spare_place(self) -> bool:
        """Whether more places are free than waiters were called for."""
        for waiter in _all(self.called):
            if not waiter.can_be_woken:
                _remove(self.called, waiter)  # it looks as soon as its loop goes on
        return self._free_places() > len(self.called)

    def call_next(self) -> None:
        """Have one of the waiters look for the place that was given back just now."""
        while self.waiting:
            with suppress(IndexError):
                waiter = self.waiting.pop() if self.waiting[0].is_late else self.waiting.popleft()
                if waiter.call():
                    return  # else its loop has stopped, or it is gone: the next one

    def reject_waiting(self) -> None:
        """End the wait of all: there is nothing to be had any more."""
        for waiter in _all(self.called):
            waiter.reject()
        while self.waiting:
            with suppress(IndexError):
                self.waiting.popleft().reject()


class _ThreadEvent:
    """As a `ThreadsafeEvent`, for a thread that waits."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> bool:
        with suppress(RuntimeError):  # it is set
            self._lock.release()
        return True

    def wait(self, seconds: float | None) -> bool:
        return self._lock.acquire(timeout=-1 if seconds is None else seconds)


class Waiter:
    """One thread or task, in a queue for the time of its block.

    In the block it looks for a place each time before it waits to be called: one may have been
    freed just before.
    """

    __slots__ = ("_event", "_is_gone", "_is_late_at", "_is_looking", "_is_rejected", "_queue")

    #: What wakes it.
    _event: ThreadsafeEvent | _ThreadEvent

    def __init__(self, queue: WaitQueue, seconds: float | None) -> None:
        self._queue = queue
        self._is_late_at = inf if seconds is None else monotonic() + seconds * _TOO_LATE
        self._is_looking = self._is_rejected = self._is_gone = False

    def __enter__(self) -> Self:
        self._queue.waiting.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        queue = self._queue
        self._is_gone = True
        unused = not _remove(queue.waiting, self)
        if unused:
            _remove(queue.called, self)
        # There may be a place for the next one too: each that is called looks for one.
        if queue.waiting and (unused or queue.has_spare_place()):
            queue.call_next()

    @property
    def is_late(self) -> bool:
        """Whether a place would come too late to make much of it."""
        return monotonic() >= self._is_late_at

    @property
    def can_be_woken(self) -> bool:
        """Whether it goes on when it is called."""
        return True

    def may_look(self) -> bool:
        """Whether it is looking, or is next where there is more than others were called for."""
        if self._is_looking:
            return True
        with suppress(IndexError):  # called just now
            return self._queue.waiting[0] is self and self._queue.has_spare_place()
        return False

    def call(self) -> bool:
        """Have it look, which was taken out of those that wait; return whether it will."""
        self._queue.called.append(self)
        if self._event.set() and not self._is_gone:
            return True
        _remove(self._queue.called, self)
        return False

    def reject(self) -> None:
        """Have it go."""
        self._is_rejected = True
        self._event.set()

    def _looks(self, called: bool) -> bool:
        self._is_looking = called and not self._is_rejected
        if self._is_looking:
            self._queue.waiting.appendleft(self)
            _remove(self._queue.called, self)
        return self._is_looking


class WaitingThread(Waiter):
    """A thread that waits."""

    __slots__ = ()

    _event: _ThreadEvent

    def __init__(self, queue: WaitQueue, seconds: float | None) -> None:
        super().__init__(queue, seconds)
        self._event = _ThreadEvent()

    def is_called(self, seconds: float | None) -> bool:
        """Wait for at most `seconds` (None: without end) to be called; then it is looking."""
        self._is_looking = False
        called = self._event.wait(seconds)
        self._event = _ThreadEvent()
        return self._looks(called)


class WaitingTask(Waiter):
    """A task that waits."""

    __slots__ = ()

    _event: ThreadsafeEvent

    def __init__(self, queue: WaitQueue, seconds: float | None) -> None:
        super().__init__(queue, seconds)
        self._event = ThreadsafeEvent()

    @property
    def can_be_woken(self) -> bool:
        """Whether its loop is running."""
        return self._event.loop.is_running()

    async def is_called(self, seconds: float | None) -> bool:
        """As `WaitingThread.is_called`, while the event loop goes on."""
        self._is_looking = False
        called = await self._event.wait(seconds)
        self._event = ThreadsafeEvent()
        return self._looks(called)


class Bulkhead:
    """Lets so many threads and tasks in at a time, from all event loops of the process."""

    def __init__(self, most: int) -> None:
        # A deque that threads may share: a semaphore takes two locks for each call.
        self._free = deque([None] * most)
        self._queue = queue = WaitQueue(self._free.__len__)
        self._waiting, self._called = queue.waiting, queue.called

    def enter_at_once(self) -> bool:
        """Take a place, if there is one that nobody waits for."""
        return not self._waiting and not self._called and bool(self._try_enter())

    def enter(self, seconds: float | None) -> bool:
        """Take a place within `seconds` (None: without end); return whether there was one."""
        return self._queue.take(self._try_enter, seconds) is not None

    async def aenter(self, seconds: float | None) -> bool:
        """As `enter`, in turn, while the event loop goes on."""
        return await self._queue.atake(self._try_enter, seconds) is not None

    def leave(self) -> None:
        """Give the place back."""
        self._free.append(None)
        if self._waiting:
            self._queue.call_next()

    def reject_waiting(self) -> None:
        """End the wait of all that have no place."""
        self._queue.reject_waiting()

    def _try_enter(self) -> bool | None:
        try:
            self._free.pop()
        except IndexError:
            return None
        return True


def _all(waiters: deque[Waiter]) -> list[Waiter]:
    try:
        return list(waiters)
    except RuntimeError:  # changed by another thread meanwhile, where there is no GIL
        return []


def _remove(waiters: deque[Waiter], waiter: Waiter) -> bool:
    try:
        waiters.remove(waiter)
    except ValueError:
        return False
    return True
