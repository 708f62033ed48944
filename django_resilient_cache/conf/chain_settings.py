"""One alias as a chain: which layers it names, and what is wrong about that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from django.utils.module_loading import import_string

from django_resilient_cache.conf.backends import CHAIN, Family
from django_resilient_cache.conf.options import OPTIONS
from django_resilient_cache.conf.problems import (
    Problem,
    describe,
    one_of,
    setting_path,
    show,
    show_error,
    suggestion,
)

ON_UNAVAILABLE = ("miss", "raise")
OF_A_LAYER = {"RESILIENCE", *OPTIONS}

#: What the settings name: alias -> what is known of its backend; None: it cannot be imported.
Families = Mapping[str, Family | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainConfig:
    """Which layers a chain has, and what it decides itself."""

    alias: str | None
    """None: made by hand, not from CACHES."""
    layers: tuple[str, ...]
    """Nearest first, the authority last."""
    on_unavailable: Literal["miss", "raise"]
    own_prefix: bool
    """Whether it composes keys itself (KEY_PREFIX or KEY_FUNCTION)."""
    own_version: bool
    own_timeout: bool

    @property
    def authority(self) -> str:
        """The layer whose word counts."""
        return self.layers[-1]


def named(location: object) -> list[str]:
    """Return the aliases that a LOCATION names, as far as it names any."""
    if isinstance(location, str):
        return [location]
    if isinstance(location, list | tuple):
        return [name for name in location if isinstance(name, str)]
    return []


def chain_rules(
    alias: str | None,
    location: object,
    params: Mapping[str, Any],
    families: Families,
) -> Iterator[Problem]:
    """Yield what is wrong about a chain, its layers' own mistakes left aside.

    `families` has every configured alias; None: its backend cannot be told.
    """
    misnamed = list(_location_rules(alias, location, families))
    yield from misnamed or _authority_rule(alias, location, families)
    layers = [name for name in named(location) if families.get(name) not in (None, CHAIN)]
    yield from _option_rules(alias, params, layer=layers[0] if layers else "redis")
    yield from _key_function_rule(alias, params)


def _location_rules(alias: str | None, location: object, families: Families) -> Iterator[Problem]:
    path = setting_path(alias, "LOCATION")
    example = 'Write a list of aliases, nearest first, for example "LOCATION": ["redis"].'
    if not isinstance(location, str | list | tuple):
        message = f"is {describe(location)}; it takes a list of aliases."
        yield Problem("resilient_cache.E001", path, message, example)
    elif not location:
        yield Problem("resilient_cache.E002", path, "names no layer.", example)
    elif isinstance(location, str):
        yield from _alias_rules(alias, path, location, families)
    else:
        for index, name in enumerate(location):
            at = f"{path}[{index}]"
            if not isinstance(name, str):
                message = f"is {describe(name)}, not an alias."
                yield Problem("resilient_cache.E001", at, message, example)
            elif name in location[:index]:
                message = f"names {show(name)} a second time."
                yield Problem("resilient_cache.E004", at, message, "Name each layer once.")
            else:
                yield from _alias_rules(alias, at, name, families)


def _alias_rules(alias: str | None, path: str, name: str, families: Families) -> Iterator[Problem]:
    if name not in families:
        yield unknown_alias(path, f"names {show(name)}, which is not in CACHES.", name, families)
    elif name == alias:
        yield Problem(
            "resilient_cache.E005",
            path,
            f"names {show(name)}, which is this chain itself.",
            "Give the cache itself an alias of its own and name that.",
        )
    elif families[name] is CHAIN:
        yield Problem(
            "resilient_cache.E005",
            path,
            f"names {show(name)}, which is a chain; a chain is not a layer of another chain.",
            f"Name the layers of {show(name)} instead.",
        )


def unknown_alias(path: str, message: str, name: str, families: Families) -> Problem:
    """Return the problem of an alias that is not configured, with what was probably meant."""
    known = [alias for alias, family in families.items() if family is not CHAIN]
    if "://" in name:
        hint = "Give the address an alias of its own in CACHES and name that alias."
    elif all(part.strip() in known for part in name.replace(";", ",").split(",")):
        parts = ", ".join(show(part.strip()) for part in name.replace(";", ",").split(","))
        hint = f"Write a list: [{parts}]."
    else:
        hint = suggestion(name, known) or (
            f"Configured are {', '.join(show(alias) for alias in known)}."
            if known
            else "Give the cache an alias of its own in CACHES."
        )
    return Problem("resilient_cache.E003", path, message, hint)


def _authority_rule(alias: str | None, location: object, families: Families) -> Iterator[Problem]:
    layers = [(name, family) for name in named(location) if (family := families.get(name))]
    shared = [name for name, family in layers if not family.per_process]
    if layers and shared and layers[-1][1].per_process:
        near = [name for name, family in layers if family.per_process]
        order = ", ".join(show(name) for name in (*near, *shared))
        yield Problem(
            "resilient_cache.E006",
            setting_path(alias, "LOCATION"),
            f"ends with {show(layers[-1][0])}, which each process has to itself, behind "
            f"{show(shared[-1])}, which they share: no process would know what is true.",
            f"The last one decides, so write [{order}].",
        )


def _option_rules(alias: str | None, params: Mapping[str, Any], layer: str) -> Iterator[Problem]:
    if "ON_UNAVAILABLE" in params:
        yield Problem(
            "resilient_cache.E007",
            setting_path(alias, "ON_UNAVAILABLE"),
            "stands where nothing reads it.",
            f"Move it to {setting_path(alias, 'OPTIONS', 'ON_UNAVAILABLE')}.",
        )
    yield from _options_of_a_layer(alias, params, layer)
    options = params.get("OPTIONS", {})
    if not isinstance(options, Mapping):
        message = f"is {describe(options)}; it takes a dict of options."
        hint = 'Write for example "OPTIONS": {"ON_UNAVAILABLE": "raise"}.'
        yield Problem("resilient_cache.E007", setting_path(alias, "OPTIONS"), message, hint)
        return
    for name, value in options.items():
        path = setting_path(alias, "OPTIONS", name)
        if name == "ON_UNAVAILABLE":
            yield from _on_unavailable_rule(path, value)
        elif name not in OF_A_LAYER:
            hint = suggestion(name, ("ON_UNAVAILABLE",)) or (
                "A chain has ON_UNAVAILABLE only; what a cache needs stands at its own alias."
            )
            yield Problem("resilient_cache.E007", path, "is not an option of a chain.", hint)


def _on_unavailable_rule(path: str, value: object) -> Iterator[Problem]:
    if value not in ON_UNAVAILABLE:
        message = f"is {describe(value)}; it takes {one_of(ON_UNAVAILABLE)}."
        hint = suggestion(value, ON_UNAVAILABLE) or 'Write "miss", the default, or "raise".'
        yield Problem("resilient_cache.E008", path, message, hint)


def _options_of_a_layer(
    alias: str | None, params: Mapping[str, Any], layer: str
) -> Iterator[Problem]:
    options = params.get("OPTIONS")
    places: list[tuple[tuple[str, ...], Iterable[str]]] = [((), params)]
    if isinstance(options, Mapping):
        places.append((("OPTIONS",), options))
    for keys, names in places:
        for name in names:
            if name in OF_A_LAYER:
                inside = () if name == "RESILIENCE" else (name,)
                yield Problem(
                    "resilient_cache.E009",
                    setting_path(alias, *keys, name),
                    "stands at a chain, which is not guarded itself: its layers are.",
                    f"Move it to {setting_path(layer, 'RESILIENCE', *inside)}.",
                )


def _key_function_rule(alias: str | None, params: Mapping[str, Any]) -> Iterator[Problem]:
    written = params.get("KEY_FUNCTION")
    if written is None or callable(written):
        return
    path = setting_path(alias, "KEY_FUNCTION")
    hint = "Write a function of (key, key_prefix, version), or its dotted path."
    if not isinstance(written, str):
        message = f"is {describe(written)}, not a function."
        yield Problem("resilient_cache.E010", path, message, hint)
        return
    try:
        import_string(written)
    except Exception as error:  # noqa: BLE001 - whatever importing that module does
        message = f"is {show(written)}, which cannot be imported: {show_error(error)}."
        yield Problem("resilient_cache.E010", path, message, hint)
