"""The options of `RESILIENCE`: the type, range, default and help of each stand here, once.

Validation, error messages, checks and the table in the documentation are made from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from math import isfinite
from typing import Any

from django_resilient_cache.breaker.states import BreakerConfig
from django_resilient_cache.conf.backends import default_limits
from django_resilient_cache.conf.problems import Problem, describe, one_of, show, suggestion

#: The longest limit in seconds; beyond it the clocks of sockets and locks overflow.
LONGEST_LIMIT = 86_400

STRATEGIES = ("auto", "direct", "sockets", "thread")


@dataclass(frozen=True, slots=True)
class Kind:
    """What the value of an option may be."""

    text: str
    types: tuple[type, ...]
    accepts: Callable[[Any], bool]


def _is_seconds(value: float) -> bool:
    try:
        return isfinite(value) and value > 0
    except OverflowError:  # a whole number beyond every float
        return False


COUNT = Kind("a whole number of 1 or more", (int,), lambda value: value >= 1)
SECONDS = Kind("a number of seconds above 0", (int, float), _is_seconds)
LIMIT = Kind(
    f"a number of seconds above 0 and up to {LONGEST_LIMIT}",
    (int, float),
    lambda value: _is_seconds(value) and value <= LONGEST_LIMIT,
)
SHARE = Kind("a share above 0 and up to 1", (int, float), lambda value: 0 < value <= 1)
STRATEGY = Kind(one_of(STRATEGIES), (str,), lambda value: value in STRATEGIES)

_BREAKER = {option.name: option.default for option in fields(BreakerConfig)}


def _option(
    kind: Kind,
    meaning: str,
    *,
    default: Any = MISSING,
    none: str | None = None,
    **other: object,
) -> Any:
    """Declare an option.

    `none` says what None means where it is allowed.  Where the default is not one value, `shown`
    gives it in words for the table and `example` is what a hint proposes.
    """
    metadata = {"kind": kind, "meaning": meaning, "none": none, "shown": None, "example": default}
    return field(default=default, metadata=metadata | other)


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerOptions:
    """The valid options of one alias, under their lower-case names."""

    operation_timeout: float | None = _option(
        LIMIT,
        "Seconds for the whole operation: waiting, connecting, retries and all.",
        none="no limit",
        shown=default_limits(),
        example=0.25,
    )
    max_failures: int = _option(
        COUNT, "Failures in a row that open the breaker.", default=_BREAKER["max_failures"]
    )
    failure_rate: float | None = _option(
        SHARE,
        "Share of the recent calls whose failure opens the breaker.",
        default=0.5,
        none="rule off",
    )
    failure_window: float = _option(
        SECONDS, "Seconds that count as recent.", default=_BREAKER["failure_window"]
    )
    min_calls: int = _option(
        COUNT,
        "Calls within `FAILURE_WINDOW` before `FAILURE_RATE` decides anything.",
        default=_BREAKER["min_calls"],
    )
    reset_timeout: float = _option(
        SECONDS,
        "Seconds open before the first trial; each failed trial doubles them (jitter 20 %).",
        default=_BREAKER["reset_timeout"],
    )
    max_reset_timeout: float | None = _option(
        SECONDS,
        "Upper end of the doubling.",
        default=_BREAKER["max_reset_timeout"],
        none="the default",
        shown="30, or `RESET_TIMEOUT` if that is longer",
        example=30,
    )
    half_open_successes: int = _option(
        COUNT,
        "Successful trials in a row that close the breaker.",
        default=_BREAKER["half_open_successes"],
    )
    half_open_max_calls: int = _option(
        COUNT, "Trials in flight at one time.", default=_BREAKER["half_open_max_calls"]
    )
    timeout_strategy: str = _option(
        STRATEGY, "How the limit is kept; `auto` picks what fits the client.", default="auto"
    )
    max_concurrency: int = _option(
        COUNT,
        "Calls in flight at one time per process, under the thread strategy and from event loops; "
        "others queue.",
        default=16,
    )

    def breaker_config(self) -> BreakerConfig:
        """Return what the breaker needs; a trial's permit lasts twice the limit."""
        limit = self.operation_timeout
        shared = {name: getattr(self, name) for name in _BREAKER if hasattr(self, name)}
        return BreakerConfig(**shared, trial_timeout=None if limit is None else 2 * limit)


#: Option as written in the settings -> its field.
OPTIONS = {option.name.upper(): option for option in fields(LayerOptions)}


def read_options(written: object, path: str) -> tuple[dict[str, Any], list[Problem]]:
    """Return the valid values under their field names, and the mistakes in the others."""
    if not isinstance(written, Mapping):
        message = f"is {describe(written)}; it takes a dict of options."
        hint = 'Write for example {"OPERATION_TIMEOUT": 0.25}.'
        return {}, [Problem("resilient_cache.E021", path, message, hint)]
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in written.items():
        problem = _mistake(name, value, path)
        if problem is None:
            values[name.lower()] = value
        else:
            problems.append(problem)
    if "reset_timeout" in values or "RESET_TIMEOUT" not in written:
        problems += _cap_below_start(values, path)
    return values, problems


def _mistake(name: object, value: object, path: str) -> Problem | None:
    option = OPTIONS.get(name) if isinstance(name, str) else None
    path = f"{path}[{show(name)}]"
    if option is None:
        hint = suggestion(name, OPTIONS) or f"The options are {', '.join(OPTIONS)}."
        return Problem("resilient_cache.E022", path, "is not an option.", hint)
    kind, none = option.metadata["kind"], option.metadata["none"]
    if value is None and none is not None:
        return None
    is_type = isinstance(value, kind.types) and not isinstance(value, bool)
    if is_type and kind.accepts(value):
        return None
    return Problem(
        "resilient_cache.E024" if is_type else "resilient_cache.E023",
        path,
        f"is {describe(value)}; it takes {kind.text}" + (f", or None ({none})." if none else "."),
        (suggestion(value, STRATEGIES) if kind is STRATEGY else None)
        or f'Write for example "{name}": {show(option.metadata["example"])}.',
    )


def _cap_below_start(values: Mapping[str, Any], path: str) -> Iterator[Problem]:
    start = values.get("reset_timeout", _BREAKER["reset_timeout"])
    cap = values.get("max_reset_timeout")
    if cap is not None and cap < start:
        default = "" if "reset_timeout" in values else " (its default)"
        yield Problem(
            "resilient_cache.E025",
            f'{path}["MAX_RESET_TIMEOUT"]',
            f"is {show(cap)}, below RESET_TIMEOUT, which is {show(start)}{default}.",
            f"Write {show(start)} or more, or leave it out.",
        )


def options_table() -> str:
    """Return the options of `RESILIENCE` as a Markdown table."""
    rows = ["| Option | Default | Takes | Meaning |", "|---|---|---|---|"]
    for name, option in OPTIONS.items():
        meta = option.metadata
        default = meta["shown"] or f"`{show(option.default)}`"
        takes = meta["kind"].text + (f"; `None`: {meta['none']}" if meta["none"] else "")
        rows.append(f"| `{name}` | {default} | {takes} | {meta['meaning']} |")
    return "\n".join(rows) + "\n"
