"""The marker `exclusive`: its tests run while the other processes of pytest-xdist wait.

A test that says how long something takes, or that a busy process does no harm, says nothing while
another has the processor.  The tests of one file follow each other without letting go.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

#: The file whose exclusive tests are running.
_HELD_FOR = pytest.StashKey[Path | None]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    file = _needs_all(item)
    if file is None or item.session.stash.get(_HELD_FOR, None) != file:
        _begin(exclusive=file is not None)
        item.session.stash[_HELD_FOR] = file
    try:
        return (yield)
    finally:
        if file is None or nextitem is None or _needs_all(nextitem) != file:
            item.session.stash[_HELD_FOR] = None
            _end()


def _needs_all(item: pytest.Item) -> Path | None:
    return item.path if item.get_closest_marker("exclusive") else None


def _begin(*, exclusive: bool) -> None:
    """Wait until a test may run: beside others, or while all others wait.

    Who waits to be exclusive keeps the door, so that nobody else comes in meanwhile.
    """
    hall, door = _lock("hall"), _lock("door")
    if hall is not None and door is not None:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(hall, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)


def _end() -> None:
    hall = _lock("hall")
    if hall is not None:
        fcntl.flock(hall, fcntl.LOCK_UN)  # for what a test has forked too


@cache
def _lock(name: str) -> TextIO | None:
    """A file that all processes have open, of other runs too; None where there is one only."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return None
    file = Path(tempfile.gettempdir()) / f"resilient-cache-tests-{os.getuid()}.{name}"
    opened = file.open("w")
    os.register_at_fork(after_in_child=opened.close)  # what outlives its test holds up nobody
    return opened
