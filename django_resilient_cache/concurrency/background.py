"""The one background thread of a process: repairs, trials of an idle process, signals, log lines.

It starts when there is first something to do, and again after a fork; never by an import.  It
sleeps while there is nothing to do.  Where a process cannot run threads (uWSGI without
--enable-threads), callers do its work a little at a time: see `cannot_run`.
"""

from __future__ import annotations

import atexit
import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf

from django_resilient_cache.concurrency import forks

logger = logging.getLogger("django_resilient_cache")

THREAD_NAME = "resilient-cache-background"

#: Seconds between two rounds while there is something to do.
INTERVAL = 0.25

#: A thread that was woken and has not run for so many seconds is taken for one that cannot.
STALLED_SECONDS = 3.0

#: Seconds for which the end of the process waits for a round that is under way.
STOP_SECONDS = 0.8

#: The thread lets go of what it holds before a sleep of so many seconds or more.
IDLE_SECONDS = 0.5

Tick = Callable[[], float | None]


class BackgroundThread:
    """Runs tasks, each once, and ticks, once in each round.

    A tick returns the seconds until it wants to run again; None: when the thread is woken.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ticks: list[Tick] = []
        self._on_idle: list[Callable[[], None]] = []
        self._stopped = False
        self._begin()
        forks.reset_in_child(self._begin)

    def _begin(self) -> None:
        """Begin without a thread and without tasks: after a fork they are the parent's."""
        self._tasks: deque[Callable[[], None]] = deque()
        self._lock = threading.RLock()  # a signal handler may come between, and use a cache
        self._running = threading.Lock()
        self._ticking = threading.Lock()
        self._woken = threading.Event()
        self._woken_at = 0.0
        self._thread: threading.Thread | None = None

    def add_tick(self, tick: Tick) -> None:
        """Run `tick` in each round."""
        self._ticks.append(tick)

    def on_idle(self, callback: Callable[[], None]) -> None:
        """Call back, in the thread, before it sleeps for a while."""
        self._on_idle.append(callback)

    def send(self, task: Callable[[], None]) -> None:
        """Run `task` soon, off the caller's path; in order with the others."""
        self._tasks.append(task)
        if self.cannot_run:
            self.flush()
        self.wake()

    def wake(self) -> None:
        """Start a round soon, and the thread if there is none."""
        if forks.is_child():
            forks.reset_all()
        if not self._woken.is_set():
            self._woken_at = self._clock()
            self._woken.set()
        if self._thread is None and not self._stopped:
            self._start()

    def ensure_running(self) -> None:
        """Start the thread if there is none: a forked child has to start its own."""
        if self._thread is None or forks.is_child():
            self.wake()

    @property
    def cannot_run(self) -> bool:
        """Whether it was woken long ago and has not run: this process runs no threads."""
        return self._woken.is_set() and self._clock() - self._woken_at > STALLED_SECONDS

    def flush(self, until: float = inf) -> None:
        """Run the waiting tasks now, in this thread; begin none after `until`."""
        while self._tasks and self._clock() < until and self._running.acquire(blocking=False):
            try:
                while self._tasks and self._clock() < until:
                    _run(self._tasks.popleft())
            finally:
                self._running.release()

    def stop(self) -> None:
        """End the thread; waits shortly for what it is doing."""
        until = self._clock() + STOP_SECONDS
        self._stopped = True
        thread = self._thread
        self._woken.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_SECONDS)
        self.flush(until)

    @contextmanager
    def paused(self, seconds: float) -> Iterator[None]:
        """Begin no round within the block; wait up to `seconds` for the one that is under way."""
        ended = self._ticking.acquire(timeout=seconds)
        try:
            yield
        finally:
            if ended:
                self._ticking.release()

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            run = contextvars.Context().run  # not that of the request that happened to come first
            thread = threading.Thread(target=run, args=(self._loop,), name=THREAD_NAME, daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending, or no thread can be had
                self._thread = None

    def _loop(self) -> None:
        try:
            wait: float | None = 0.0
            while not self._stopped:
                self._woken.wait(wait)
                self._woken.clear()
                self.flush()
                wait = self._round()
                if wait is None or wait >= IDLE_SECONDS:
                    for callback in self._on_idle:
                        _run(callback)
        finally:  # ended by what is no Exception: the next one to wake it starts another
            if self._thread is threading.current_thread():
                self._thread = None

    def _round(self) -> float | None:
        with self._ticking:
            waits = [_run(tick) for tick in self._ticks if not self._stopped]
        return min((wait for wait in waits if wait is not None), default=None)


def _run(work: Callable[[], float | None] | Callable[[], None]) -> float | None:
    try:
        return work()
    except Exception:
        logger.exception("The background thread's work failed")
        return INTERVAL


background = BackgroundThread()
atexit.register(background.stop)
