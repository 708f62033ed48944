"""`python -m benchmarks --against PATH`: the rows of this tree beside those of another checkout.

Each tree is measured by its own `benchmarks` package, in processes that import nothing of the other
tree.  A round is one process of each tree, and which of the two goes first alternates.  Rows are
matched by name.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.measure import Spread
from benchmarks.report import PlainTable, about, written
from benchmarks.result import NotMeasuredError

#: For one row in one round.  The rows about many callers measure more where it is over 1.
SECONDS = 2.0

#: How much more a row may cost than in the other tree: less than this is noise.
TOLERANCE = 0.05

HEADINGS = ("row", "work", "this tree", "the other", "ratio", "middle half", "worse")
_WIDTHS = (22, 48, 16, 16, 7, 14, 5)

#: What a tree says of itself: where its package is, and which rows it has.
_PROBE = """
import json
from importlib.util import find_spec
from benchmarks.rows import ROWS
package = find_spec("django_resilient_cache").origin
print(json.dumps({"package": package, "rows": [row.name for row in ROWS]}))
"""

#: A row as `--json` writes it.
Measured: TypeAlias = dict[str, Any]


class NoTreeError(Exception):
    """The path is no checkout of the project; the message says why."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A checkout of the project; `called` says which of the two."""

    root: Path
    called: str

    def row_names(self) -> list[str]:
        """Return the rows that its benchmarks have."""
        done = self._python("-c", _PROBE)
        if done.returncode:
            raise NoTreeError(f"{self.root} has no benchmarks: {_last_line(done.stderr)}")
        said = json.loads(done.stdout)
        if not Path(said["package"]).resolve().is_relative_to(self.root):
            raise NoTreeError(f"{self.root} would measure the package in {said['package']}")
        return list(said["rows"])

    def measure(self, row: str, how: Sequence[str]) -> Measured:
        """Measure one row in a process of its own."""
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
            file = Path(folder) / "row.json"
            done = self._python("-m", "benchmarks", row, *how, "--json", str(file))
            rows = [] if done.returncode else json.loads(file.read_text("utf-8"))["rows"]
        if not rows:
            raise NotMeasuredError(f"{self.called}: {_last_line(done.stderr)}")
        measured: Measured = rows[0]
        return measured

    def _python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        paths = [str(self.root), *filter(None, [os.environ.get("PYTHONPATH")])]
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            check=False,
        )


def _last_line(said: str) -> str:
    return (said.strip().splitlines() or ["it said nothing"])[-1]


@dataclass(frozen=True, slots=True)
class Beside:
    """One row of both trees: what was measured in each round, and what the row costs."""

    name: str
    rounds: list[tuple[Measured, Measured]]

    @property
    def ratio(self) -> Spread:
        """What the row costs in this tree, divided by what it costs in the other."""
        return Spread.of([cost(this) / cost(other) for this, other in self.rounds])

    @property
    def worse(self) -> bool:
        """Whether this tree is slower by more than noise: in the middle, and in most rounds."""
        ratio = self.ratio
        return ratio.median > 1 + TOLERANCE and ratio.low > 1

    def cells(self) -> Sequence[str]:
        """Return the row's line under `HEADINGS`."""
        ratio, (first, _) = self.ratio, self.rounds[0]
        return (
            self.name,
            first["work"],
            *(_side([pair[side] for pair in self.rounds]) for side in (0, 1)),
            f"{ratio.median:.2f}",
            f"{ratio.low:.2f} to {ratio.high:.2f}",
            "yes" if self.worse else "no",
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values."""
        this, other = zip(*self.rounds, strict=True)
        ratio = asdict(self.ratio)
        return {
            "name": self.name,
            "ratio": ratio,
            "worse": self.worse,
            "this": this,
            "other": other,
        }


def cost(measured: Measured) -> float:
    """Return a figure of a row that is larger the slower the tree is.

    A figure that is a ratio is taken as it is: its reference, measured in the same milliseconds,
    cancels what the machine's speed adds to both.
    """
    goal = measured["goal"]
    figure: float = measured["figure"]["median"] if goal["unit"] == "x" else measured["subject"]
    return figure if goal["at_most"] else 1 / figure


def _side(rounds: Sequence[Measured]) -> str:
    spread = Spread.of([one["subject"] for one in rounds])
    return f"{written(spread.median)} {rounds[0]['unit']}"


def compare_trees(options: argparse.Namespace, names: Sequence[str]) -> int:
    """Measure the named rows in both trees and print them; return 1 if a row is worse here."""
    here = Tree(Path(__file__).resolve().parent.parent, "this tree")
    there = Tree(options.against.resolve(), "the other tree")
    how, rounds = ["--seconds", str(options.seconds or SECONDS)], options.rounds
    if options.quick:
        how, rounds = ["--quick"], 1
    try:
        theirs = there.row_names()
    except NoTreeError as error:
        print(error, file=sys.stderr)
        return 2
    table = PlainTable(_WIDTHS)
    table.line(HEADINGS)
    found = []
    for name in names:
        if name not in theirs:
            print(f"{name}: not measured, {there.called} has no such row", file=sys.stderr)
            continue
        try:
            found.append(Beside(name, list(_rounds(name, here, there, rounds, how))))
        except NotMeasuredError as reason:
            print(f"{name}: not measured, {reason}", file=sys.stderr)
        else:
            table.line(found[-1].cells())
    worse = [row.name for row in found if row.worse]
    print(f"\n{about()}")
    print(f"Worse here by more than {TOLERANCE:.0%}: {', '.join(worse) or 'none'}.")
    if options.json:
        report = {"about": about(), "rows": [row.as_dict() for row in found]}
        options.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    return 1 if worse else 0


def _rounds(
    name: str, here: Tree, there: Tree, rounds: int, how: Sequence[str]
) -> Iterator[tuple[Measured, Measured]]:
    for number in range(rounds):
        if number % 2:
            other, this = there.measure(name, how), here.measure(name, how)
        else:
            this, other = here.measure(name, how), there.measure(name, how)
        yield this, other
