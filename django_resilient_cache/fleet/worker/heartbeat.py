"""This process as one of the workers: the background thread's tick that polls the board, obeys and reports.

No cache call waits for anything in here.  The background thread repairs too, so a board that does not answer
costs it at most `ROUND_SECONDS`, and is then left alone for a while.
"""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from django_resilient_cache.concurrency import forks
from django_resilient_cache.fleet.board import report, roster
from django_resilient_cache.fleet.board.board import Board, BoardUnavailable
from django_resilient_cache.fleet.board.host import Clock, Process
from django_resilient_cache.fleet.board.order import Order
from django_resilient_cache.fleet.worker.order_follower import OrderFollower

logger = logging.getLogger("django_resilient_cache")

#: Seconds from the first use of a chain to the first report: a short command leaves no trace.
FIRST = 1.0

#: Seconds between two polls, stretched or shortened by up to `JITTER` so that workers do not ask
#: in step.
POLL = 0.8
JITTER = 0.2

#: Seconds until a worker looks whether it is on the roster now.
CONFIRM = 0.3

#: Seconds between two reports at least, however often a breaker changes.
PAUSE = 0.2

#: Seconds that one round, and the farewell, may spend on the board.
ROUND_SECONDS = 0.5
STOP_SECONDS = 0.3

#: Seconds for which a board that does not answer is left alone: doubling, up to the longest.
AWAY = 1.0
LONGEST_AWAY = 10.0


class Site(Protocol):
    """What a heartbeat needs of the process it speaks for."""

    def aliases(self) -> Iterable[str]:
        """Return the aliases that are layers."""

    def layers(self) -> Mapping[str, Mapping[str, Any]]:
        """Return what is to be reported of each layer in use."""

    def act(self, order: Order) -> bool:
        """Carry out an order; return whether that could be done."""

    def end(self, order: Order) -> None:
        """End the forced state that an order has brought about."""


class Heartbeat:
    """One worker.  `open_board` returns the board; None: there is none to be used.

    While `silent` says so it does nothing at all.  `on_join` is called after its first report.  Used
    in one thread at a time.
    """

    def __init__(
        self,
        site: Site,
        open_board: Callable[[], Board | None],
        clock: Clock,
        process: Callable[[], Process],
        rng: Callable[[], float] = random.random,
        silent: Callable[[], bool] = lambda: False,
        on_join: Callable[[], object] = lambda: None,
    ) -> None:
        self._silent = silent
        self._on_join = on_join
        self._off = False
        self._site = site
        self._open_board = open_board
        self._board: Board | None = None
        self._clock = clock
        self._make_process = process
        self._rng = rng
        self.follower = OrderFollower(clock, site.act, site.end, rng)
        self._begin()
        forks.reset_in_child(self._begin)

    def _begin(self) -> None:
        """Be a new worker; a forked child holds what its parent held."""
        self.id = secrets.token_hex(8)
        self._process: Process | None = None
        self._liveness_sweep = roster.Muster()
        #: When to do what next, on the clock of this boot; None: nothing was done yet.
        self._poll_at: float | None = None
        self._report_at = 0.0
        self._reported_at = 0.0
        self._muster_at = 0.0
        #: Whether others have been told of this worker.
        self.joined = False
        self._on_roster = False
        self._failures = 0

    def tick(self) -> float | None:
        """Do what is due; return the seconds until there is more.  None: when woken."""
        if self._off or self._silent():
            return None
        now = self._clock.elapsed()
        if self._poll_at is None:
            self._poll_at = now + FIRST * (1 - JITTER * self._rng())
        if now >= self._poll_at:
            if self._board is None:
                self._board = self._open_board()
            if self._board is None:
                self._off = True
                return None
            self._poll_at = now + self._round(self._board, now)
        else:  # between two polls, which are far apart where the board is left alone
            self.follower.expire()
        return max(0.0, min(self._poll_at, self.follower.next_end) - self._clock.elapsed())

    def changed(self) -> None:
        """Have the change of a breaker reported soon."""
        if self.joined and not self._failures and self._poll_at is not None:
            self._report_at = min(self._report_at, self._reported_at + PAUSE)
            self._poll_at = min(self._poll_at, max(self._report_at, self._clock.elapsed()))

    def leave(self) -> None:
        """Say that this worker ends; where the board is away, nobody is told."""
        board, process = self._board, self._process
        if not self.joined or self._failures or board is None or process is None:
            return
        self.joined = False
        try:
            board.allow(STOP_SECONDS)
            farewell = report.write_farewell(self.id, process, self._clock)
            board.set(report.name_of(self.id), farewell, report.FAREWELL_LIFE)
            listed = roster.read_roster(board.get(roster.NAME))
            if listed.pop(self.id, None):
                roster.write_roster(board, listed)
        except BoardUnavailable:
            logger.debug("The board could not be told that this worker ends", exc_info=True)

    def forget_board(self) -> None:
        """Ask again which board to use: the settings have changed."""
        self._board = None
        self.joined = self._on_roster = self._off = False
        self._report_at = 0.0

    def _round(self, board: Board, now: float) -> float:
        """Do one round; return the seconds until the next."""
        board.allow(ROUND_SECONDS)
        try:
            self._do_round(board, now)
        except BoardUnavailable as error:
            return self._away(str(error))
        except Exception:
            if not self._failures:
                logger.exception("This worker's part in the fleet failed")
            return self._away("This worker's part in the fleet fails, see above.")
        if self._failures > 1:
            logger.warning("The board that workers share is back (%s)", board.title)
        self._failures = 0
        wait = CONFIRM if not self._on_roster else POLL
        return wait * (1 + JITTER * (2 * self._rng() - 1))

    def _do_round(self, board: Board, now: float) -> None:
        aliases = list(self._site.aliases())
        reporting = now >= self._report_at or not self._on_roster
        names = self.follower.names(aliases)
        if reporting:
            names.append(roster.NAME)
        found = board.get_many(names)
        done = self.follower.follow(board, aliases, found)
        if done or now >= self._report_at:
            self._report(board, now)
        if reporting:
            self._keep_roster(board, roster.read_roster(found.get(roster.NAME)), now)

    def _report(self, board: Board, now: float) -> None:
        if self._process is None:
            self._process = self._make_process()
        written = report.write_report(
            self.id, self._process, self._clock, self._site.layers(), self.follower.held
        )
        board.set(report.name_of(self.id), written, report.CURRENT)
        if not self.joined:
            self.joined = True
            self._on_join()
        self._reported_at = now
        self._report_at = now + report.INTERVAL

    def _keep_roster(self, board: Board, listed: roster.Roster, now: float) -> None:
        """See that this worker is on the roster, and now and then who is no more."""
        gone: frozenset[str] = frozenset()
        if now >= self._muster_at:
            gone = self._liveness_sweep.hold(board, listed) - {self.id}
            self._muster_at = now + roster.muster_seconds(listed)
        self._on_roster = self.id in listed
        if gone or not self._on_roster:
            # Read again: the shorter the time in between, the less is lost.
            listed = roster.read_roster(board.get(roster.NAME))
            kept = {worker: who for worker, who in listed.items() if worker not in gone}
            assert self._process is not None  # noqa: S101 - it has reported
            kept[self.id] = self._process
            roster.write_roster(board, kept)

    def _away(self, why: str) -> float:
        """Leave the board alone; return for how many seconds."""
        self._failures += 1
        if self._failures == 2:  # noqa: PLR2004 - a single failure is no news
            logger.warning("%s  Orders hold as they are; caches are not affected.", why)
        self._report_at = 0.0  # the first thing when it is back
        self.follower.expire()
        wait = min(LONGEST_AWAY, AWAY * 2.0 ** (self._failures - 1))
        return wait * (1 + JITTER * (2 * self._rng() - 1))
