"""A value that can be stored and that nobody can read back."""

from __future__ import annotations

import pickle
from typing import Any, NoReturn


class Unreadable:
    """An entry as another version of the site leaves it: it pickles, and cannot be unpickled.

    ``caches["redis"].set("menu", Unreadable())`` puts real bytes where real ones were, through
    any backend that pickles; each read of the entry then raises `error` from within the client's
    own decoder, in every process that has this package, until the entry is replaced or deleted.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error or pickle.UnpicklingError("cannot be read back, on demand")

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, (self.error,)


def _refuse(error: Exception) -> NoReturn:
    raise error
