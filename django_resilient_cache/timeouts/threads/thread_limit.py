"""The thread limit: calls run on a bounded set of daemon threads, callers wait no longer than told.

For every client whose own time-outs cannot be trusted.  A call that is given up keeps its
thread until it really ends; its late result is dropped and the thread's backend instance, whose
connection is in an unknown state, is replaced.

Plain threads rather than a ThreadPoolExecutor: that one delays the interpreter's exit until a
hung task ends, and does not run after a fork.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from django_resilient_cache.concurrency import forks
from django_resilient_cache.concurrency.interruption import note
from django_resilient_cache.concurrency.wakeup import ThreadsafeEvent
from django_resilient_cache.timeouts.bulkhead import WaitQueue
from django_resilient_cache.timeouts.threads.worker import ThreadCall, Worker
from django_resilient_cache.timeouts.time_limit import BulkheadFull, Call, T, TimedOut, never

#: About how often a call must be given the processor before it is done; see `_given`.
_HANDOVERS = 4


class ThreadLimit:
    """At most `max_concurrency` daemon threads for one alias, started when first needed."""

    strategy = "thread"

    def __init__(
        self, alias: str, max_concurrency: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.alias = alias
        self._max = max_concurrency
        self._clock = clock
        self.refused: Callable[[], bool] = never
        self._begin()
        forks.reset_in_child(self._begin)

    def call(self, call: Call[T], budget: float | None, *, trial: bool) -> T:
        """Make the call on a thread; see `TimeLimit.call`."""
        began = self._clock()
        job = ThreadCall(call)
        worker = self._worker(budget, began, wait=not trial)
        asked = began
        try:
            asked = self._clock()
            worker.run(job)
            ended = job.done.acquire(timeout=_timeout(budget, began, self._clock))
        except BaseException as interruption:  # raised by a signal's handler, say
            note(interruption)
            self._let_go(call, job, worker)
            raise
        if not ended:
            assert budget is not None  # noqa: S101 - without a budget it waits for the end
            if job.claim.acquire(blocking=False):
                self._abandon(call, job)
                raise TimedOut(self._given(job, asked, began + budget - asked))
            job.done.acquire()  # the result came first after all: it is on its way
        result: T = job.outcome()
        return result

    async def acall(self, call: Call[T], budget: float | None, *, trial: bool) -> T:
        """As `call`, while the event loop goes on."""
        began = self._clock()
        job = ThreadCall(call)
        event = ThreadsafeEvent()
        job.notify = event.set
        worker = await self._aworker(budget, began, wait=not trial)
        asked = began
        try:
            asked = self._clock()
            worker.run(job)
            left = None if budget is None else began + budget - self._clock()
            given_up = not await event.wait(left) and job.claim.acquire(blocking=False)
            if not given_up:
                await event.wait(None)  # it came first after all: it is on its way
        except BaseException:  # cancelled, say
            self._let_go(call, job, worker)
            raise
        if given_up:
            self._abandon(call, job)
            assert budget is not None  # noqa: S101 - without a budget it waits for the end
            raise TimedOut(self._given(job, asked, began + budget - asked))
        result: T = job.outcome()
        return result

    def free(self, worker: Worker) -> None:
        """Take `worker` back for the next call."""
        if worker.era is not self._era:
            with self._freed:
                self._started -= 1
                self._freed.notify()  # for a thread of the new era
            worker.run(None)
            self._tasks.freed()
            return
        self._idle.append(worker)
        if self._waiting:
            with self._freed:
                self._freed.notify()
        self._tasks.freed()

    def reject_waiting(self) -> None:
        """Let those go who wait for a place."""
        self._tasks.reject_waiting()
        if self._waiting:
            with self._freed:
                self._freed.notify_all()

    def _begin(self) -> None:
        """Begin without threads: after a fork they are the parent's."""
        self._idle: deque[Worker] = deque()
        self._freed = threading.Condition()
        self._started = 0
        self._waiting = 0
        #: Calls under way that their callers have given up, and how many of those have ended.
        self._hanging = 0
        self._came_back = 0
        #: Tasks in event loops that wait for a place.
        self._tasks = WaitQueue(self._free_places)
        self._era = object()

    def close(self) -> None:
        """End the idle threads; busy ones end when their call does."""
        self._era = object()
        self._hanging = 0
        while self._idle:
            try:
                worker = self._idle.pop()
            except IndexError:  # a caller was quicker
                return
            with self._freed:
                self._started -= 1
            worker.run(None)

    def _worker(self, budget: float | None, began: float, *, wait: bool) -> Worker:
        worker = self._free_worker()
        if worker is None and wait:
            hung = self._hung()
            worker = self._if_of_use(self._wait_for_place(budget, began), budget, began)
            if worker is None and hung is not None:
                raise self._none_left(self._withheld(budget, began, hung))
        if worker is None:
            raise BulkheadFull
        return worker

    async def _aworker(self, budget: float | None, began: float, *, wait: bool) -> Worker:
        worker = None if wait and self._tasks.someone_is_next() else self._free_worker()
        if worker is None and wait:
            hung = self._hung()
            worker = self._if_of_use(await self._await_place(budget, began), budget, began)
            if worker is None and hung is not None:
                raise self._none_left(self._withheld(budget, began, hung))
        if worker is None:
            raise BulkheadFull
        return worker

    def _if_of_use(
        self, worker: Worker | None, budget: float | None, began: float
    ) -> Worker | None:
        """Give the place back that came too late, or where the layer is not to be asked any more."""
        if worker is None:
            return None
        late = budget is not None and self._clock() >= began + budget
        if not late and not self.refused():
            return worker
        self.free(worker)
        return None

    def _free_worker(self) -> Worker | None:
        """Return an idle thread, or a new one while there may be more."""
        try:
            return self._idle.pop()  # the one used last: its connection is the warmest
        except IndexError:
            pass
        with self._freed:
            if self._started >= self._max:
                return None
            self._started += 1
        return self._start()

    def _start(self) -> Worker:
        try:
            return Worker(self, self._era)
        except BaseException as error:  # its place goes back whatever came
            with self._freed:
                self._started -= 1
                self._freed.notify()
            self._tasks.freed()
            if isinstance(error, RuntimeError):  # this process or its host has too many
                raise BulkheadFull(why=str(error)) from error
            raise

    def _wait_for_place(self, budget: float | None, began: float) -> Worker | None:
        with self._freed:
            self._waiting += 1
            try:
                while True:
                    if self._idle:
                        return self._idle.pop()
                    if self._started < self._max:  # the limit was closed meanwhile
                        self._started += 1
                        break
                    left = None if budget is None else began + budget - self._clock()
                    if (left is not None and left <= 0) or self.refused():
                        return None
                    self._freed.wait(left)
            except IndexError:  # a caller that did not wait was quicker
                return self._wait_for_place(budget, began)
            finally:
                self._waiting -= 1
        return self._start()

    async def _await_place(self, budget: float | None, began: float) -> Worker | None:
        left = None if budget is None else began + budget - self._clock()
        return await self._tasks.take(self._free_worker, left)

    def _free_places(self) -> int:
        return len(self._idle) + self._max - self._started

    def _let_go(self, call: Call[T], job: ThreadCall, worker: Worker) -> None:
        """Leave the call to its thread: its caller is to end."""
        if not job.sent:
            self.free(worker)
        elif job.claim.acquire(blocking=False):
            self._abandon(call, job)

    def _abandon(self, call: Call[T], job: ThreadCall) -> None:
        call.abandoned = job
        self._hang(1)

    def left(self, worker: Worker) -> None:
        """Know that a call has ended whose caller had given it up."""
        if worker.era is self._era:
            self._hang(-1)

    def _hang(self, more: int) -> None:
        with self._freed:
            self._hanging += more
            if more < 0:
                self._came_back += 1

    def _hung(self) -> int | None:
        """Return how many have come back, where calls that were given up hold all places."""
        return self._came_back if self._hanging >= self._max else None

    @staticmethod
    def _none_left(withheld: float) -> BulkheadFull:
        return (
            BulkheadFull(withheld, "calls that hang hold all places")
            if withheld
            else BulkheadFull()
        )

    def _withheld(self, budget: float | None, began: float, hung: int) -> float:
        """Tell for how long the layer has left all of them without an answer, as `_given` does.

        `hung`: what `_hung` returned at first.  Where one has come back since, it is slow and not hung.
        """
        if budget is None or self._hung() != hung:
            return 0.0
        waited = self._clock() - began
        late = waited - budget
        return max(0.0, min(budget, waited) - _HANDOVERS * max(0.0, late))

    def _given(self, job: ThreadCall, asked: float, left: float) -> float:
        """Tell how long the other side was really given of what was `left` when it was `asked`.

        A thread that never started asked nobody, nor did the caller while it waited for a place.
        Otherwise, where this process has too little processor time, the waiter itself wakes late;
        the call had to wait about as long each time it was its turn.
        """
        if not job.started:
            return 0.0
        late = self._clock() - asked - left
        return max(0.0, left - _HANDOVERS * max(0.0, late))


def _timeout(budget: float | None, began: float, clock: Callable[[], float]) -> float:
    """Return how long to wait as locks take it; -1: without end."""
    return -1 if budget is None else max(0.0, began + budget - clock())
