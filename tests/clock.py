"""A clock that tests turn by hand."""

from __future__ import annotations


class Clock:
    """Stands still unless told otherwise; starts far from zero, as a real one does."""

    def __init__(self, now: float = 10_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds
