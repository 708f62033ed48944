"""What the command writes on: a terminal's width, colours and letters, or none of them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.management.color import no_style

from django_resilient_cache.breaker.states import State
from django_resilient_cache.fleet.console.wording import shorten

#: Of what is no terminal, and says no COLUMNS.
_WIDTH = 120

#: A circle is automatic, a square is by order; filled admits calls, empty refuses them.
_SYMBOLS = {
    State.CLOSED.value: "●",
    State.OPEN.value: "○",
    State.HALF_OPEN.value: "◐",
    State.FORCED_OPEN.value: "□",
    State.FORCED_CLOSED.value: "■",
}
_UNKNOWN = "?"


@dataclass(frozen=True, slots=True)
class Page:
    """What is written on."""

    width: int
    """In columns."""
    height: int
    """In lines."""
    style: Any
    """Django's: `style.SUCCESS("text")`."""
    encoding: str = "utf-8"

    def symbol(self, state: str) -> str:
        """Return the shape of a state."""
        return self.readable(_SYMBOLS.get(state, _UNKNOWN))

    def readable(self, text: str) -> str:
        """Return a text with "?" for each letter that cannot be written here."""
        return text.encode(self.encoding, "replace").decode(self.encoding)

    def cut(self, text: str, width: int | None = None) -> str:
        """Return a text cut to so many columns, the whole line unless said otherwise."""
        return self.readable(shorten(text, self.width if width is None else width))

    def state(self, state: str, text: str) -> str:
        """Return a text in the colour of a state."""
        roles = {State.CLOSED.value: "SUCCESS", State.OPEN.value: "ERROR"}
        return self._styled(roles.get(state, "WARNING"), text)

    def result(self, text: str, *, good: bool) -> str:
        """Return what came of something."""
        return self._styled("SUCCESS" if good else "ERROR", text)

    def strong(self, text: str) -> str:
        """Return a heading."""
        return self._styled("MIGRATE_LABEL", text)

    def warning(self, text: str) -> str:
        """Return what wants attention."""
        return self._styled("WARNING", text)

    def _styled(self, role: str, text: str) -> str:
        styled: str = getattr(self.style, role)(text)
        return styled


def page_of(stream: Any, style: Any, *, colours: bool) -> Page:
    """Return the page that a stream is; `colours`: even where it is no terminal."""
    size = shutil.get_terminal_size((_WIDTH, 24))
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return Page(
        size.columns, size.lines, style if colours or stream.isatty() else no_style(), encoding
    )


# `--watch`

#: Seconds from one look to the next.
EVERY = 1.0

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
