"""A thread of its own for a test that raises at any line of what it calls.

Python looks for no signals in the middle of the clean-up after an `except` block, and its compiler
relies on that: what a trace function raises there leaves the thread in that block for good, so that
whatever fails later in this thread gets the wrong context.  And a trace function replaces the one
by which coverage is measured.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")


def in_thread(test: Callable[P, None]) -> Callable[P, None]:
    """Let the test run in a thread that ends with it."""

    @functools.wraps(test)
    def begin(*args: P.args, **kwargs: P.kwargs) -> None:
        raised: list[BaseException] = []

        def run() -> None:
            try:
                test(*args, **kwargs)
            except BaseException as error:  # pytest's own too: a skip
                raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if raised:
            raise raised[0]

    return begin
