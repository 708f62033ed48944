"""Changes that were given up and come late: when they are due, or when their fault is healed."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from math import inf

from django.core.cache import caches
from django.db import connections

logger = logging.getLogger("django_resilient_cache")


@dataclass(eq=False, slots=True)
class _Change:
    fault: object
    operation: str
    make: Callable[[], object]
    due: float


class Later:
    """What is to land, in the order in which it was asked for.

    One daemon thread lands what is due; it lives while there is something to wait for.  `look` is
    called every `every` seconds meanwhile: faults may end in another process.
    """

    def __init__(self, look: Callable[[], None], every: float = inf) -> None:
        self._look = look
        self._every = every
        self._changes: list[_Change] = []
        self._stirred = threading.Condition()
        # Held while changes land, so that they do one after the other, as in a server's queue.
        self._landing = threading.RLock()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._changes)

    def add(
        self, fault: object, operation: str, make: Callable[[], object], seconds: float | None
    ) -> None:
        """Let `make` land in `seconds` (None: no time is set), or when `fault` is released."""
        due = inf if seconds is None else time.monotonic() + seconds
        with self._stirred:
            self._changes.append(_Change(fault, operation, make, due))
            self._stirred.notify()
            if self._thread is None and min(due, self._every) < inf:
                self._start()

    def release(self, faults: Container[object]) -> None:
        """Let what these hold back land now, in this thread."""
        self._land(lambda change: change.fault in faults)

    def drop(self, faults: Container[object]) -> None:
        """Forget what these hold back."""
        self._take(lambda change: change.fault in faults)

    def wait_until_left(self, seconds: float) -> None:
        """Wait up to so many seconds for the thread, if there is nothing more for it to do."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread() and not self._changes:
            thread.join(seconds)

    def _take(self, wanted: Callable[[_Change], bool]) -> list[_Change]:
        with self._stirred:
            taken = [change for change in self._changes if wanted(change)]
            self._changes = [change for change in self._changes if change not in taken]
            self._stirred.notify()
        return taken

    def _land(self, wanted: Callable[[_Change], bool]) -> None:
        with self._landing:
            for change in self._take(wanted):
                try:
                    change.make()
                except Exception as error:  # noqa: BLE001 - its caller has left long ago
                    logger.debug("A late %s came to nothing: %r", change.operation, error)

    def _start(self) -> None:
        # An empty context: the caller's would hand this thread the caller's own cache instance.
        run = contextvars.Context().run
        self._thread = threading.Thread(
            target=run, args=(self._loop,), name="resilient-cache-late", daemon=True
        )
        self._thread.start()

    def _loop(self) -> None:
        try:
            while self._wait():
                now = time.monotonic()
                self._land(lambda change, now=now: change.due <= now)  # type: ignore[misc]  # mypy infers no lambda with a default
                self._look()
        finally:
            with self._stirred:
                if self._thread is threading.current_thread():  # ended by an error
                    self._thread = None
            caches.close_all()  # this thread's only
            connections.close_all()

    def _wait(self) -> bool:
        """Wait until something may be due; return whether there is anything to wait for."""
        with self._stirred:
            due = min((change.due for change in self._changes), default=inf)
            if min(due, self._every) < inf and self._changes:
                self._stirred.wait(max(0.0, min(due - time.monotonic(), self._every)))
                return True
            self._thread = None
            return False
