"""`python -m benchmarks instructions`: the bytecodes of the healthy paths, and what they may be.

A path that takes `TOLERANCE` more than its budget has grown: either that can be helped, or `--write`
says that it has to be.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from pathlib import Path
from typing import TypeAlias

from benchmarks import bytecodes
from benchmarks.paths import HealthyPath, paths
from benchmarks.servers import healthy_and_frozen
from benchmarks.setup import Bench, configure

#: The most bytecodes of each path, by the version of Python, whose compiler makes them.
BUDGETS = Path(__file__).with_name("budgets.json")

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

#: The share of its budget by which a path may exceed it, rounded up to whole bytecodes: a statement
#: written another way stays below that; a lock, or a function called on a hit, does not.
TOLERANCE = 0.03

Counts: TypeAlias = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PathCount:
    """One path: what it takes, and what it may take (None: nobody has said)."""

    path: HealthyPath
    by_function: Counter[bytecodes.Function]
    budget: int | None

    @property
    def count(self) -> int:
        """What the path takes in all."""
        return self.by_function.total()

    @property
    def over(self) -> bool:
        """Whether the path has grown."""
        if self.budget is None:
            return False
        return self.count > self.budget + ceil(self.budget * TOLERANCE)

    def __str__(self) -> str:
        if self.budget is None:
            word = "no budget"
        elif self.over:
            word = f"OVER its budget of {self.budget}"
        elif self.count == self.budget:
            word = "as budgeted"
        else:
            word = f"{self.count - self.budget:+}, within its budget"
        return f"{self.path.name:20}{self.path.work:52}{self.count:6}  {word}"


def command(arguments: Sequence[str]) -> int:
    """Count, compare with the budgets or write them; return the exit code."""
    options = _parser().parse_intermixed_args(arguments)
    budgets = json.loads(BUDGETS.read_text("utf-8"))
    with healthy_and_frozen() as (healthy, frozen):
        configure(Bench(healthy, frozen, seconds=0, entries=0))
        counted = list(count(budgets.get(PYTHON, {}), options.paths))
    for path in counted:
        print(path)
        if options.where:
            print(*where(path.by_function), sep="\n")
    if options.write:
        written = {path.path.name: path.count for path in counted}
        budgets[PYTHON] = budgets.get(PYTHON, {}) | written if options.paths else written
        BUDGETS.write_text(json.dumps(budgets, indent=2, sort_keys=True) + "\n", "utf-8")
        print(f"\nwritten for Python {PYTHON}: {BUDGETS}")
        return 0
    if PYTHON not in budgets:
        print(f"\nThere are no budgets for Python {PYTHON}: --write makes them.")
    return 1 if any(path.over for path in counted) else 0


def count(budgets: Counts, names: Sequence[str]) -> Iterator[PathCount]:
    """Count the paths that are named, or all, that run in their caller's thread."""
    from django_resilient_cache.timeouts.sockets import guarded_socket

    # Being counted takes so long that each request would count as one of a starved process.
    guarded_socket._LATE = inf
    for path in paths():
        found = bytecodes.count(path) if not names or path.name in names else None
        if found:
            yield PathCount(path, found, budgets.get(path.name))


def where(by_function: Counter[bytecodes.Function]) -> Iterator[str]:
    """Return a line for each module, those that take most first."""
    modules: Counter[str] = Counter()
    for (module, _), part in by_function.items():
        modules[module] += part
    for module, total in modules.most_common():
        functions = [
            f"{name} {part}" for (file, name), part in by_function.most_common() if file == module
        ]
        yield f"    {total:6}  {module}: {', '.join(functions)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks instructions", description=__doc__)
    parser.add_argument("instructions", choices=["instructions"], help=argparse.SUPPRESS)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="of those that are printed (all)")
    parser.add_argument("--where", action="store_true", help="say in which functions")
    parser.add_argument("--write", action="store_true", help="make what is counted the budget")
    return parser
