"""Turns of the processes that pytest-xdist runs tests in: some tests bear nothing beside them.

A test that says how long something takes, or that a busy process does no harm, says nothing while
three others have the processor.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import TextIO


@cache
def _opened(name: str) -> TextIO | None:
    """A file that all processes have open, of other runs too; None where there is one only."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return None
    file = Path(tempfile.gettempdir()) / f"resilient-cache-tests-{os.getuid()}.{name}"
    opened = file.open("w")
    os.register_at_fork(after_in_child=opened.close)  # what outlives its test holds up nobody
    return opened


def begin(*, alone: bool) -> None:
    """Wait until a test may run: beside others, or while all others wait.

    Who waits to be alone stands in the door, so that nobody else comes in meanwhile.
    """
    hall, door = _opened("hall"), _opened("door")
    if hall is not None and door is not None:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(hall, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)


def end() -> None:
    """Let others have their turn."""
    hall = _opened("hall")
    if hall is not None:
        fcntl.flock(hall, fcntl.LOCK_UN)  # for what a test has forked too
