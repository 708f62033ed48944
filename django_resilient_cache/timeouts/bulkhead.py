"""How tasks wait for a place: a thread, a connection, a call among those under way.

Nothing here takes a lock: a task that is collected as garbage leaves its queue in the middle of
whatever the collecting thread does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from time import monotonic
from typing import TypeVar

from django_resilient_cache.concurrency.wakeup import ThreadsafeEvent

T = TypeVar("T")

#: Who has waited for this share of the time for it comes too late to make much of a place.
_TOO_LATE = 0.9


class WaitQueue:
    """The tasks that wait for one of a limited number of places (threads, connections).

    Who waits longest is next, and who comes does not overtake, nor take what another one was called
    for.  Where the first has little of its time left, more want a place than can have one: in that
    order each would get it too late to use it.  Then who came last is next, until the others have
    given up (adaptive LIFO: Maurer, "Fail at Scale", ACM Queue 13(8), 2015).

    `free` tells how many places there are to take at the moment.
    """

    def __init__(self, free: Callable[[], int]) -> None:
        self._places_free = free
        self._waiting: deque[Waiter] = deque()
        #: Those who were called and have not looked yet.
        self._called: deque[Waiter] = deque()

    def freed(self) -> None:
        """Have one of those who wait look for the place that was given back just now."""
        while self._waiting:
            with suppress(IndexError):
                turn = self._waiting.pop() if self._waiting[0].late else self._waiting.popleft()
                if turn.call():
                    return  # else its loop has stopped, or it has left: the next one

    def reject_waiting(self) -> None:
        """End the wait of all who queue up: there is nothing to be had any more."""
        for turn in _all(self._called):
            turn.reject_waiting()
        while self._waiting:
            with suppress(IndexError):
                self._waiting.popleft().reject_waiting()

    def someone_is_next(self) -> bool:
        """Whether somebody waits whom one who comes now must not overtake."""
        while self._waiting:
            with suppress(IndexError, ValueError):
                first = self._waiting[0]
                if first.can_come:
                    return not first.late or not self._more_than_called_for()
                self._waiting.remove(first)
                first.call()
        return bool(self._called) and not self._more_than_called_for()

    def _more_than_called_for(self) -> bool:
        """Whether a place is free for one who was not called."""
        for turn in _all(self._called):
            if not turn.can_come:
                _remove(self._called, turn)  # it looks as soon as its loop goes on
        return self._places_free() > len(self._called)

    async def take(self, look: Callable[[], T | None], seconds: float | None) -> T | None:
        """Return the place that `look` finds, as soon as it is this task's turn.

        None: there was none within `seconds` (None: without end), or all were turned away.
        """
        if not self.someone_is_next() and (found := look()) is not None:
            return found
        ends = inf if seconds is None else monotonic() + seconds
        with self.queue(seconds) as turn:
            while not (self._may_look(turn) and (found := look()) is not None):
                left = None if seconds is None else ends - monotonic()
                if (left is not None and left <= 0.0) or not await turn.comes(left):
                    return None
        return found

    def _may_look(self, turn: Waiter) -> bool:
        return turn.was_called or (turn.is_next and self._more_than_called_for())

    @contextmanager
    def queue(self, seconds: float | None) -> Iterator[Waiter]:
        """Queue up, for about `seconds` (None: without end).

        Inside, look for a place each time before waiting for a turn: one may have been freed
        just before.
        """
        turn = Waiter(self._waiting, self._called, seconds)
        try:
            yield turn
        finally:
            had_use = turn.leave()
            # There may be a place for the next one too: each who is called looks for one.
            if self._waiting and (not had_use or self._more_than_called_for()):
                self.freed()


class Waiter:
    """One task in a queue: it waits, or was called and is about to look, or has left."""

    __slots__ = ("_called", "_event", "_late_at", "_left", "_waiting", "turned_away", "was_called")

    def __init__(
        self, waiting: deque[Waiter], called: deque[Waiter], seconds: float | None
    ) -> None:
        self._waiting = waiting
        self._called = called
        self._late_at = inf if seconds is None else monotonic() + seconds * _TOO_LATE
        self._left = False
        self.turned_away = False
        #: Whether there is a place for it, or was until just now.
        self.was_called = False
        self._event = ThreadsafeEvent()
        waiting.append(self)

    @property
    def late(self) -> bool:
        """Whether a place would come too late to make much of it."""
        return monotonic() >= self._late_at

    @property
    def can_come(self) -> bool:
        """Whether its loop is there to let it."""
        return self._event.loop.is_running()

    @property
    def is_next(self) -> bool:
        """Whether nobody is before it."""
        try:
            return self._waiting[0] is self
        except IndexError:  # called just now
            return False

    def call(self) -> bool:
        """Have it look, which was taken out of the queue; return whether it will."""
        self._called.append(self)
        if self._event.set() and not self._left:
            return True
        _remove(self._called, self)
        return False

    def reject_waiting(self) -> None:
        """Have it go."""
        self.turned_away = True
        self._event.set()

    async def comes(self, seconds: float | None) -> bool:
        """Wait for at most `seconds` (None: without end) to be called; then it is the next one."""
        self.was_called = False
        if not await self._event.wait(seconds) or self.turned_away:
            return False
        self.was_called = True
        self._event = ThreadsafeEvent()
        self._waiting.appendleft(self)
        _remove(self._called, self)
        return True

    def leave(self) -> bool:
        """Leave the queue; return False to one who was called meanwhile."""
        self._left = True
        if _remove(self._waiting, self):
            return True
        _remove(self._called, self)
        return False


class Bulkhead(WaitQueue):
    """Places for so many tasks at a time, from all event loops of the process; others queue."""

    def __init__(self, most: int) -> None:
        # A queue that threads may share: a semaphore takes two locks for each call.
        self._free = deque([None] * most)
        super().__init__(self._free.__len__)

    def enter_at_once(self) -> bool:
        """Take a place, if there is one that nobody waits for."""
        return not self._waiting and not self._called and bool(self._taken())

    async def enter(self, seconds: float) -> bool:
        """Take a place within `seconds`; return whether there was one."""
        return await self.take(self._taken, seconds) is not None

    def leave(self) -> None:
        """Give the place back."""
        self._free.append(None)
        if self._waiting:
            self.freed()

    def _taken(self) -> bool | None:
        try:
            self._free.pop()
        except IndexError:
            return None
        return True


def _all(turns: deque[Waiter]) -> list[Waiter]:
    try:
        return list(turns)
    except RuntimeError:  # changed by another thread meanwhile, where there is no GIL
        return []


def _remove(turns: deque[Waiter], turn: Waiter) -> bool:
    try:
        turns.remove(turn)
    except ValueError:
        return False
    return True
