"""The board: the place that workers share.  Names in, texts out, never for longer than allowed.

It relies on get, get_many, set and delete, and on nothing being atomic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from django_resilient_cache.exceptions import ResilientCacheError

#: Where a store ends entries by the clocks of those who use it, entries live so much longer than
#: they need to (seconds): clocks of hosts may differ by that much.  Who reads decides.
ALLOWANCE = 3600.0


class BoardUnavailable(ResilientCacheError):
    """The board cannot be read or written; says which one, why, and what to do."""


class Store(Protocol):
    """Where a board's records are kept.  Whatever a method raises, the store is not there."""

    title: str
    """For people: "files in /tmp/... (as root)"."""
    remedy: str
    """What to do where it does not answer."""
    keeps_time: bool
    """Whether entries end by a clock of the store's own."""
    one_host: bool
    """Whether only processes of one host can be there."""

    def get_many(self, keys: list[str], budget: float) -> dict[str, object]:
        """Return what is there; `budget` in seconds."""

    def set(self, key: str, value: str, seconds: float | None, budget: float) -> None:
        """Keep `value` for so many seconds; None: for good."""

    def delete(self, key: str, budget: float) -> None:
        """Remove what is there, if anything is."""

    def close(self) -> None:
        """Let go of connections and threads."""


class Board:
    """One project's part of a store."""

    def __init__(
        self, store: Store, project: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.title = store.title
        self.one_host = store.one_host
        self._store = store
        self._prefix = f"resilient-cache:{project}:"
        self._clock = clock
        self._until = 0.0

    def allow(self, seconds: float) -> None:
        """Let the calls from now on take so many seconds, all together."""
        self._until = self._clock() + seconds

    def get(self, name: str) -> object:
        """Return the text under this name, or whatever else is there; None: nothing."""
        return self.get_many([name]).get(name)

    def get_many(self, names: Iterable[str]) -> dict[str, object]:
        """Return what there is under these names."""
        keys = {self._prefix + name: name for name in names}
        if not keys:
            return {}
        try:
            found = self._store.get_many(list(keys), self._left())
            return {keys[key]: value for key, value in found.items() if key in keys}
        except Exception as error:
            raise self._unavailable(error) from error

    def set(self, name: str, value: str, seconds: float | None) -> None:
        """Keep a text for so many seconds, if the board keeps time; None: for good."""
        if seconds is not None:
            seconds = max(1.0, seconds) + (0.0 if self._store.keeps_time else ALLOWANCE)
        try:
            self._store.set(self._prefix + name, value, seconds, self._left())
        except Exception as error:
            raise self._unavailable(error) from error

    def delete(self, name: str) -> None:
        """Remove what is under this name."""
        try:
            self._store.delete(self._prefix + name, self._left())
        except Exception as error:
            raise self._unavailable(error) from error

    def _left(self) -> float:
        left = self._until - self._clock()
        if left <= 0:
            raise TimeoutError("it is too slow")
        return left

    def _unavailable(self, error: Exception) -> BoardUnavailable:
        if isinstance(error, BoardUnavailable):
            return error
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return BoardUnavailable(
            f"The board that workers share ({self.title}) cannot be used: {why}. "
            f"{self._store.remedy}"
        )
