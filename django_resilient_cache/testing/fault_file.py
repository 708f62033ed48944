"""A fault as the text of a small file, for other processes: JSON with the names of `Fault`.

    {"effect": "hang", "operations": ["get"], "keys": "menu:*"}

All but the effect may be left out.  An error is the dotted name of its class, or that name and
arguments: ``"TimeoutError"``, ``["redis.exceptions.ConnectionError", "refused"]``.
"""

from __future__ import annotations

import builtins
import json
from typing import Any

from django.utils.module_loading import import_string

from django_resilient_cache.testing.fault import Effect, Fault

_FIELDS = ("error", "seconds", "operations", "keys", "probability", "seed")


def dump(fault: Fault) -> str:
    """Return the text; raises ValueError where another process could not make the fault of it."""
    told: dict[str, Any] = {name: getattr(fault, name) for name in _FIELDS}
    told["operations"] = None if fault.operations is None else sorted(fault.operations)
    told["error"] = None if fault.error is None else _dump_error(fault.error)
    record = {"effect": fault.effect.name.lower()}
    record |= {name: value for name, value in told.items() if value is not None}
    return json.dumps(record)


def load(text: str) -> Fault:
    """Return the fault; raises ValueError saying what is wrong with the text."""
    record = json.loads(text)  # its error is a ValueError
    if not isinstance(record, dict):
        record = {}
    effect = str(record.pop("effect", None)).upper()
    if effect not in Effect.__members__:
        names = ", ".join(name.lower() for name in Effect.__members__)
        raise ValueError(f'effect is {effect.lower()}; write {{"effect": ...}} with one of {names}')
    if unknown := sorted(set(record) - set(_FIELDS)):
        raise ValueError(f"it holds {unknown[0]!r}; write some of {', '.join(_FIELDS)}")
    if record.get("error") is not None:
        record["error"] = load_error(record["error"])
    return Fault(effect=Effect[effect], **record)


def load_error(told: object) -> Exception | type[Exception]:
    """Return the error of a dotted name, or of one and arguments; raises ValueError."""
    name, *args = told if isinstance(told, list) and told else [told]
    kind = _class(str(name))
    if kind is None:
        raise ValueError(f"error is {name!r}; write the dotted name of a class of exceptions")
    return kind(*args) if args else kind


def _class(name: str) -> type[Exception] | None:
    try:
        found = import_string(name) if "." in name else getattr(builtins, name, None)
    except ImportError:
        return None
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _dump_error(error: Exception | type[Exception]) -> str | list[Any]:
    kind = error if isinstance(error, type) else type(error)
    builtin = kind.__module__ == "builtins"
    name = kind.__qualname__ if builtin else f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__ == "__main__" or _class(name) is not kind:
        raise ValueError(
            f"error is {error!r}; write one that other processes can import, as ConnectionError"
        )
    if isinstance(error, type):
        return name
    told = [name, *error.args]
    try:
        same = json.loads(json.dumps(told)) == told
    except (TypeError, ValueError):
        same = False
    if not same:
        raise ValueError(f"error is {error!r}; write one whose arguments are texts and numbers")
    return told
