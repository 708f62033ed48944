"""How any thread wakes a task of an event loop."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class ThreadsafeEvent:
    """An event that one task waits for and that any thread can set."""

    __slots__ = ("_is_set", "_waiter", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] = self.loop.create_future()
        self._is_set = False

    def is_set(self) -> bool:
        """Whether it was set, perhaps after the task had stopped waiting."""
        return self._is_set

    def set(self) -> bool:
        """Wake the task; return whether its loop is running, and so will see to it."""
        self._is_set = True
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(wake, self._waiter)
        return self.loop.is_running()

    async def wait(self, seconds: float | None) -> bool:
        """Wait for at most `seconds` (None: without end); return whether it is set."""
        timer = None if seconds is None else self.loop.call_later(seconds, wake, self._waiter)
        try:
            await self._waiter
        finally:
            if timer is not None:
                timer.cancel()
        if self.is_set():
            return True
        self._waiter = self.loop.create_future()  # to be waited for again
        if self.is_set():  # by another thread, for the waiter that is gone
            wake(self._waiter)
        return False


def wake(waiter: asyncio.Future[None]) -> None:
    """End the wait for `waiter`, if that goes on."""
    if not waiter.done():
        waiter.set_result(None)
