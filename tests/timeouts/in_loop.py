"""The sockets limit from event loops: the tests of the sync one are run through an adapter."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib.util
import os
import signal
import time
from typing import Any

import pytest

from django_resilient_cache.timeouts.sockets.socket_limit import SocketsLimit

#: Seconds for which a call may keep the loop from its other tasks.
MOST_LAG = 0.05

needs_greenlet = pytest.mark.skipif(
    importlib.util.find_spec("greenlet") is None, reason="no greenlet"
)

#: How calls are made; see `way`.
WAYS = [pytest.param("call"), pytest.param("acall", marks=needs_greenlet)]

_way = contextvars.ContextVar("way", default="call")


def called(limit: SocketsLimit) -> Any:
    """What the test calls: the limit, or the limit in event loops."""
    return limit if _way.get() == "call" else InALoop(limit)


@contextlib.contextmanager
def calling(way):
    token = _way.set(way)
    try:
        yield
    finally:
        _way.reset(token)


class InALoop:
    """A limit whose `call` awaits `acall`, each in a loop of its own, and looks at that loop.

    `lag`: the longest that the last call kept the loop from another task, in seconds.
    """

    def __init__(self, limit: SocketsLimit) -> None:
        self._limit = limit
        self.lag = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._limit, name)

    def call(self, call, budget, *, trial):
        context = contextvars.copy_context()
        with asyncio.Runner() as runner:
            return runner.run(self._call(call, budget, trial), context=context)

    async def _call(self, call, budget, trial):
        with watching() as beats:
            try:
                return await self._limit.acall(call, budget, trial=trial)
            finally:
                self.lag = beats.longest()


@contextlib.contextmanager
def watching(clock=time.monotonic):
    """Measure how late the running loop is, and see that nothing is left in it."""
    loop = asyncio.get_running_loop()
    before = watched(loop)
    beats = Beats(clock)
    task = asyncio.create_task(beats.beat())
    try:
        yield beats
    finally:
        task.cancel()
    assert watched(loop) == before, "it still looks at a socket"


class Beats:
    """A task that notes when it was its turn."""

    every = 0.002

    def __init__(self, clock):
        self._clock = clock
        self._last = clock()
        self._longest = 0.0

    async def beat(self):
        while True:
            self._note()
            await asyncio.sleep(self.every)

    def longest(self):
        self._note()
        return max(0.0, self._longest - self.every)

    def _note(self):
        now = self._clock()
        self._longest = max(self._longest, now - self._last)
        self._last = now


def watched(loop):
    """The file descriptors that `loop` looks at, where it tells."""
    selector = getattr(loop, "_selector", None)
    return set() if selector is None else {key.fd for key in selector.get_map().values()}


async def exit_code_of(child, seconds=15.0):
    """How a forked child ended, while the loop goes on; one that hangs is ended."""
    end = time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)  # noqa: ASYNC222 - it does not wait
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        await asyncio.sleep(0.01)
