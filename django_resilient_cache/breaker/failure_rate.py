"""The failure-rate rule: which share of the recent calls failed.  Standard library only.

Successes cost nothing here: the rule notes the running count of successes whenever a failure
comes, and interpolates between two notes where the window begins.  Failures that come close
together share a note, so memory stays bounded whatever the load.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

#: Notes per window: the rule's resolution in time is the window divided by this.
_NOTES = 20


@dataclass(slots=True)
class _Note:
    time: float
    successes: float
    failures: int


class FailureRate:
    """Decides at each failure whether at least `rate` of the last `window` seconds' calls failed.

    Not thread-safe: its breaker calls it under the breaker's lock.
    """

    def __init__(self, rate: float, window: float, min_calls: int) -> None:
        self._rate = rate
        self._window = window
        self._min_calls = min_calls
        self._notes: deque[_Note] = deque()

    def restart(self, now: float, successes: int) -> None:
        """Forget what was; `successes` is the running count at `now` (seconds)."""
        self._notes.clear()
        self._notes.append(_Note(now, successes, 0))

    def exceeded_by_failure(self, now: float, successes: int) -> bool:
        """Note one failure at `now` and tell whether the rule is broken by it."""
        notes = self._notes
        if notes and now - notes[-1].time < self._window / _NOTES:
            notes[-1].failures += 1
        else:
            notes.append(_Note(now, successes, 1))
        start = now - self._window
        while len(notes) > 1 and notes[1].time <= start:
            notes.popleft()
        failures = sum(note.failures for note in notes if note.time > start)
        calls = failures + successes - self._successes_at(start, now, successes)
        return calls >= self._min_calls and failures >= self._rate * calls

    def _successes_at(self, start: float, now: float, successes: int) -> float:
        first = self._notes[0]
        if first.time >= start:
            return first.successes
        later, then = (
            (self._notes[1].time, self._notes[1].successes)
            if len(self._notes) > 1
            else (now, float(successes))
        )
        share = (start - first.time) / (later - first.time)
        return first.successes + share * (then - first.successes)
