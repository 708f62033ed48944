"""Records of the board as text, and the only way back: whatever else is there is no record.

JSON, so that nothing on the board can be more than text, numbers and lists, whatever its backend
makes of them.  A record may have been written by another version, or by something else entirely.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from math import inf, isfinite
from typing import Any, TypeVar

T = TypeVar("T")

#: Texts from the board are shown and logged no longer than this.
LONGEST_TEXT = 500


class Malformed(ValueError):
    """This is not the record that was looked for."""


def write(record: dict[str, Any]) -> str:
    """Return a record as text."""
    return json.dumps(record, separators=(",", ":"))


def read(written: Any, parse: Callable[[Any], T]) -> T | None:
    """Return what `parse` makes of a text from the board; None: it is no such record."""
    if not isinstance(written, str):
        return None
    try:
        return parse(json.loads(written))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def text(value: object) -> str:
    """Return a text in one line, shortened."""
    if not isinstance(value, str):
        raise Malformed
    return one_line(value)


def one_line(value: str) -> str:
    """Return a text as it may be logged: no line breaks, no control characters, not too long."""
    cut = value[:LONGEST_TEXT]
    return cut if cut.isprintable() else "".join(c if c.isprintable() else " " for c in cut)


def number(value: object) -> float:
    """Return a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise Malformed
    return value


def finite(seconds: float) -> float | None:
    """Return seconds for a record, where None stands for infinity; never negative."""
    return None if seconds == inf else max(0.0, seconds)


def seconds(value: object) -> float:
    """Return what `finite` made this of."""
    return inf if value is None else max(0.0, number(value))


def whole(value: object) -> int:
    """Return a whole number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise Malformed
    return value


def optional(value: object, kind: Callable[[object], T]) -> T | None:
    """Return None as it is, everything else as `kind` has it."""
    return None if value is None else kind(value)
