"""The roster: one record of who reports.

Nothing about it is atomic, so any change of it may be lost.  That does no harm: who does not find
itself there adds itself again, and who has gone silent is taken off by whoever notices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django_resilient_cache.fleet.board import records
from django_resilient_cache.fleet.board.board import Board
from django_resilient_cache.fleet.board.host import Process
from django_resilient_cache.fleet.board.report import (
    name_of,
    parse_process,
    process_record,
    read_report,
)

NAME = "roster"

#: Seconds for which the roster is kept without anybody writing it.
LIFE = 86_400.0

#: Seconds between two musters of one worker, for as many workers; with more of them it takes
#: longer, so that all together they do not read more.
LIVENESS_SWEEP = 30.0
MANY = 50

Roster = dict[str, Process]


def read_roster(found: object) -> Roster:
    """Return who is on the roster; what is not understood is left out."""
    return records.read(found, _parse) or {}


def write_roster(board: Board, roster: Roster) -> None:
    """Write the roster."""
    workers = {worker: process_record(process) for worker, process in roster.items()}
    board.set(NAME, records.write({"workers": workers}), LIFE)


class Muster:
    """Finds out who has gone, by looking twice: whose report did not change in between.

    By the observer's own clock, so that it does not matter what time it is elsewhere.
    """

    def __init__(self) -> None:
        self._beats: dict[str, object] = {}
        self._silent: frozenset[str] = frozenset()

    def hold(self, board: Board, roster: Roster) -> frozenset[str]:
        """Look at everybody's report; return who is to be taken off the roster."""
        found = board.get_many([name_of(worker) for worker in roster])
        reports = {worker: read_report(found.get(name_of(worker)), worker) for worker in roster}
        beats = {worker: (report.boot, report.at) for worker, report in reports.items() if report}
        left = {worker for worker, report in reports.items() if report and report.left}
        silent = frozenset(
            worker
            for worker in roster
            if worker not in beats or beats[worker] == self._beats.get(worker)
        )
        gone = frozenset((silent & self._silent) | left)
        self._beats, self._silent = dict(beats), silent - gone
        return gone


def muster_seconds(roster: Mapping[str, Process]) -> float:
    """Return the seconds until the next liveness sweep."""
    return LIVENESS_SWEEP * max(1.0, len(roster) / MANY)


def _parse(record: Any) -> Roster:
    roster: Roster = {}
    for worker, process in record["workers"].items():
        try:
            roster[records.text(worker)] = parse_process(process)
        except records.Malformed:
            continue
    return roster
