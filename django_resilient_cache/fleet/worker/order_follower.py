"""What one worker makes of the orders on the board.

Of two orders in one place the higher holds, on the board and in every worker, and nothing else
decides: a worker applies what is higher than what it has, and writes back what it has where the
board has something lower, or nothing.  So it does not matter what the board loses.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from math import inf

from django_resilient_cache.fleet.board.board import Board
from django_resilient_cache.fleet.board.host import Clock
from django_resilient_cache.fleet.board.order import SLOTS, Order
from django_resilient_cache.fleet.board.posted_order import (
    LIFE,
    Held,
    Place,
    Posted,
    name_of,
    read_posted,
)

#: Seconds by which what is left of an order, as its record says it, may be out of date.
REFRESH = 30.0

#: Seconds by which a board's clock may be coarse.
GRAIN = 2.0

#: Polls after which what is missing is taken for lost, and not for about to be replaced; and
#: after which a worker that does not know what is left of it takes it for ended, because nobody
#: who does know has written it back.
ABSENCES = 2
LONG_ABSENCES = 6


class OrderFollower:
    """Keeps this worker and the board to the highest order in each place.

    `act` carries out an order and returns whether it could; `end` ends the forced state of one.
    """

    def __init__(
        self,
        clock: Clock,
        act: Callable[[Order], bool],
        end: Callable[[Order], object],
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.held: dict[Place, Held] = {}
        self._clock = clock
        self._act = act
        self._end = end
        self._refresh = REFRESH * (1 + rng())
        #: When the board was last looked at, and which places have been seen since the start.
        self._looked = -inf
        self._known: set[Place] = set()

    @staticmethod
    def names(aliases: Iterable[str]) -> list[str]:
        """Return the names on the board that `follow` wants to see."""
        return [name_of((alias, slot)) for alias in aliases for slot in SLOTS]

    def follow(self, board: Board, aliases: Iterable[str], found: Mapping[str, object]) -> bool:
        """Deal with what was found under `names`; return whether anything was done here.

        Raises BoardUnavailable where the board cannot be put right; it goes on there next time.
        """
        now = self._clock.elapsed()
        gap = now - self._looked
        if gap > LIFE:  # nobody remembers any more what this worker holds: the board does
            self._known.clear()
        done = False
        for alias in aliases:
            for slot in SLOTS:
                place = (alias, slot)
                posted = read_posted(found.get(name_of(place)), place)
                done |= self._deal_with(board, place, posted, now, gap)
        self._looked = now
        return done

    @property
    def next_end(self) -> float:
        """When the first of the orders that stand here ends, on the clock of this boot."""
        return min((held.ends for held in self.held.values() if held.stands), default=inf)

    def expire(self) -> bool:
        """End what has come to its end, board or no board; return whether anything has."""
        now = self._clock.elapsed()
        ended = [held for held in self.held.values() if held.stands and held.ends <= now]
        for held in ended:
            held.over = True
            self._end(held.order)
        return bool(ended)

    def _deal_with(
        self, board: Board, place: Place, posted: Posted | None, now: float, gap: float
    ) -> bool:
        held = self.held.get(place)
        if place not in self._known:
            done = self._begin(place, posted, now, gap)
        elif held is None:
            done = posted is not None and self._take(place, posted, now, gap)
        elif posted is not None and posted.order.rank > held.order.rank:
            done = self._take(place, posted, now, gap)
        elif posted is not None and posted.order.rank == held.order.rank:
            done = self._go_on(board, held, posted, now, gap)
        elif posted is not None:
            done = False
            self._put_back(board, held, now)
        else:
            done = self._miss(board, held, now)
        return done

    def _begin(self, place: Place, posted: Posted | None, now: float, gap: float) -> bool:
        """Start with what the board says; an order that does not stand was meant for others."""
        held = self.held.get(place)
        self._known.add(place)
        if posted is None:
            self.held.pop(place, None)
            if held is not None and held.stands:
                self._end(held.order)
                return True
            return False
        if held is not None or (posted.order.action.stands and posted.remaining(self._clock) > 0):
            if self._take(place, posted, now, gap):
                return True
            self._known.discard(place)
            return False
        self.held[place] = self._holding(posted, now, gap)
        return False

    def _take(self, place: Place, posted: Posted, now: float, gap: float) -> bool:
        """Carry out an order and hold it; where that cannot be done it is tried again."""
        before = self.held.get(place)
        held = self._holding(posted, now, gap)
        if not held.over:
            if not self._act(posted.order):
                return False
        elif before is not None and before.stands:
            self._end(before.order)
        self.held[place] = held
        return True

    def _go_on(self, board: Board, held: Held, posted: Posted, now: float, gap: float) -> bool:
        """Compare what is left of an order with what its record says."""
        held.absences = 0
        fresh = self._holding(posted, now, gap)
        if held.over:
            return self._meet_again(board, held, fresh)
        held.ends = min(held.ends, fresh.ends)
        if held.written != fresh.written:
            held.written = fresh.written
            held.uncertainty = min(held.uncertainty, fresh.uncertainty)
        left = held.ends - now
        if left <= 0:
            self._finish(held)
            self._write_tombstone(board, held)
            return True
        if held.stands and held.known and posted.left - left > self._refresh:
            Posted.now(held.order, left, self._clock, held.uncertainty).put(board)
        return False

    def _meet_again(self, board: Board, held: Held, fresh: Held) -> bool:
        """Deal with an order that is over here and on the board again, or still."""
        if fresh.over:
            held.guessed = False
        elif not held.guessed:
            self._write_tombstone(board, held)
        elif self._act(held.order):
            held.over = held.guessed = False
            held.ends, held.uncertainty, held.written = fresh.ends, fresh.uncertainty, fresh.written
            return True
        return False

    def _miss(self, board: Board, held: Held, now: float) -> bool:
        """Tell an order that has ended from one that the board has lost."""
        if held.over:
            return False
        held.absences += 1
        left = held.ends - now
        if held.ends < inf and left <= held.uncertainty:
            if not held.known and held.absences < LONG_ABSENCES:
                return False
            self._finish(held)
            held.guessed = not held.known
            if held.known:
                self._write_tombstone(board, held)
            return True
        if held.absences >= ABSENCES:
            self._put_back(board, held, now)
        return False

    def _finish(self, held: Held) -> None:
        if held.stands:
            self._end(held.order)
        held.over = True

    def _write_tombstone(self, board: Board, held: Held) -> None:
        """Write down that an order is over, so that nobody takes it up or writes it back."""
        if not held.order.action.stands:
            return  # nothing would come of that
        posted = self._look(board, held)
        if posted is None or (posted.order.rank == held.order.rank and posted.left > 0):
            Posted.now(held.order, 0.0, self._clock).put(board)

    def _put_back(self, board: Board, held: Held, now: float) -> None:
        """Write what this worker holds, unless something as high has come there meanwhile."""
        posted = self._look(board, held)
        if posted is None or posted.order.rank < held.order.rank:
            left = 0.0 if held.over else max(0.0, held.ends - now)
            Posted.now(held.order, left, self._clock, held.uncertainty).put(board)

    @staticmethod
    def _look(board: Board, held: Held) -> Posted | None:
        place = (held.order.alias, held.order.action.slot)
        return read_posted(board.get(name_of(place)), place)

    def _holding(self, posted: Posted, now: float, gap: float) -> Held:
        remaining = posted.remaining(self._clock)
        written = (posted.boot, posted.at)
        # Written here, when is known; elsewhere, since the last look, or as long ago as may be.
        age = 0.0 if posted.boot == self._clock.boot else gap
        uncertainty = max(GRAIN, posted.uncertainty) + age
        return Held(posted.order, now + remaining, uncertainty, remaining <= 0, written)
