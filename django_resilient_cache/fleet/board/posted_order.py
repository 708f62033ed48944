"""An order as it stands on the board, and for how long yet.

When it ends is never told by comparing the clocks of two hosts.  The record says how many seconds
were left when it was written, and workers write it anew as that number shrinks; who reads it counts
from there on a clock of its own.  On the writer's own host the moment of writing is known exactly.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from math import inf
from typing import Any

from django_resilient_cache.fleet.board import records
from django_resilient_cache.fleet.board.board import Board
from django_resilient_cache.fleet.board.host import Clock
from django_resilient_cache.fleet.board.order import Order

#: Seconds for which an order that does not stand, or stands no more, is kept on the board, so that
#: a worker that was frozen meanwhile learns of it.
LIFE = 86_400.0

#: What is left of an order is known if it is known to so many seconds.
KNOWN = 10.0

#: An alias and one of its two places for orders.
Place = tuple[str, str]


def name_of(place: Place) -> str:
    """Return the name on the board: any alias makes one that any backend takes."""
    alias, slot = place
    digest = hashlib.sha256(alias.encode(errors="surrogatepass")).hexdigest()[:24]
    return f"order:{digest}:{slot}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Posted:
    """What is on the board in one place."""

    order: Order
    left: float
    """For how many seconds it held when this was written, at most; infinity: until revoked; 0: no
    more."""
    uncertainty: float
    """By how many seconds that may be too much, as far as the writer knew; infinity: any number."""
    boot: str
    at: float
    """When this was written, on the clock of the writer's boot."""

    @classmethod
    def now(cls, order: Order, left: float, clock: Clock, uncertainty: float = 0.0) -> Posted:
        """Return what to write for an order that holds for so many seconds from now."""
        return cls(
            order=order, left=left, uncertainty=uncertainty, boot=clock.boot, at=clock.elapsed()
        )

    def remaining(self, clock: Clock) -> float:
        """Return for how many seconds it holds yet, at most."""
        if self.boot != clock.boot:
            return self.left
        return max(0.0, self.left - max(0.0, clock.elapsed() - self.at))

    def put(self, board: Board) -> None:
        """Write it."""
        record = {
            "order": self.order.to_record(),
            "left": records.finite(self.left),
            "uncertainty": records.finite(self.uncertainty),
            "boot": self.boot,
            "at": self.at,
        }
        seconds = None if self.left == inf else self.left or LIFE
        board.set(
            name_of((self.order.alias, self.order.action.slot)), records.write(record), seconds
        )


def read_posted(found: object, place: Place) -> Posted | None:
    """Return the order that a text from the board says stands in this place."""
    posted = records.read(found, _parse)
    if posted is None or (posted.order.alias, posted.order.action.slot) != place:
        return None
    return posted


def _parse(record: Any) -> Posted:
    return Posted(
        order=Order.parse(record["order"]),
        left=records.seconds(record["left"]),
        uncertainty=records.seconds(record["uncertainty"]),
        boot=records.text(record["boot"]),
        at=records.number(record["at"]),
    )


@dataclass(slots=True)
class Held:
    """The order that this worker applied last in one place."""

    order: Order
    ends: float
    """The latest it can end, on the clock of this boot."""
    uncertainty: float
    """The seconds by which it may really end earlier."""
    over: bool
    """Whether it holds no more."""
    guessed: bool = field(default=False, kw_only=True)
    """Whether that is only concluded from its absence."""
    written: tuple[str, float]
    """Which writing of its record was seen last."""
    absences: int = 0
    """Polls in a row that did not find it."""

    @property
    def stands(self) -> bool:
        """Whether it keeps the breaker in a forced state."""
        return self.order.action.stands and not self.over

    @property
    def known(self) -> bool:
        """Whether it is known well enough when it ends to tell others."""
        return self.uncertainty <= KNOWN
