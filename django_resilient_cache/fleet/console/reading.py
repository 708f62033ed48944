"""The board as an operator sees it: all workers, and the orders that hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from types import MappingProxyType

from django_resilient_cache.fleet.board import report as reports
from django_resilient_cache.fleet.board import roster
from django_resilient_cache.fleet.board.board import Board
from django_resilient_cache.fleet.board.host import Clock, Process
from django_resilient_cache.fleet.board.layer_view import LayerView
from django_resilient_cache.fleet.board.order import LEDGER, SLOTS, STATE, Order
from django_resilient_cache.fleet.board.posted_order import Place, Posted, name_of, read_posted
from django_resilient_cache.fleet.board.report import CURRENT, HeldView, Report
from django_resilient_cache.fleet.console.view import Standing, Worker

#: Seconds by which a report may be late before its worker is called silent.
LATE = 1.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """One worker as found on the board."""

    worker: Worker
    process: Process
    report: Report | None
    exists: bool | None
    """Whether its process is there; None: it runs elsewhere."""

    def applied(self, order: Order) -> bool:
        """Whether it has applied this order, or one that came after it."""
        place = (order.alias, order.action.slot)
        held = self.report.held.get(place) if self.report else None
        return held is not None and held.order.rank >= order.rank


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found on the board at one moment."""

    sightings: dict[str, Sighting]
    """By the worker's id."""
    posted: dict[Place, Posted]

    def highest(self) -> int:
        """Return the highest number of any order that anybody knows."""
        numbers = [posted.order.number for posted in self.posted.values()]
        for sighting in self.sightings.values():
            if sighting.report:
                numbers += [held.order.number for held in sighting.report.held.values()]
        return max(numbers, default=0)

    def standing(self, clock: Clock) -> dict[str, Standing]:
        """Return the orders that hold, by alias: what the board says, or a worker that knows more."""
        found: dict[str, tuple[Order, float]] = {}
        for (alias, slot), posted in self.posted.items():
            if slot == STATE:
                found[alias] = posted.order, posted.remaining(clock)
        for sighting in self.sightings.values():
            if sighting.report is not None and not sighting.worker.stale:
                for (alias, slot), held in sighting.report.held.items():
                    if slot == STATE:
                        _consider(found, alias, held, sighting.report.age(clock) or 0.0)
        return {
            alias: Standing(order=order, left=None if left == inf else left)
            for alias, (order, left) in found.items()
            if order.action.stands and left > 0
        }


def read(
    board: Board,
    aliases: Iterable[str],
    clock: Clock,
    observer: Process,
    also: Mapping[str, Process] = MappingProxyType({}),
) -> Reading:
    """Return what is on the board; raises BoardUnavailable.

    `also`: workers to look for even if the roster has lost them.
    """
    places = [(alias, slot) for alias in aliases for slot in SLOTS]
    found = board.get_many([roster.NAME, *map(name_of, places)])
    listed = {**also, **roster.read_roster(found.get(roster.NAME))}
    found |= board.get_many([reports.name_of(worker) for worker in listed])
    read_reports = {
        worker: reports.read_report(found.get(reports.name_of(worker)), worker) for worker in listed
    }
    newest = _newest(report for report in read_reports.values() if report)
    sightings = {
        worker: _sighting(
            worker,
            process,
            read_reports[worker],
            newest,
            clock,
            _whether_there(process, observer, board.one_host),
        )
        for worker, process in listed.items()
        if not _has_left(read_reports[worker])
    }
    posted = {place: read_posted(found.get(name_of(place)), place) for place in places}
    return Reading(sightings, {place: there for place, there in posted.items() if there})


def _consider(
    found: dict[str, tuple[Order, float]], alias: str, held: HeldView, age: float
) -> None:
    """Note what a worker says of the order in one place, if that is more than is known of it."""
    left = 0.0 if held.over else max(0.0, held.left - age)
    known = found.get(alias)
    if known is None or held.order.rank > known[0].rank:
        found[alias] = held.order, left
    elif held.order.rank == known[0].rank:
        found[alias] = known[0], min(left, known[1])


def _has_left(report: Report | None) -> bool:
    return report is not None and report.left


def _newest(found: Iterable[Report]) -> dict[str, float]:
    """Return when the last report of each boot was made, on its clock."""
    newest: dict[str, float] = {}
    for report in found:
        newest[report.boot] = max(report.at, newest.get(report.boot, -inf))
    return newest


def _sighting(
    worker: str,
    process: Process,
    report: Report | None,
    newest: dict[str, float],
    clock: Clock,
    exists: bool | None,
) -> Sighting:
    stale = report is None or exists is False or _age(report, newest, clock) > CURRENT + LATE
    shown = Worker(
        id=worker,
        host=process.host,
        pid=process.pid,
        started=process.started,
        program=process.program,
        stale=stale,
        layers=_layers(report, clock) if report else {},
    )
    return Sighting(shown, process, report, exists)


def _whether_there(process: Process, observer: Process, one_host: bool) -> bool | None:
    """Return whether a process exists; None: nobody can tell from here."""
    if one_host and process.boot != observer.boot:
        return False  # the host was started anew since
    return process.exists(observer)


def _age(report: Report, newest: dict[str, float], clock: Clock) -> float:
    """Return how old a report is; of another host's, how much older than the newest from there."""
    age = report.age(clock)
    return newest[report.boot] - report.at if age is None else age


def _layers(report: Report, clock: Clock) -> dict[str, LayerView]:
    age, held = report.age(clock) or 0.0, report.held
    return {
        alias: reports.layer_view(shown, held.get((alias, STATE)), held.get((alias, LEDGER)), age)
        for alias, shown in report.layers.items()
    }
