"""What a row of the table is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.measure import Spread, Timed, compare
from benchmarks.setup import Bench


class NotMeasuredError(Exception):
    """Something that a row needs is not there; the message says what."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure to keep: at most `limit`, or at least."""

    limit: float
    unit: str = "x"
    at_most: bool = True

    def met(self, value: float) -> bool:
        """Whether the figure, as it is printed, keeps the goal."""
        value = round(value, 2)
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.limit:g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Result:
    """What a row found: the figure to hold against the goal, and both sides of it."""

    figure: Spread
    subject: float
    reference: float
    unit: str = "us"
    """Of both sides: "us" (microseconds a call), "/s" (calls per second) or "MB"."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    work: str
    against: str
    goal: Goal
    measure: Callable[[Bench], Result]
    needs: str | None = None
    """The module that has to be installed beside what the others need."""


def ratio(subject: Timed, reference: Timed, bench: Bench) -> Result:
    """Time both by turns."""
    found = compare(subject, reference, bench.seconds)
    return Result(found.ratio, found.subject.median, found.reference.median)
