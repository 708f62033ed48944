"""A word from another thread to a task that waits for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class ThreadsafeEvent:
    """What one task waits for, until somebody rings, from whatever thread, or time is up."""

    __slots__ = ("_rung", "loop", "rung")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._rung: asyncio.Future[None] = self.loop.create_future()
        #: Whether anybody rang, perhaps after the task had left.
        self.rung = False

    def ring(self) -> bool:
        """End the wait, if there still is one; return whether the loop is there to see to it."""
        self.rung = True
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(end, self._rung)
        return self.loop.is_running()

    async def wait(self, seconds: float | None) -> bool:
        """Wait for at most `seconds` (None: without end); return whether anybody rang."""
        timer = None if seconds is None else self.loop.call_later(seconds, end, self._rung)
        try:
            await self._rung
        finally:
            if timer is not None:
                timer.cancel()
        if self.rung:
            return True
        self._rung = self.loop.create_future()  # to be waited for again
        self._end_if_rung()
        return False

    def _end_if_rung(self) -> None:
        """End the next wait, where somebody rang as the last one was over."""
        if self.rung:
            end(self._rung)


def end(future: asyncio.Future[None]) -> None:
    """End the wait for `future`, if that goes on."""
    if not future.done():
        future.set_result(None)
