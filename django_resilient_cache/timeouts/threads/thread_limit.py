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
from django_resilient_cache.timeouts import blame
from django_resilient_cache.timeouts.bulkhead import WaitQueue
from django_resilient_cache.timeouts.threads.worker import ThreadCall, Worker
from django_resilient_cache.timeouts.time_limit import BulkheadFull, Call, T, TimedOut, never


class ThreadLimit:
    """At most `max_concurrency` daemon threads for one alias, started when first needed."""

    strategy = "thread"

    def __init__(
        self, alias: str, max_concurrency: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.alias = alias
        self._max = max_concurrency
        self._clock = clock
        self.is_rejecting: Callable[[], bool] = never
        self._begin()
        forks.reset_in_child(self._begin)

    def _begin(self) -> None:
        """Begin without threads: after a fork they are the parent's."""
        #: The same thread may come again, where it collects a task that was left behind as garbage.
        self._lock = threading.RLock()
        self._idle: deque[Worker] = deque()
        self._started = 0
        #: Calls under way that their callers have given up, and how many of those have ended.
        self._hanging = 0
        self._came_back = 0
        self._queue = WaitQueue(lambda: len(self._idle) + self._max - self._started)
        #: Changes when the limit is closed: threads from before do not come back to it.
        self._generation = object()

    # Calls

    def call(self, call: Call[T], budget: float | None, *, trial: bool) -> T:
        """Make the call on a thread; see `TimeLimit.call`."""
        began = self._clock()
        thread_call = ThreadCall(call)
        worker = self._worker(budget, began, wait=not trial)
        sent = began
        try:
            sent = self._clock()
            worker.run(thread_call)
            left = self._left(budget, began)
            ended = thread_call.done.acquire(timeout=-1 if left is None else max(0.0, left))
        except BaseException as interruption:  # raised by a signal's handler, say
            note(interruption)
            self._let_go(call, thread_call, worker)
            raise
        if not ended:
            if thread_call.claim.acquire(blocking=False):
                self._abandon(call, thread_call)
                raise self._timed_out(thread_call, budget, began, sent)
            thread_call.done.acquire()  # the result came first after all: it is on its way
        result: T = thread_call.outcome()
        return result

    async def acall(self, call: Call[T], budget: float | None, *, trial: bool) -> T:
        """As `call`, while the event loop goes on."""
        began = self._clock()
        thread_call = ThreadCall(call)
        event = ThreadsafeEvent()
        thread_call.notify = event.set
        worker = await self._aworker(budget, began, wait=not trial)
        sent = began
        try:
            sent = self._clock()
            worker.run(thread_call)
            ended = await event.wait(self._left(budget, began))
            given_up = not ended and thread_call.claim.acquire(blocking=False)
            if not given_up:
                await event.wait(None)  # it came first after all: it is on its way
        except BaseException:  # cancelled, say
            self._let_go(call, thread_call, worker)
            raise
        if given_up:
            self._abandon(call, thread_call)
            raise self._timed_out(thread_call, budget, began, sent)
        result: T = thread_call.outcome()
        return result

    def reject_waiting(self) -> None:
        """Let those go who wait for a thread."""
        self._queue.reject_waiting()

    def close(self) -> None:
        """End the idle threads; busy ones end when their call does."""
        self._generation = object()
        self._hanging = 0
        while self._idle:
            try:
                worker = self._idle.pop()
            except IndexError:  # a caller was quicker
                return
            self._end(worker)

    def _let_go(self, call: Call[T], thread_call: ThreadCall, worker: Worker) -> None:
        """Leave the call to its thread: its caller is to end."""
        if not thread_call.sent:
            self.take_back(worker)
        elif thread_call.claim.acquire(blocking=False):
            self._abandon(call, thread_call)

    def _abandon(self, call: Call[T], thread_call: ThreadCall) -> None:
        call.abandoned = thread_call
        with self._lock:
            self._hanging += 1

    def _timed_out(
        self, thread_call: ThreadCall, budget: float | None, began: float, sent: float
    ) -> TimedOut:
        assert budget is not None  # noqa: S101 - without a budget it waits for the end
        if not thread_call.started:  # nobody was asked
            return TimedOut(0.0)
        return TimedOut(blame.on_a_thread(began + budget - sent, self._clock() - sent))

    def _left(self, budget: float | None, began: float) -> float | None:
        return None if budget is None else began + budget - self._clock()

    # Threads

    def take_back(self, worker: Worker) -> None:
        """Have `worker` for the next call."""
        if worker.generation is self._generation:
            self._idle.append(worker)
        else:
            self._end(worker)
        self._queue.call_next()

    def abandoned_call_ended(self, worker: Worker) -> None:
        """Know that a call has ended whose caller had given it up."""
        if worker.generation is self._generation:
            with self._lock:
                self._hanging -= 1
                self._came_back += 1

    def _end(self, worker: Worker) -> None:
        with self._lock:
            self._started -= 1
        worker.run(None)

    def _worker(self, budget: float | None, began: float, *, wait: bool) -> Worker:
        worker = self._try_take()
        if worker is None and wait:
            hung = self._all_hang()
            worker = self._queue.take(self._try_take, self._left(budget, began))
            worker = self._if_of_use(worker, budget, began, hung)
        if worker is None:
            raise BulkheadFull
        return worker

    async def _aworker(self, budget: float | None, began: float, *, wait: bool) -> Worker:
        worker = None if wait and self._queue.must_queue() else self._try_take()
        if worker is None and wait:
            hung = self._all_hang()
            worker = await self._queue.atake(self._try_take, self._left(budget, began))
            worker = self._if_of_use(worker, budget, began, hung)
        if worker is None:
            raise BulkheadFull
        return worker

    def _try_take(self) -> Worker | None:
        """Return an idle thread, or a new one while there may be more."""
        try:
            return self._idle.pop()  # the one used last: its connection is the warmest
        except IndexError:
            pass
        with self._lock:
            if self._started >= self._max:
                return None
            self._started += 1
        try:
            return Worker(self, self._generation)
        except BaseException as error:  # its place goes back whatever came
            with self._lock:
                self._started -= 1
            self._queue.call_next()
            if isinstance(error, RuntimeError):  # this process or its host has too many
                raise BulkheadFull(why=str(error)) from error
            raise

    def _if_of_use(
        self, worker: Worker | None, budget: float | None, began: float, hung: int | None
    ) -> Worker | None:
        """Return a thread that was waited for, if it came in time for a layer that is still asked.

        Where it did not come, the layer may be to blame: `hung` is what `_all_hang` said before.
        """
        waited = self._clock() - began
        if worker is not None:
            if (budget is None or waited < budget) and not self.is_rejecting():
                return worker
            self.take_back(worker)
        # Where one has come back since, the layer is slow and does not hang.
        if budget is not None and hung is not None and hung == self._all_hang():
            had = blame.on_a_thread(budget, waited)
            raise BulkheadFull(had, "calls that hang hold all places")
        return None

    def _all_hang(self) -> int | None:
        """Return how many have come back so far, where calls that were given up hold all threads."""
        return self._came_back if self._hanging >= self._max else None
