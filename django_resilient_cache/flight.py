"""Single flight: one computation per key and process, the others wait for its result.

After Go's `golang.org/x/sync/singleflight`, with three differences that a cache needs: a waiter
leaves at its own deadline, does not inherit the leader's error, and gets a copy of its own.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

#: What a computation is about: the chain's layers, the key and the version.
Key: TypeAlias = tuple[Any, ...]

#: Whether the current code is a leader's.  A leader never waits for another flight: two whose
#: computations need each other's keys would wait for ever.
_leading: ContextVar[bool] = ContextVar("resilient_cache_leading", default=False)


#: Flights that a caller joins before it computes alone: where the first one fails, one of the
#: waiters tries once more for all; after that each is on its own rather than in a queue.
_PATIENCE = 2

#: Seconds for which anybody waits for another one's computation.  What a leader has other threads
#: do may need the same key again, and nobody can see that they belong together.
_LONGEST_WAIT = 5.0


class Flight:
    """One computation."""

    __slots__ = ("done", "outdated", "result", "waiters")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.waiters = 0
        self.result: bytes | None = None
        #: Whether the entry was changed since it began: the result is older than that.
        self.outdated = False


class Flights:
    """The computations under way in this process."""

    def __init__(self) -> None:
        self.after_fork()

    def run(self, key: Key, compute: Callable[[Flight], T], left: Callable[[], float | None]) -> T:
        """Return what `compute` returns, here or in another thread that computes it already.

        `left` tells how many seconds the caller may wait for the other one (None: no end); after
        that, or where the other one failed, this caller computes itself.
        """
        if _leading.get():
            return self._alone(key, compute)
        for _ in range(_PATIENCE):
            flight, leads = self._join(key)
            if leads:
                return self._lead(key, flight, compute)
            seconds = left()
            longest = _LONGEST_WAIT if seconds is None else min(seconds, _LONGEST_WAIT)
            if not flight.done.wait(longest):
                break
            if flight.result is not None:
                return pickle.loads(flight.result)  # type: ignore[no-any-return]  # noqa: S301 - own bytes
        return self._alone(key, compute)

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

    def after_fork(self) -> None:
        """Begin anew: the leaders stayed with the parent."""
        self._lock = threading.Lock()
        #: Computations by what they are about.
        self.under_way: dict[Key, Flight] = {}
        #: Flights that have ended: a caller can tell whether one did since its own miss.
        self.landed = 0

    def _alone(self, key: Key, compute: Callable[[Flight], T]) -> T:
        """Compute without telling others, but told of changes as they are."""
        flight = Flight()
        alone = (*key, flight)
        with self._lock:
            self.under_way[alone] = flight
        try:
            return compute(flight)
        finally:
            with self._lock:
                self.under_way.pop(alone, None)

    def _lead(self, key: Key, flight: Flight, compute: Callable[[Flight], T]) -> T:
        token = _leading.set(True)
        try:
            value = compute(flight)
        except BaseException:
            self._land(key, flight)
            raise
        finally:
            _leading.reset(token)
        self._land(key, flight, value)
        return value

    def _land(self, key: Key, flight: Flight, *value: Any) -> None:
        with self._lock:
            self.landed += 1
            if self.under_way.get(key) is flight:
                del self.under_way[key]
        try:
            if value and flight.waiters:
                flight.result = pickle.dumps(value[0], pickle.HIGHEST_PROTOCOL)
        except Exception:  # noqa: BLE001 - it cannot be copied: each waiter computes its own
            flight.result = None
        finally:
            flight.done.set()

    def _join(self, key: Key) -> tuple[Flight, bool]:
        """Return the flight for `key` and whether the caller leads it."""
        with self._lock:
            flight = self.under_way.get(key)
            if flight is not None:
                flight.waiters += 1
                return flight, False
            flight = self.under_way[key] = Flight()
            return flight, True
