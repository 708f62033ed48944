"""What an operator does: look at the fleet, give an order, see how far it got."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from types import MappingProxyType

from django_resilient_cache import conf
from django_resilient_cache.exceptions import ResilientCacheError
from django_resilient_cache.fleet.board.board import Board, BoardUnavailable
from django_resilient_cache.fleet.board.host import Clock, Process, this_clock, this_process
from django_resilient_cache.fleet.board.order import Action, Order
from django_resilient_cache.fleet.board.posted_order import (
    LIFE,
    Place,
    Posted,
    name_of,
    read_posted,
)
from django_resilient_cache.fleet.board.records import one_line
from django_resilient_cache.fleet.board.stores import CALL_SECONDS, open_board
from django_resilient_cache.fleet.console.reading import Reading, Sighting, read
from django_resilient_cache.fleet.console.view import Fleet, Progress, Worker

__all__ = ["BoardUnavailable", "Control", "SharingOff"]

#: Seconds that one method may spend on the board.
PATIENCE = 3.0

#: How often an order is written until it is found on the board.
TRIES = 3


class SharingOff(ResilientCacheError):
    """RESILIENT_CACHE_CONTROL_ALIAS is None: workers share nothing."""


@dataclass(slots=True)
class _Given:
    """An order that is being followed."""

    since: float
    """When it was given, on this host's clock; or when it was first asked about."""
    wanted: dict[str, Process]
    """Workers that are to apply it, by id."""
    here: bool
    """Whether it was given here: then it is written again where it is found to be lost."""


class Control:
    """One operator's look at one board.

    Every method raises BoardUnavailable within a few seconds where the board does not answer, and
    the constructor SharingOff or ImproperlyConfigured.
    """

    def __init__(
        self,
        board: Board | None = None,
        clock: Clock | None = None,
        process: Process | None = None,
    ) -> None:
        self._board = board or _configured_board()
        self._clock = clock or this_clock()
        self._process = process or this_process()
        self._given: dict[str, _Given] = {}

    @property
    def board(self) -> str:
        """Which board it is, for people: as `Fleet.board`."""
        return self._board.title

    def fleet(self) -> Fleet:
        """Return all workers, their breakers and the standing orders."""
        reading = self._read()
        workers = [sighting.worker for sighting in reading.sightings.values()]
        workers.sort(key=lambda worker: (worker.stale, worker.host, worker.pid, worker.id))
        return Fleet(
            board=self._board.title,
            workers=tuple(workers),
            standing=reading.standing(self._clock),
        )

    def give(
        self,
        aliases: Iterable[str],
        action: Action,
        *,
        actor: str,
        reason: str = "",
        seconds: float | None = None,
    ) -> list[Order]:
        """Write one order per alias and return them; `seconds`: for how long a forced state stands.

        Raises ValueError naming an alias that is no layer of any chain; nothing is written then.
        Where the board goes away in the middle, those for the first aliases have been written.
        """
        aliases = list(dict.fromkeys(aliases))
        _refuse_unknown(aliases)
        if seconds is not None and not 0 < seconds < inf:
            raise ValueError(f"seconds must be a number above 0 or None, got {seconds!r}")
        reading = self._read()
        # Above every number that anybody knows; and above those that nobody does any more.
        number = max(reading.highest() + 1, int(self._clock.wall()))
        orders = [
            Order(
                alias=alias,
                action=action,
                id=secrets.token_hex(8),
                number=number,
                actor=one_line(actor),
                reason=one_line(reason),
                given=self._clock.wall(),
                seconds=seconds if action.stands else None,
            )
            for alias in aliases
        ]
        for order in orders:
            self._given[order.id] = _Given(
                self._clock.elapsed(), _those_to_apply(reading), here=True
            )
            self._post(order)
        return orders

    def progress(self, orders: Sequence[Order]) -> list[Progress]:
        """Return how far each of these has got now; asked again and again while one waits.

        An order that was given by this very object and is found to be lost is written again.
        """
        wanted: dict[str, Process] = {}
        for order in orders:
            wanted |= self._follow(order).wanted
        reading = self._read(wanted)
        return [self._progress_of(order, reading) for order in orders]

    def _read(self, also: Mapping[str, Process] = MappingProxyType({})) -> Reading:
        self._board.allow(PATIENCE)
        return read(self._board, conf.layer_aliases(), self._clock, self._process, also)

    def _follow(self, order: Order) -> _Given:
        given = self._given.get(order.id)
        if given is None:
            given = self._given[order.id] = _Given(self._clock.elapsed(), {}, here=False)
        return given

    def _progress_of(self, order: Order, reading: Reading) -> Progress:
        given, sightings = self._follow(order), reading.sightings
        given.wanted |= _those_to_apply(reading)
        applied = [
            sighting.worker
            for sighting in sightings.values()
            if sighting.applied(order) and not sighting.worker.stale
        ]
        waiting = [
            sightings[worker].worker
            for worker in sorted(given.wanted)
            if worker in sightings and _is_waited_for(sightings[worker], order)
        ]
        return Progress(
            order=order,
            applied=tuple(sorted(applied, key=_by_name)),
            waiting=tuple(sorted(waiting, key=_by_name)),
            seconds=self._clock.elapsed() - given.since,
            superseded=self._see_to(order, reading.posted.get(_place(order)), given),
        )

    def _see_to(self, order: Order, posted: Posted | None, given: _Given) -> Order | None:
        """Write an order again that was overwritten; return one that has taken its place."""
        if posted is not None and posted.order.rank > order.rank:
            return posted.order
        lost = posted is None or posted.order.rank < order.rank
        left = _life(order) - (self._clock.elapsed() - given.since)
        if given.here and lost and left > 0:
            self._post(order, left)
        return None

    def _post(self, order: Order, left: float | None = None) -> None:
        """Write an order until it is on the board, or one that is higher."""
        place = _place(order)
        for _ in range(TRIES):
            Posted.now(order, _life(order) if left is None else left, self._clock).put(self._board)
            there = read_posted(self._board.get(name_of(place)), place)
            if there is not None and there.order.rank >= order.rank:
                return
        raise BoardUnavailable(
            f"The board that workers share ({self._board.title}) does not keep what is written "
            "there.  See that it has room, and that its client does not swallow errors."
        )


def _configured_board() -> Board:
    config = conf.control_config(CALL_SECONDS)
    if config is None:
        raise SharingOff(
            f"{conf.CONTROL_SETTING} is None, so workers share nothing: there is no board to look "
            "at.  Leave the setting out, or name an alias in CACHES that all workers share."
        )
    return open_board(config)


def _refuse_unknown(aliases: Iterable[str]) -> None:
    known = conf.layer_aliases()
    for alias in aliases:
        if alias not in known:
            names = ", ".join(conf.show(name) for name in known) or "none"
            raise ValueError(f"{conf.show(alias)} is no layer of any chain; those are {names}")


def _place(order: Order) -> Place:
    return order.alias, order.action.slot


def _life(order: Order) -> float:
    """Return for how many seconds an order is to be on the board."""
    if not order.action.stands:
        return LIFE
    return inf if order.seconds is None else order.seconds


def _those_to_apply(reading: Reading) -> dict[str, Process]:
    """Return those who report, and of the silent those whose process is seen to be there."""
    return {
        worker: sighting.process
        for worker, sighting in reading.sightings.items()
        if not sighting.worker.stale or sighting.exists
    }


def _is_waited_for(sighting: Sighting, order: Order) -> bool:
    return not sighting.applied(order) and sighting.exists is not False


def _by_name(worker: Worker) -> tuple[str, int, str]:
    return worker.host, worker.pid, worker.id
