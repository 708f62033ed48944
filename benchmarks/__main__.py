"""How fast the chain is.

`python -m benchmarks` prints a table, `python -m benchmarks --against PATH` compares it with that of
another checkout, `python -m benchmarks outage` draws a picture, `python -m benchmarks instructions`
counts what the healthy paths run, and `python -m benchmarks uvicorn` puts a site under load.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from benchmarks import against, asgi, drawing, instructions, outage
from benchmarks.report import (
    HEADINGS,
    PACKAGES,
    MarkdownTable,
    PlainTable,
    Table,
    about,
    as_dict,
    cells,
)
from benchmarks.result import NotMeasuredError, Result, Row
from benchmarks.rows import ROWS
from benchmarks.servers import NoServerError, healthy_and_frozen
from benchmarks.setup import Bench, configure

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "outage.svg"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    first = arguments[0] if arguments else ""
    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "outage": draw_outage,
        "instructions": instructions.command,
        "uvicorn": asgi.command,
    }
    command = commands.get(first, measure_rows)
    try:
        return command(arguments)
    except NoServerError as error:
        print(error, file=sys.stderr)
        return 1


def measure_rows(arguments: Sequence[str]) -> int:
    """Measure the rows that are named, or all, and print a line as each is done."""
    parser = _rows_parser()
    options = parser.parse_args(arguments)
    unknown = set(options.rows) - {row.name for row in ROWS}
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    rows = [row for row in ROWS if not options.rows or row.name in options.rows]
    if options.against:
        return against.compare_trees(options, [row.name for row in rows])
    table: Table = MarkdownTable() if options.markdown else PlainTable()
    with healthy_and_frozen() as (healthy, frozen):
        bench = Bench(
            healthy=healthy,
            frozen=frozen,
            seconds=options.seconds or (0.05 if options.quick else 5.0),
            entries=500 if options.quick else 100_000,
        )
        configure(bench)
        table.line(HEADINGS)
        results = []
        for row in rows:
            try:
                results.append((row, _measured(row, bench)))
            except NotMeasuredError as reason:
                print(f"{row.name}: not measured, {reason}", file=sys.stderr)
            else:
                table.line(cells(*results[-1]))
    print(f"\n{about()}")
    if options.json:
        measured = [as_dict(row, result) for row, result in results]
        _write(options.json, {"about": about(), "rows": measured})
    return 0


def _measured(row: Row, bench: Bench) -> Result:
    if row.needs is not None and find_spec(row.needs) is None:
        raise NotMeasuredError(f"{row.needs} is not installed")
    return row.measure(bench)


def draw_outage(arguments: Sequence[str]) -> int:
    """Take three set-ups through an outage and draw what happened."""
    options = _outage_parser().parse_args(arguments)
    phases = outage.Phases(1.0, 1.5, 1.0) if options.quick else outage.Phases()
    with healthy_and_frozen() as (healthy, frozen):
        configure(Bench(healthy, frozen, seconds=0, entries=0))
        courses = outage.courses(frozen, phases, print)
    options.svg.write_text(
        drawing.drawn(courses, phases, [outage.LOAD, about(PACKAGES[:4])]), "utf-8"
    )
    print(f"drawn: {options.svg}")
    if options.json:
        named = {course.name: [asdict(point) for point in course.points] for course in courses}
        _write(options.json, {"about": about(), "phases": asdict(phases), "courses": named})
    return 0


def _write(path: Path, report: dict[str, object]) -> None:
    path.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


def _rows_parser() -> argparse.ArgumentParser:
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(names)}")
    parser.add_argument("--seconds", type=float, help="for each row (5; 2 in a round)")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument(
        "--against", type=Path, metavar="PATH", help="another checkout of the project, to compare"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="in which each of the two trees is measured (5)"
    )
    _common(parser)
    return parser


def _outage_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks outage")
    parser.add_argument("outage", choices=["outage"], help=argparse.SUPPRESS)
    parser.add_argument("--svg", type=Path, default=PICTURE, metavar="FILE", help="(%(default)s)")
    _common(parser)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="far too short to mean anything")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")


if __name__ == "__main__":
    sys.exit(main())
