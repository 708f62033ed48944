"""The marker `slow` is for what takes over a second: at the end it is said where it is missing."""

from __future__ import annotations

import pytest

#: Seconds; a machine that is busy with something else makes no test look bad.
TOO_SLOW = 5.0


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that should be marked slow; that fails nothing."""
    reports: list[pytest.TestReport] = terminalreporter.getreports("passed")
    found = [
        f"{report.duration:.1f} s  {report.nodeid}"
        for report in reports
        if report.when == "call" and report.duration > TOO_SLOW and "slow" not in report.keywords
    ]
    if found:
        terminalreporter.section("slow, and not marked so")
        terminalreporter.write_line("\n".join(found))
