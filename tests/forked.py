"""Checks that run in a forked child."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

#: Python warns of a fork where there are threads; these tests are about that.
with_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def in_child(check: Callable[[], object], fork: Callable[[], int] | None = None) -> int:
    """Run `check` in a forked child and return the child's exit status.

    0: it returned; 1: it raised or returned False; negative: it hung for 10 seconds.
    """
    pid = os.fork() if fork is None else fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        status = 1
        try:
            status = int(check() is False)
        except BaseException as error:  # whatever it is, the test looks at it
            print(repr(error), file=sys.stderr, flush=True)  # noqa: T201  # the parent reads it
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
