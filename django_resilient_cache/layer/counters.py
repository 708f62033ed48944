"""How many calls of one alias ended in which way, in this process."""

from __future__ import annotations


class Counters:
    """Running counts, kept without a lock: exact under the GIL, nearly so without it."""

    __slots__ = ("done", "failures", "hits", "misses", "rejected", "timeouts")

    def __init__(self) -> None:
        self.hits = self.misses = self.done = 0
        self.failures = self.timeouts = self.rejected = 0

    def answers(self) -> int:
        """Return the running count of calls that were answered."""
        return self.hits + self.misses + self.done

    def snapshot(self) -> dict[str, int]:
        """Return all of them by name."""
        return {name: getattr(self, name) for name in _SHOWN}


_SHOWN = ("hits", "misses", "done", "failures", "timeouts", "rejected")
