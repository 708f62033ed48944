"""Single flight: one computation per key and process, the others wait for its result.

After Go's `golang.org/x/sync/singleflight`, with three differences that a cache needs: a waiter
leaves at its own deadline, does not inherit the leader's error, and gets a copy of its own.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeAlias, TypeVar

from django_resilient_cache.concurrency import forks
from django_resilient_cache.concurrency.interruption import interrupts
from django_resilient_cache.concurrency.wakeup import ThreadsafeEvent

T = TypeVar("T")

#: What a computation is about: the chain's layers, the key and the version.
Key: TypeAlias = tuple[Any, ...]

#: Whether the current code is a leader's.  A leader never waits for another flight: two whose
#: computations need each other's keys would wait for ever.
_inside_computation: ContextVar[bool] = ContextVar(
    "resilient_cache_inside_computation", default=False
)


#: SingleFlight that a caller joins before it computes alone: where the first one fails, one of the
#: waiters tries once more for all; after that each is on its own rather than in a queue.
_PATIENCE = 2

#: Seconds for which anybody waits for another one's computation.  What a leader has other threads
#: do may need the same key again, and nobody can see that they belong together.
_LONGEST_WAIT = 5.0


class Flight:
    """One computation."""

    __slots__ = ("_events", "done", "outdated", "result", "until", "waiters")

    def __init__(self) -> None:
        self.done = threading.Event()
        self._events: deque[ThreadsafeEvent] = deque()
        self.waiters = 0
        self.result: bytes | None = None
        #: Whether the entry was changed since it began: the result is older than that.
        self.outdated = False
        #: When nobody waits for it any longer, on the monotonic clock.
        self.until = time.monotonic() + _LONGEST_WAIT

    def end(self) -> None:
        """Let all go on that wait."""
        self.done.set()
        while self._events:
            with suppress(IndexError):
                self._events.popleft().set()

    async def ended(self, seconds: float) -> bool:
        """Wait for at most `seconds`; return whether it ended."""
        event = ThreadsafeEvent()
        self._events.append(event)
        try:
            return self.done.is_set() or await event.wait(seconds)
        finally:
            with suppress(ValueError):  # set, and so not there any more
                self._events.remove(event)


class SingleFlight:
    """The computations under way in this process."""

    def __init__(self) -> None:
        self.reset()
        forks.reset_in_child(self.reset)

    def run(self, key: Key, compute: Callable[[Flight], T], left: Callable[[], float | None]) -> T:
        """Return what `compute` returns, here or in another thread that computes it already.

        `left` tells how many seconds the caller may wait for the other one (None: no end); after
        that, or where the other one failed, this caller computes itself.
        """
        # Who is called from an event loop waits for nobody: it might be another task of that loop.
        turns = 0 if _inside_computation.get() or _runs_a_loop() else _PATIENCE
        while True:
            flight = Flight()
            about = key if turns > 0 else (*key, flight)  # alone: no other caller asks for that
            try:
                other = self._join(about, flight)
                if other is flight:
                    with _as_leader():
                        value = compute(flight)
                    return self._handed_on(about, flight, value)
            finally:
                self._end(about, flight)
            turns -= 1
            if not other.done.wait(_shorter(left(), other.until - time.monotonic())):
                turns = 0
            elif other.result is not None:
                return pickle.loads(other.result)  # type: ignore[no-any-return]  # noqa: S301 - own bytes

    async def arun(
        self,
        key: Key,
        compute: Callable[[Flight], Awaitable[T]],
        left: Callable[[], float | None],
    ) -> T:
        """As `run`, for tasks; those and threads wait for each other's computations alike."""
        turns = 0 if _inside_computation.get() else _PATIENCE
        while True:
            flight = Flight()
            about = key if turns > 0 else (*key, flight)
            try:
                other = self._join(about, flight)
                if other is flight:
                    with _as_leader():
                        value = await compute(flight)
                    return self._handed_on(about, flight, value)
            finally:
                self._end(about, flight)
            turns -= 1
            if not await other.ended(_shorter(left(), other.until - time.monotonic())):
                turns = 0
            elif other.result is not None:
                return pickle.loads(other.result)  # type: ignore[no-any-return]  # noqa: S301 - own bytes

    def outdate(self, keys: Iterable[Any] | None = None, version: Any = None) -> None:
        """Note that these keys are about to be changed; None: that all are.

        Who comes later does not wait for a computation that began before the change.
        """
        if not self.under_way:
            return
        changed = None if keys is None else {(str(key), str(version)) for key in keys}
        with self._lock:
            for about, flight in list(self.under_way.items()):
                if changed is None or about[1:3] in changed:
                    flight.outdated = True
                    del self.under_way[about]

    def reset(self) -> None:
        """Forget what is under way: in a forked child, the leaders are the parent's."""
        # Re-entrant: a signal's handler may use the cache while this very thread holds the lock.
        self._lock = threading.RLock()
        #: Computations by what they are about.
        self.under_way: dict[Key, Flight] = {}
        #: SingleFlight that have ended: a caller can tell whether one did since its own miss.
        self.completed = 0

    def _handed_on(self, key: Key, flight: Flight, value: T) -> T:
        """Leave copies of the leader's value to those who wait."""
        self._leave(key, flight)
        if flight.waiters:
            flight.result = _copy(value)
        return value

    def _end(self, key: Key, flight: Flight) -> None:
        """End a flight, whether or not it ever began."""
        self._leave(key, flight)
        flight.end()

    def _leave(self, key: Key, flight: Flight) -> None:
        """Let nobody join any more."""
        with self._lock:
            if self.under_way.get(key) is flight:
                del self.under_way[key]
                self.completed += 1

    def _join(self, key: Key, own: Flight) -> Flight:
        """Return the flight of `key`: the caller's own, or another one for which it waits."""
        with self._lock:
            flight = self.under_way.setdefault(key, own)
            if flight is not own:
                flight.waiters += 1
            return flight


def _copy(value: object) -> bytes | None:
    """Return what waiters make their copies of; None: each has to compute its own."""
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        if interrupts(error):
            raise
        return None


@contextmanager
def _as_leader() -> Iterator[None]:
    led = _inside_computation.get()
    try:  # here already: an interruption may come at once
        _inside_computation.set(True)
        yield
    finally:
        _inside_computation.set(led)


def _runs_a_loop() -> bool:
    return asyncio._get_running_loop() is not None


def _shorter(one: float | None, other: float) -> float:
    return other if one is None else min(one, other)
