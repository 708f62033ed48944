"""`--watch`: the same look again each second, until Ctrl-C."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

EVERY = 1.0
"""Seconds from one look to the next."""

_HOME, _END_OF_LINE, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_CLEAR = "\x1b[2J"


def watch(look: Callable[[], Sequence[str]], stream: Any, *, redraw: bool, gap: bool) -> None:
    """Write what `look` returns each second; returns at Ctrl-C.

    `redraw`: in place, on a terminal; else each look is appended, with `gap` an empty line after it.
    """
    try:
        if redraw:
            stream.write(_CLEAR, ending="")
        while True:
            began = time.monotonic()
            lines = look()
            stream.write(_in_place(lines) if redraw else _appended(lines, gap=gap), ending="")
            stream.flush()
            time.sleep(max(0.0, began + EVERY - time.monotonic()))
    except KeyboardInterrupt:
        if redraw:
            stream.write("")  # the shell's prompt on a line of its own


def moves_cursor(stream: Any) -> bool:
    """Return whether the cursor can be moved there."""
    return bool(stream.isatty()) and os.environ.get("TERM", "dumb") != "dumb"


def fitting(lines: Sequence[str], height: int) -> list[str]:
    """Return as many lines as a screen has, the last one saying how many there are not."""
    if len(lines) < height:
        return list(lines)
    kept = max(0, height - 2)
    return [
        *lines[:kept],
        f"... {len(lines) - kept} more lines: name fewer layers, or a taller window",
    ]


def _appended(lines: Sequence[str], *, gap: bool) -> str:
    return "".join(f"{line}\n" for line in lines) + ("\n" if gap else "")


def _in_place(lines: Sequence[str]) -> str:
    return _HOME + "".join(f"{line}{_END_OF_LINE}\n" for line in lines) + _BELOW
