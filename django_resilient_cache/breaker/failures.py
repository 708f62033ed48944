"""The failures of a closed breaker, and the rules by which they open it.  Standard library only."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django_resilient_cache.breaker.states import BreakerConfig

#: Notes of a failure rate per window: its resolution is the window divided by this.
_NOTES = 20


class Failures:
    """Counts failures, and the waits that add up to one.

    Not thread-safe: its breaker calls it under the breaker's lock.
    """

    def __init__(self, config: BreakerConfig) -> None:
        self._max_in_a_row = config.max_failures
        self._rate = (
            FailureRate(config.failure_rate, config.failure_window, config.min_calls)
            if config.failure_rate is not None
            else None
        )
        self.in_a_row = 0
        self.waited = 0.0
        self._waited_until = -inf

    def restart(self, now: float, successes: int) -> None:
        """Forget all; `successes` is the running count of successful calls at `now` (seconds)."""
        self.clear()
        if self._rate is not None:
            self._rate.restart(now, successes)

    def clear(self) -> None:
        """Forget what a success takes back; the rate goes on."""
        self.in_a_row = 0
        self.waited = 0.0

    def add(self, now: float, successes: int) -> str | None:
        """Count a failure; return the rule that it breaks, in words, or None."""
        self.in_a_row += 1
        rate = self._rate
        exceeded = rate is not None and rate.exceeded_by_failure(now, successes)
        if self.in_a_row >= self._max_in_a_row:
            return f"{self.in_a_row} failures in a row"
        return f"failure rate of {rate.rate:.0%} reached" if rate and exceeded else None

    def add_wait(self, waited: float, limit: float, now: float) -> bool:
        """Add a wait that ended before its limit; return whether all of them are one failure."""
        self.waited += min(waited, now - self._waited_until)  # parallel waits count once
        self._waited_until = now
        if self.waited < limit:
            return False
        self.waited = 0.0
        return True


@dataclass(slots=True)
class _Note:
    time: float
    successes: int
    failures: int


class FailureRate:
    """Decides at each failure whether at least `rate` of the last `window` seconds' calls failed.

    Successes cost nothing here: each failure notes the running count of successes, and the count
    at the window's start is interpolated between two notes.  Failures close together share a
    note, so that memory stays bounded whatever the load.
    """

    def __init__(self, rate: float, window: float, min_calls: int) -> None:
        self.rate = rate
        self._window = window
        self._min_calls = min_calls
        self._notes: deque[_Note] = deque()

    def restart(self, now: float, successes: int) -> None:
        """Begin anew; `successes` is the running count at `now` (seconds)."""
        self._notes.clear()
        self._notes.append(_Note(now, successes, 0))

    def exceeded_by_failure(self, now: float, successes: int) -> bool:
        """Note one failure at `now` and tell whether the rule is broken by it."""
        notes = self._notes
        if now - notes[-1].time < self._window / _NOTES:
            notes[-1].failures += 1
        else:
            notes.append(_Note(now, successes, 1))
        start = now - self._window
        while len(notes) > 1 and notes[1].time <= start:
            notes.popleft()
        failures = sum(note.failures for note in notes if note.time > start)
        calls = failures + successes - self._successes_at(start)
        return calls >= self._min_calls and failures >= self.rate * calls

    def _successes_at(self, start: float) -> float:
        first = self._notes[0]
        if first.time >= start:
            return first.successes
        second = self._notes[1]  # the last note is never that old
        share = (start - first.time) / (second.time - first.time)
        return first.successes + share * (second.successes - first.successes)
