"""What the command writes on: a terminal's width, colours and letters, or none of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

from django.core.management.color import no_style

from django_resilient_cache.breaker.states import State
from django_resilient_cache.management.wording import shorten

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
_ASCII_SYMBOLS = dict(zip(_SYMBOLS, "+x~X#", strict=True))
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
        """Return the shape of a state, in letters that can be written here."""
        symbols = _SYMBOLS if self._takes("".join(_SYMBOLS.values())) else _ASCII_SYMBOLS
        return symbols.get(state, _UNKNOWN)

    def readable(self, text: str) -> str:
        """Return a text with "?" for each letter that cannot be written here."""
        return text.encode(self.encoding, "replace").decode(self.encoding)

    def cut(self, text: str, width: int | None = None) -> str:
        """Return a text cut to so many columns, the whole line unless said otherwise."""
        mark = "…" if self._takes("…") else "..."
        return shorten(self.readable(text), self.width if width is None else width, mark)

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

    def _takes(self, text: str) -> bool:
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            return False
        return True


def page_of(stream: Any, style: Any, *, colours: bool) -> Page:
    """Return the page that a stream is; `colours`: even where it is no terminal."""
    size = shutil.get_terminal_size((_WIDTH, 24))
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return Page(
        size.columns, size.lines, style if colours or stream.isatty() else no_style(), encoding
    )
