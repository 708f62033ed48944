"""What a cache answers, call by call, and how that differs from another one's answers."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def all_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Collect warnings instead of raising them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def attempt(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a call returned, or the type of what it raised."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return type(error)


#: BaseCache promises no result of these; some backends return one nevertheless.
_YES_OR_NO = ("add", "touch", "delete", "has_key")
_VOID = ("set", "delete_many", "clear", "close", "validate_key")


class Recorder:
    """Stands before a cache and notes what each call returned, or the type of what it raised."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self.log: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            what = f"{name}{args!r}{kwargs or ''}"
            return self._note(what, getattr(self._cache, name), *args, **kwargs)

        return call

    def __contains__(self, key: object) -> bool:
        return bool(self._note(f"{key!r} in", self._cache.__contains__, key))

    def note(self, what: str, value: object) -> None:
        self.log.append((re.sub(r" at 0x\w+", "", what)[:150], value))

    def _note(self, what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = attempt(call, *args, **kwargs)
        if what.startswith(_VOID) and not isinstance(result, type):
            result = result or None if what.startswith("set_many") else None
        elif what.startswith(_YES_OR_NO) and not isinstance(result, type):
            result = bool(result)
        self.note(what, result)
        return None if isinstance(result, type) else result


Scenario = Callable[[Recorder], None]


def differences(run: Scenario, oracle: Any, cache: Any, empty: Callable[[], None]) -> str:
    """What a scenario gets from the cache that it does not get from the oracle; "": nothing."""
    logs = []
    for each in (oracle, cache):
        empty()
        recorder = Recorder(each)
        run(recorder)
        logs.append(recorder.log)
    return "".join(
        f"\n{call}: {value!r}, not {expected!r}"
        for (_, expected), (call, value) in zip(*logs, strict=True)
        if not _same(value, expected)
    )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    # Some clients make 1 of True, or -1.0 of -1; a near copy is what the caller set.
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return bool(one == other) and (numbers or type(one) is type(other))
