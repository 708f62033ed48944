"""The fleet as a table for a terminal: fits its width, and is understood without colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from django_resilient_cache.fleet.console.summary import Group, LayerSummary
from django_resilient_cache.fleet.console.view import Fleet
from django_resilient_cache.fleet.console.wording import (
    clock,
    counted,
    heading_clock,
    introduced,
    listed,
    plain,
    roughly,
    standing_order,
)
from django_resilient_cache.management.check_output import next_trial, unread
from django_resilient_cache.management.terminal import Page

_GAP = "  "
_LEAST_NAME = 8
_LEAST_WHY = 24
_MOST_SILENT = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """The workers in which one alias is in one state; the first of an alias has its totals."""

    alias: str = ""
    code: str = ""
    """The state as reported, which decides the colour."""
    state: str = "- not in use"
    since: str = "-"
    lasted: str = "-"
    """`since` where there is no room for the time of day."""
    trial: str = "-"
    missed: str = ""
    hits: str = ""
    why: str = ""
    notes: tuple[str, ...] = ()
    """Lines of their own beneath."""
    warnings: tuple[str, ...] = ()
    """Those of them that want attention."""


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    cells: tuple[str, ...]
    right: bool = False
    most: int = 1000

    @property
    def width(self) -> int:
        return min(self.most, max(map(len, (self.heading, *self.cells))))

    def padded(self, text: str, page: Page) -> str:
        text = page.cut(text, self.width)
        room = " " * (self.width - len(text))
        return room + text if self.right else text + room


def table(fleet: Fleet, layers: Sequence[LayerSummary], page: Page, now: float) -> list[str]:
    """Return the lines: a headline, a row per alias and state, silent workers."""
    rows = [row for layer in layers for row in _rows(layer, page, now)]
    return [
        page.strong(page.cut(_headline(fleet, now))),
        page.cut(f"Board: {plain(fleet.board)}"),
        "",
        *_laid_out(rows, page),
        *_silent(fleet, page),
    ]


def _headline(fleet: Fleet, now: float) -> str:
    silent = len(fleet.silent)
    hosts = listed(sorted({plain(worker.host) for worker in fleet.live}), most=3)
    text = f"{counted(len(fleet.live), 'worker')} on {hosts}" if fleet.live else "No live worker"
    return f"{text}{f', {silent} silent' if silent else ''}, {heading_clock(now)}"


def _silent(fleet: Fleet, page: Page) -> list[str]:
    if not fleet.silent:
        return []
    silent = listed(map(introduced, fleet.silent), _MOST_SILENT)
    return ["", page.warning(page.cut(f"Silent, not counted: {silent}"))]


def _rows(layer: LayerSummary, page: Page, now: float) -> list[_Row]:
    """Return a row for each state but closed; one for closed where there is no other."""
    groups = [group for group in layer.groups if not group.closed] or layer.groups
    rows = [_row(group, layer, page, now) for group in groups] or [_Row()]
    share = layer.hit_share
    rows[0] = replace(
        rows[0],
        alias=page.readable(plain(layer.alias)),
        missed=f"{layer.missed:,}",
        hits="-" if share is None else f"{share:.0%}",
    )
    notes = (f"not used yet in {layer.unused} of {counted(layer.live, 'worker')}",)
    rows[-1] = replace(
        rows[-1],
        notes=notes if layer.unused and layer.count else (),
        warnings=tuple(_warnings(layer, now)),
    )
    return rows


def _row(group: Group, layer: LayerSummary, page: Page, now: float) -> _Row:
    lasted = roughly(now - group.since)
    return _Row(
        code=group.state,
        state=f"{page.symbol(group.state)} {plain(group.state)} {group.count} of {layer.count}",
        since=f"{clock(group.since, now)} ({lasted})",
        lasted=lasted,
        trial=next_trial(group.retry_after) or "-",
        why=page.readable(plain(group.why or "")),
    )


def _warnings(layer: LayerSummary, now: float) -> Iterator[str]:
    if layer.standing:
        yield f"order: {standing_order(layer.standing, now)}"
    if layer.suspect:
        yield unread(layer)


def _laid_out(rows: Sequence[_Row], page: Page) -> Iterator[str]:
    shown = _fitted(rows, page.width)
    room = page.width - _used(shown)
    beside = room >= min(_LEAST_WHY, max((len(row.why) for row in rows), default=0))
    headings = [column.padded(column.heading, page) for column in shown]
    headings.append("Why" if beside and any(row.why for row in rows) else "")
    yield page.strong(_GAP.join(headings).rstrip())
    for index, row in enumerate(rows):
        cells = [column.padded(column.cells[index], page) for column in shown]
        cells[1:2] = [page.state(row.code, cell) if row.code else cell for cell in cells[1:2]]
        cells.append(page.cut(row.why, room) if beside else "")
        yield _GAP.join(cells).rstrip()
        if row.why and not beside:
            yield page.cut(f"{_GAP}why: {row.why}")
        yield from (page.cut(f"{_GAP}{note}") for note in row.notes)
        yield from (page.warning(page.cut(f"{_GAP}{text}")) for text in row.warnings)


def _fitted(rows: Sequence[_Row], width: int) -> list[_Column]:
    """Return the columns that fit.

    What gives way is first the time of day, then long names, then columns from the right.
    """
    shown = [
        _Column("Layer", tuple(row.alias for row in rows)),
        _Column("State", tuple(row.state for row in rows)),
        _Column("Since", tuple(row.since for row in rows)),
        _Column("Next trial", tuple(row.trial for row in rows)),
        _Column("Missed", tuple(row.missed for row in rows), right=True),
        _Column("Hits", tuple(row.hits for row in rows), right=True),
    ]
    if _used(shown) > width + len(_GAP):
        shown[2] = _Column("Since", tuple(row.lasted for row in rows))
    too_much = _used(shown) - width - len(_GAP)
    if too_much > 0:
        shown[0] = replace(shown[0], most=max(_LEAST_NAME, shown[0].width - too_much))
    while _used(shown) > width + len(_GAP) and len(shown) > 1:
        shown.pop()
    return shown


def _used(shown: Sequence[_Column]) -> int:
    """Return the columns of a terminal that these take, with a gap after each."""
    return sum(column.width + len(_GAP) for column in shown)
