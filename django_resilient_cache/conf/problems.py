"""A mistake in the settings, and how messages show names and values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from django.core import checks

#: Messages show no more of a value than this.
LONGEST_VALUE = 80
LARGEST_BITS = 200


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the settings: what `manage.py check` and the first use both say."""

    id: str
    """For example ``resilient_cache.E024``; documented in docs/checks.md."""
    path: str
    """Where it stands, for example ``CACHES["redis"]["RESILIENCE"]["MAX_FAILURES"]``."""
    message: str
    """What is wrong, as the rest of a sentence that begins with the path."""
    hint: str
    """What to write instead."""

    @property
    def is_error(self) -> bool:
        """Whether it blocks the first use; a warning does not."""
        return ".E" in self.id

    @property
    def text(self) -> str:
        """Path and message in one sentence."""
        return f"{self.path} {self.message}"

    def __str__(self) -> str:
        return f"{self.text} {self.hint} ({self.id})"


def setting_path(alias: str | None, *keys: object) -> str:
    """Return where a value stands, as Python: ``CACHES["redis"]["LOCATION"][0]``.

    A chain made by hand has no alias: its path begins with the first key.
    """
    first, rest = ("CACHES", (alias, *keys)) if alias is not None else (str(keys[0]), keys[1:])
    return first + "".join(f"[{show(key)}]" for key in rest)


def one_of(choices: tuple[str, ...]) -> str:
    """Return the choices as code in words: ``"a", "b" or "c"``."""
    *first, last = (f'"{choice}"' for choice in choices)
    return f"{', '.join(first)} or {last}"


def suggestion(name: object, known: Iterable[str]) -> str | None:
    """Return a hint with the known name that `name` was probably meant to be, if any."""
    likely = closest(name, known)
    return None if likely is None else f'Did you mean "{likely}"?'


def closest(name: object, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name that is most like `name`, upper and lower case alike.

    None: none is as like as `cutoff`, from 0 (nothing in common) to 1 (the same).
    """
    folded = {candidate.casefold(): candidate for candidate in known}
    wanted = str(name).casefold().replace("-", "_").replace(" ", "_")
    matches = difflib.get_close_matches(wanted[:100], folded, n=1, cutoff=cutoff)
    return folded[matches[0]] if matches else None


def show(value: object) -> str:
    """Return a value for a message: short, and without the secrets an address may hold."""
    if isinstance(value, int) and value.bit_length() > LARGEST_BITS:
        return "a huge number"
    text = re.sub(r"://.*", "://***", str(value), flags=re.DOTALL)
    if isinstance(value, float):
        text = text.removesuffix(".0")
    if len(text) > LONGEST_VALUE:
        text = f"{text[: LONGEST_VALUE - 3]}..."
    return f'"{text}"' if isinstance(value, str) else text


def describe(value: object) -> str:
    """Return a value and its type for a message; of what may hold anything, the type alone."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{show(value)} ({name})" if isinstance(value, str | int | float) else f"a {name}"


def show_error(error: Exception) -> str:
    """Return an error for a message."""
    return f"{type(error).__name__} {show(str(error).removesuffix('.'))}"


def check_messages(problems: Iterable[Problem]) -> list[checks.CheckMessage]:
    """Return the problems as `manage.py check` takes them."""
    return [
        (checks.Error if problem.is_error else checks.Warning)(
            problem.text, hint=problem.hint, id=problem.id
        )
        for problem in problems
    ]
