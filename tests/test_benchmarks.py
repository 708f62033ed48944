"""The benchmarks run and say what they should; how fast anything is, is not asserted here."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bytecodes, instructions
from benchmarks.against import Beside, cost
from benchmarks.drawing import drawn
from benchmarks.measure import LEAST_PAIRS, Spread, Work, compare
from benchmarks.outage import Course, Phases, Point
from benchmarks.paths import HealthyPath
from benchmarks.result import Goal
from benchmarks.rows import ROWS
from django_resilient_cache.chain.chain import Chain
from django_resilient_cache.chain.expiry import LayerTraits
from django_resilient_cache.chain.generations import Generations
from tests import services
from tests.code_edits import find, starts_with

ROOT = Path(__file__).resolve().parent.parent
BUDGETS = json.loads(instructions.BUDGETS.read_text())
SVG = "{http://www.w3.org/2000/svg}"


def run(*arguments: str | Path) -> str:
    """What `python -m benchmarks` prints; in a process of its own, which configures Django."""
    done = started(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def started(*arguments: str | Path, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    if services.valkey_program() is None:
        services.unavailable("no Valkey for the benchmarks")
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    # What is measured there is no test's coverage; a copy of the package would count as another.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(
        command, check=False, cwd=root, env=env, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """All rows, once and far too short."""
    file = tmp_path_factory.mktemp("benchmarks") / "rows.json"
    printed = run("--quick", "--json", file)
    return printed, {row["name"]: row for row in json.loads(file.read_text())["rows"]}


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_row_is_measured_and_printed(quick, row):
    printed, measured = quick
    if row.needs is not None:
        pytest.importorskip(row.needs)
    if row.name.startswith("memcached-"):
        services.memcached_server()  # skips where there is none
    found = measured[row.name]
    assert row.name in printed
    assert found["met"] is row.goal.met(found["figure"]["median"])
    assert found["reference"] > 0
    if row.goal.unit == "x":
        assert found["subject"] > 0
        assert 0 < found["figure"]["low"] <= found["figure"]["high"]


@pytest.mark.slow
def test_rows_are_chosen_by_name():
    printed = run("--quick", "--markdown", "nearest-hit")
    assert "| nearest-hit |" in printed
    assert "get-many" not in printed


@pytest.mark.slow
def test_another_checkout_is_measured_beside_this_one(tmp_path):
    copied(tmp_path)
    rows = tmp_path / "benchmarks" / "rows.py"
    rows.write_text(rows.read_text().replace('"get-many"', '"get-some"'))
    file = tmp_path / "rows.json"
    done = started("--against", tmp_path, "--quick", "--json", file, "nearest-hit", "get-many")
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == "get-many: not measured, the other tree has no such row\n"
    (row,) = json.loads(file.read_text())["rows"]
    assert row["name"] == "nearest-hit"
    assert row["this"][0]["name"] == row["other"][0]["name"] == "nearest-hit"
    assert f"{row['ratio']['median']:.2f}" in done.stdout
    assert done.returncode == row["worse"]


def test_a_tree_without_the_package_is_refused(tmp_path):
    """What is installed, or this tree, would be measured instead of it."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    done = started("--against", tmp_path, "nearest-hit")
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr


def row(median: float, goal: Goal, subject: float = 1.0) -> dict[str, Any]:
    return {"figure": {"median": median}, "subject": subject, "goal": asdict(goal)}


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (row(1.25, Goal(1.1)), 1.25),
        (row(0.5, Goal(0.9, at_most=False)), 2.0),
        (row(-0.01, Goal(0.5, "us"), subject=1.6), 1.6),
    ],
    ids=["ratio of times", "ratio of calls per second", "a difference may be nothing"],
)
def test_a_slower_row_costs_more(measured, expected):
    assert cost(measured) == expected


@pytest.mark.parametrize(
    ("ratios", "worse"),
    [
        ([1.04, 1.04, 1.04], False),
        ([1.06, 1.06, 1.06], True),
        ([0.9, 1.06, 1.2], False),
        ([0.5, 0.5, 0.5], False),
    ],
    ids=["within the tolerance", "beyond it", "in too few rounds", "faster"],
)
def test_a_row_is_worse_in_the_middle_and_in_most_rounds(ratios, worse):
    goal = Goal(1.0)
    rounds = [(row(ratio, goal), row(1.0, goal)) for ratio in ratios]
    assert Beside("row", rounds).worse is worse


def test_the_healthy_paths_keep_to_their_budgets():
    """As `python -m benchmarks instructions` counts them; `--write` changes the budgets."""
    if instructions.PYTHON not in BUDGETS:
        pytest.skip(f"no budgets for Python {instructions.PYTHON}")
    done = started("instructions")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(BUDGETS[instructions.PYTHON]) <= set(
        re.findall(r"^[\w-]+", done.stdout, re.MULTILINE)
    )


@pytest.mark.slow
def test_a_path_that_has_grown_goes_over_its_budget(tmp_path):
    """By one call of a function, which no clock would tell from the machine's own moods."""
    copied(tmp_path)
    written = started("instructions", "--write", "get", "breaker-call", root=tmp_path)
    assert written.returncode == 0, written.stderr
    file = tmp_path / "django_resilient_cache" / "backend" / "cache.py"
    tree = ast.parse(file.read_text())
    starts_with("(lambda: None)()")(find(tree, "ResilientCache._get_nearest"))
    file.write_text(ast.unparse(tree))
    done = started("instructions", "get", "breaker-call", root=tmp_path)
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines() if "OVER" in line] == ["get"]
    assert "as budgeted" in done.stdout


def test_what_a_data_class_generates_is_counted():
    """Else a path would look shorter as soon as its objects are data classes."""
    layer = LayerTraits(
        direct=True, miss=lambda command: None, shared=False, cap=None, default_timeout=None
    )
    chain = Chain([layer], Generations())
    counted = bytecodes.count(HealthyPath("path", "work", lambda: next(chain.has_key("a", None))))
    assert any(name.endswith("__init__") for _, name in counted)


@pytest.mark.parametrize(
    ("budget", "count", "over"),
    [(100, 103, False), (100, 104, True), (1500, 1545, False), (1500, 1546, True), (40, 42, False)],
)
def test_a_budget_is_kept_within_three_per_cent(budget, count, over):
    path = HealthyPath("path", "work", lambda: None)
    counted = instructions.PathCount(path, Counter({("module", "function"): count}), budget)
    assert counted.over is over


def copied(folder):
    for package in ("benchmarks", "django_resilient_cache"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)


def test_a_row_that_does_not_exist_is_named():
    done = started("nearest-hid")
    assert done.returncode == 2
    assert "no such row: nearest-hid" in done.stderr


@pytest.mark.slow
def test_a_site_is_put_under_load(tmp_path):
    pytest.importorskip("uvicorn")
    file = tmp_path / "uvicorn.json"
    printed = run("uvicorn", "--quick", "--way", "thread", "--json", file)
    rows = json.loads(file.read_text())["rows"]
    assert [row["unit"] for row in rows] == ["x", "x", "x", "ms", "ms", "ms"]
    for row in rows:
        assert row["what"] in printed
        assert row["figure"] > 0
        assert row["met"] is (
            None if row["goal"] is None else Goal(**row["goal"]).met(row["figure"])
        )


@pytest.mark.slow
def test_an_outage_is_taken_through_its_phases_and_drawn(tmp_path):
    svg, figures = tmp_path / "outage.svg", tmp_path / "outage.json"
    run("outage", "--quick", "--svg", svg, "--json", figures)
    courses = json.loads(figures.read_text())["courses"]
    assert len(courses) == 3
    assert all(point["throughput"] > 0 for course in courses.values() for point in course)
    check_picture(svg.read_text(), lines=6)


def test_the_picture_in_the_docs_is_sound():
    check_picture((ROOT / "docs" / "outage.svg").read_text(), lines=6)


def check_picture(text: str, lines: int) -> None:
    """Well-formed, described, readable in light and dark, and nothing outside its frame."""
    root = ET.fromstring(text)
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert title.text
    assert description is not None
    assert description.text
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "title description"
    assert "prefers-color-scheme: dark" in text
    drawn_lines = root.findall(f"{SVG}polyline")
    assert len(drawn_lines) == lines
    width, height = (float(root.get(side, "")) for side in ("width", "height"))
    for line in drawn_lines:
        for point in line.get("points", "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_the_readme_has_its_figures_from_the_table_in_the_docs():
    block = re.search(
        "<!-- performance -->(.*)<!-- /performance -->", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert block is not None
    figures = [cells[-1] for cells in table(block[1])]
    results = {cells[3] for cells in table((ROOT / "docs" / "performance.md").read_text())}
    assert len(figures) > 5
    for figure in figures:
        assert figure.replace("x", " x").replace("µs", "us") in results


def table(text: str) -> list[list[str]]:
    """The cells of each line of the tables, without headings."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [cells for cells in lines if len(cells) > 2 and re.match(r"[\d.,]+", cells[-1])]


def test_a_picture_keeps_extreme_figures_inside_its_frame():
    points = [Point(0.5, 1e7, 1e-7), Point(1.5, 0.5, 30.0), Point(2.5, 1e3, 1e-3)]
    courses = [Course(name, points) for name in ("memory", "bare <&>", "chain")]
    check_picture(drawn(courses, Phases(1, 1, 1), ["a note"]), lines=6)


def test_work_against_itself_is_compared_in_pairs():
    work = Work("len(text)", text="text")
    found = compare(work, work, seconds=0.0)
    assert found.pairs == LEAST_PAIRS
    assert found.ratio.low <= found.ratio.median <= found.ratio.high
    assert found.subject.median > 0


def test_a_spread_is_the_middle_and_the_quartiles():
    assert Spread.of([5, 1, 2, 4, 3]) == Spread(median=3, low=2, high=4)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (Goal(1.1), 1.1, True),
        (Goal(1.1), 1.104, True),
        (Goal(1.1), 1.11, False),
        (Goal(100, at_most=False), 100.0, True),
        (Goal(100, at_most=False), 99.9, False),
    ],
)
def test_a_goal_is_met_by_the_figure_as_printed(goal, value, met):
    assert goal.met(value) is met
