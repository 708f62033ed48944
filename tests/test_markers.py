"""What the markers of this suite promise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.slow_unmarked import TOO_SLOW, pytest_terminal_summary


class Terminal:
    """What pytest has counted, and what is printed."""

    def __init__(self, *passed: Any) -> None:
        self.passed = passed
        self.lines: list[str] = []

    def getreports(self, outcome: str) -> tuple[Any, ...]:
        return self.passed if outcome == "passed" else ()

    def section(self, title: str) -> None:
        self.lines.append(title)

    def write_line(self, line: str) -> None:
        self.lines.append(line)


def report(nodeid: str, seconds: float, *marks: str, when: str = "call") -> Any:
    return SimpleNamespace(
        nodeid=nodeid, duration=seconds, keywords=dict.fromkeys(marks, 1), when=when
    )


def test_a_slow_test_without_the_marker_is_named() -> None:
    terminal: Any = Terminal(
        report("slow and marked", TOO_SLOW + 1, "slow"),
        report("slow", TOO_SLOW + 1),
        report("fast", 0.1),
        report("waits for a server that others use too", TOO_SLOW + 1, when="setup"),
    )
    pytest_terminal_summary(terminal)
    assert terminal.lines == ["slow, and not marked so", "6.0 s  slow"]


def test_where_all_are_marked_nothing_is_said() -> None:
    terminal: Any = Terminal(report("slow and marked", TOO_SLOW + 1, "slow"), report("fast", 0.1))
    pytest_terminal_summary(terminal)
    assert terminal.lines == []
