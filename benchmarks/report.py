"""The table of results, for a terminal, for Markdown and for a file."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from benchmarks.result import Result, Row

HEADINGS = ("row", "work", "against", "result", "middle half", "goal", "met", "it", "reference")
_WIDTHS = (22, 46, 30, 9, 14, 9, 3, 12, 12)

#: Whose versions matter to the figures.
PACKAGES = (
    "Django",
    "django-redis",
    "redis",
    "hiredis",
    "greenlet",
    "pymemcache",
    "circuitbreaker",
    "pybreaker",
    "purgatory",
    "aiobreaker",
    "django-cache-fallback",
)


class Table(Protocol):
    """Prints lines of cells."""

    def line(self, cells: Sequence[str]) -> None: ...


class PlainTable:
    """Columns of fixed widths."""

    def __init__(self, widths: Sequence[int] = _WIDTHS) -> None:
        self._widths = widths

    def line(self, cells: Sequence[str]) -> None:
        padded = (cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True))
        print("  ".join(padded).rstrip(), flush=True)


class MarkdownTable:
    """A table as GitHub renders it."""

    def __init__(self) -> None:
        self._begun = False

    def line(self, cells: Sequence[str]) -> None:
        print(f"| {' | '.join(cells)} |", flush=True)
        if not self._begun:
            self._begun = True
            print(f"|{'---|' * len(cells)}")


def cells(row: Row, result: Result) -> Sequence[str]:
    """Return a row's line under `HEADINGS`."""
    figure, unit = result.figure, row.goal.unit
    return (
        row.name,
        row.work,
        row.against,
        f"{written(figure.median)} {unit}",
        f"{written(figure.low)} to {written(figure.high)}",
        str(row.goal),
        "yes" if row.goal.met(figure.median) else "no",
        f"{written(result.subject)} {result.unit}",
        f"{written(result.reference)} {result.unit}",
    )


def as_dict(row: Row, result: Result) -> dict[str, Any]:
    """Return a row as plain values."""
    return {
        "name": row.name,
        "work": row.work,
        "against": row.against,
        "goal": asdict(row.goal),
        "met": row.goal.met(result.figure.median),
        **asdict(result),
    }


def about(packages: Sequence[str] = PACKAGES) -> str:
    """Say when and on what this was measured."""
    versions = ", ".join(f"{name} {found}" for name in packages if (found := _version(name)))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} on {platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {versions}"
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def written(value: float) -> str:
    """Return a figure as it is printed."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
