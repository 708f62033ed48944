"""`python -m benchmarks instructions`: the bytecodes of the healthy paths, and what they may be.

A path that takes more than its budget has grown: either that can be helped, or `--write` says that
it has to be.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TypeAlias

from benchmarks import bytecodes
from benchmarks.paths import HealthyPath, paths
from benchmarks.servers import healthy_and_frozen
from benchmarks.setup import Bench, configure

#: The most bytecodes of each path, by the version of Python, whose compiler makes them.
BUDGETS = Path(__file__).with_name("budgets.json")

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

Counts: TypeAlias = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ErrorClass:
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
        return self.budget is not None and self.count > self.budget

    def __str__(self) -> str:
        if self.budget is None:
            word = "no budget"
        elif self.over:
            word = f"OVER its budget of {self.budget}"
        else:
            spared = self.budget - self.count
            word = f"{spared} below its budget" if spared else "as budgeted"
        return f"{self.path.name:20}{self.path.work:52}{self.count:6}  {word}"


def command(arguments: Sequence[str]) -> int:
    """Count, compare with the budgets or write them; return the exit code."""
    options = _parser().parse_args(arguments)
    budgets = json.loads(BUDGETS.read_text("utf-8"))
    with healthy_and_frozen() as (healthy, frozen):
        configure(Bench(healthy, frozen, seconds=0, entries=0))
        verdicts = classified(budgets.get(PYTHON, {}))
    for verdict in verdicts:
        print(verdict)
        if options.where:
            print(*where(verdict.by_function), sep="\n")
    if options.write:
        budgets[PYTHON] = {verdict.path.name: verdict.count for verdict in verdicts}
        BUDGETS.write_text(json.dumps(budgets, indent=2, sort_keys=True) + "\n", "utf-8")
        print(f"\nwritten for Python {PYTHON}: {BUDGETS}")
        return 0
    if PYTHON not in budgets:
        print(f"\nThere are no budgets for Python {PYTHON}: --write makes them.")
    return 1 if any(verdict.over for verdict in verdicts) else 0


def classified(budgets: Counts) -> list[ErrorClass]:
    """Count every path that runs in its caller's thread."""
    from django_resilient_cache.timeouts.sockets import guarded_socket

    # Being counted takes so long that each request would count as one of a starved process.
    guarded_socket._LATE = inf
    counted = [(path, bytecodes.count(path)) for path in paths()]
    return [ErrorClass(path, found, budgets.get(path.name)) for path, found in counted if found]


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
    parser.add_argument("--where", action="store_true", help="say in which functions")
    parser.add_argument("--write", action="store_true", help="make what is counted the budget")
    return parser
