"""One alias as a layer: what is known of it, and what is wrong or doubtful about it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from django_resilient_cache.breaker.states import BreakerConfig
from django_resilient_cache.conf.backends import CHAIN, Family
from django_resilient_cache.conf.client_check import building_rules
from django_resilient_cache.conf.options import OPTIONS, LayerOptions, read_options
from django_resilient_cache.conf.problems import Problem, closest, setting_path, show

Entry = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerConfig:
    """How one alias is guarded."""

    alias: str
    backend: str
    """Dotted path of its class."""
    family: Family
    """What its backend can do."""
    operation_timeout: float | None
    """Seconds for one operation; None: no limit."""
    timeout_strategy: str
    """As written: "auto", "direct", "sockets" or "thread"."""
    max_concurrency: int
    """Calls in flight at a time, under the thread strategy and from event loops."""
    breaker: BreakerConfig
    own_timeout: bool
    """Whether the alias has a TIMEOUT of its own."""
    timeout: float | None
    """That TIMEOUT in seconds; None: entries never expire, or there is none of its own."""


def layer_options(
    alias: str, entry: Entry, family: Family
) -> tuple[LayerOptions | None, list[Problem]]:
    """Return the options of a layer (None where they cannot be told) and their mistakes."""
    written = entry.get("RESILIENCE", {})
    values, problems = read_options(written, setting_path(alias, "RESILIENCE"))
    if problems:
        return None, problems
    values.setdefault("operation_timeout", family.operation_timeout)
    options = LayerOptions(**values)
    return options, list(_strategy_rules(alias, written, family, options))


def layer_rules(alias: str, entry: Entry, family: Family, backend: type) -> Iterator[Problem]:
    """Yield what is wrong or doubtful about an alias as a layer, its options left aside."""
    problems = [*_backend_rules(alias, entry, family, backend), *_misplaced(alias, entry)]
    problems += _swallowed_errors(alias, entry, family)
    if not any(problem.is_error for problem in problems):  # one of which may be the reason
        problems += building_rules(alias, entry, family, backend)
    yield from problems
    if family.name == "local_memory" and not _has_max_entries(entry):
        yield Problem(
            "resilient_cache.W003",
            setting_path(alias, "OPTIONS"),
            "has no MAX_ENTRIES: local memory then keeps 300 entries only, and drops a third of "
            "them whenever it is full.",
            'Write what the site needs, for example "OPTIONS": {"MAX_ENTRIES": 10000}.',
        )


def _backend_rules(alias: str, entry: Entry, family: Family, backend: type) -> Iterator[Problem]:
    if family is CHAIN:
        yield Problem(
            "resilient_cache.E005",
            setting_path(alias),
            "is a chain, and a chain is not a layer of another chain.",
            "Name its layers instead.",
        )
    if inspect.iscoroutinefunction(getattr(backend, "get", None)):
        yield Problem(
            "resilient_cache.E031",
            setting_path(alias, "BACKEND"),
            f"is {show(entry['BACKEND'])}, whose get() is a coroutine; a layer needs Django's "
            "whole cache API.",
            "Use the backend's ordinary class.",
        )


def _strategy_rules(
    alias: str, written: Entry, family: Family, options: LayerOptions
) -> Iterator[Problem]:
    """A limit that is configured is kept, so what cannot be kept is refused."""
    if family.keeps_nothing:  # stands where another backend was, whose options it leaves alone
        return
    strategy, limit = options.timeout_strategy, options.operation_timeout
    at_strategy = setting_path(alias, "RESILIENCE", "TIMEOUT_STRATEGY")
    by_default = "" if "OPERATION_TIMEOUT" in written else ", the default here"
    if strategy == "direct" and limit is not None:
        yield Problem(
            "resilient_cache.E026",
            at_strategy,
            f'is "direct", which cannot keep an OPERATION_TIMEOUT of {show(limit)} s{by_default}.',
            'Write "OPERATION_TIMEOUT": None as well, or leave the strategy out.',
        )
    elif strategy == "sockets" and not family.sockets:
        yield Problem(
            "resilient_cache.E027",
            at_strategy,
            'is "sockets", which does not know the client of this backend.',
            'Leave it out, or write "thread".',
        )
    elif strategy in ("sockets", "thread") and limit is None:
        yield Problem(
            "resilient_cache.E028",
            at_strategy,
            f'is "{strategy}", but there is no limit to keep: OPERATION_TIMEOUT is None{by_default}.',
            'Write a limit in seconds, for example "OPERATION_TIMEOUT": 0.5, or leave the strategy '
            "out.",
        )
    elif strategy == "auto" and limit is not None and family.name == "local_memory":
        yield Problem(
            "resilient_cache.E029",
            setting_path(alias, "RESILIENCE", "OPERATION_TIMEOUT"),
            f"is {show(limit)}, but nothing cuts a call to local memory short, and nothing needs to.",
            'Leave it out; or write "TIMEOUT_STRATEGY": "thread" as well and pay for a thread at '
            "each call.",
        )


def _misplaced(alias: str, entry: Entry) -> Iterator[Problem]:
    """An option that stands where nothing reads it would be a default in silence."""
    message = "stands where nothing reads it."
    for name in entry:
        if name != "RESILIENCE" and closest(name, ("RESILIENCE",), cutoff=0.8):
            hint = 'Did you mean "RESILIENCE"?'
            yield Problem("resilient_cache.E022", setting_path(alias, name), message, hint)
    for keys, name in _outside(entry):
        inside = ("RESILIENCE",) if name == "RESILIENCE" else ("RESILIENCE", name)
        hint = f"Move it to {setting_path(alias, *inside)}."
        yield Problem("resilient_cache.E022", setting_path(alias, *keys, name), message, hint)


def _outside(entry: Entry) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield where an option stands outside RESILIENCE, and its name."""
    yield from (((), name) for name in entry if name in OPTIONS)
    misplaced = {*OPTIONS, "RESILIENCE"}
    yield from (
        (("OPTIONS",), name) for name in _mapping(entry.get("OPTIONS")) if name in misplaced
    )


def _swallowed_errors(alias: str, entry: Entry, family: Family) -> Iterator[Problem]:
    option, setting = family.silence_option, family.silence_setting
    if option is None:
        return
    options = _mapping(entry.get("OPTIONS"))
    if option in options:
        path, value, hint = setting_path(alias, "OPTIONS", option), options[option], "Remove it"
    else:
        path, value, hint = (
            str(setting),
            setting and getattr(settings, setting, False),
            (f'Remove it, or write "{option}": False in {setting_path(alias, "OPTIONS")}'),
        )
    if value:
        yield Problem(
            "resilient_cache.E030",
            path,
            f"is {show(value)}: the client of {show(alias)} swallows its errors, so that an outage "
            "looks like an empty cache and the breaker never opens.",
            f"{hint}; the chain keeps errors from its callers itself.",
        )


def _has_max_entries(entry: Entry) -> bool:
    return "max_entries" in entry or "MAX_ENTRIES" in _mapping(entry.get("OPTIONS"))


def _mapping(value: object) -> Entry:
    return value if isinstance(value, Mapping) else {}
