"""Where workers meet: RESILIENT_CACHE_CONTROL_ALIAS, and what is wrong or doubtful about it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import salted_hmac

from django_resilient_cache.breaker.states import BreakerConfig
from django_resilient_cache.conf.backends import CHAIN, Family
from django_resilient_cache.conf.chain_settings import Families
from django_resilient_cache.conf.layer_settings import LayerConfig
from django_resilient_cache.conf.problems import Problem, describe, show, suggestion

SETTING = "RESILIENT_CACHE_CONTROL_ALIAS"

#: Calls to the board in flight at one time, where they are made on threads.
_CONCURRENCY = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlConfig:
    """Where workers meet."""

    layer: LayerConfig | None
    """The alias that is the board, and how it is called; None: a private directory."""
    keeps_time: bool
    """Whether the board ends entries by a clock of its own."""
    project: str
    """Tells projects on one board apart; the same in all processes of one project."""
    settings_module: str
    path: str
    """Where the project is on this host."""


def control_config(seconds: float, families: Families) -> ControlConfig | None:
    """Return where workers meet; None: nowhere.  `seconds`: the limit of a call to an alias.

    What is wrong about it is for `control_rules`.
    """
    alias = getattr(settings, SETTING, "")
    if alias is None:
        return None
    family = families[alias] if alias else None
    module = _settings_module()
    return ControlConfig(
        layer=_as_layer(alias, family, seconds) if family else None,
        keeps_time=family is not None and family.asks_server,
        project=_project(module),
        settings_module=module,
        path=_project_path(module),
    )


def control_rules(families: Families, layers: Iterable[str]) -> Iterator[Problem]:
    """Yield what is wrong or doubtful about the board's alias; `layers`: all layers' aliases."""
    alias = getattr(settings, SETTING, "")
    if alias is None or not hasattr(settings, SETTING):
        return
    known = [name for name, family in families.items() if family is not CHAIN]
    hint = "Name an alias in CACHES that all workers share; None: workers share nothing."
    if not isinstance(alias, str):
        message = f"is {describe(alias)}; it takes an alias."
        yield Problem("resilient_cache.E040", SETTING, message, hint)
    elif alias not in families:
        message = f"is {show(alias)}, which is not in CACHES."
        yield Problem("resilient_cache.E040", SETTING, message, suggestion(alias, known) or hint)
    elif families[alias] is None:
        message = f"is {show(alias)}, whose BACKEND cannot be imported."
        yield Problem("resilient_cache.E040", SETTING, message, hint)
    else:
        yield from _kind_rules(alias, families, [layer for layer in layers if layer in families])


def _kind_rules(alias: str, families: Families, layers: list[str]) -> Iterator[Problem]:
    family = families[alias]
    if family is CHAIN:
        yield Problem(
            "resilient_cache.E042",
            SETTING,
            f"is {show(alias)}, a chain: what it answers while a layer is away is this process's "
            "own view.",
            "Name an alias whose backend all workers share.",
        )
    elif family is not None and family.per_process:
        yield Problem(
            "resilient_cache.E041",
            SETTING,
            f"is {show(alias)}, which each process has to itself: no worker would see another.",
            "Name an alias whose backend all workers share, or leave the setting out: workers of "
            "one host then meet in a private directory.",
        )
    elif alias in layers:
        yield Problem(
            "resilient_cache.W007",
            SETTING,
            f"is {show(alias)}, a layer of a chain: clear() empties the board too, and an outage "
            "of the layer takes the board along, when it is needed most.",
            "Name an alias of its own: another server, another database number, or a database.",
        )
    elif twins := [layer for layer in layers if _same_place(alias, layer, families)]:
        yield Problem(
            "resilient_cache.W007",
            SETTING,
            f"is {show(alias)}, which has the LOCATION of the layer {show(twins[0])}: clear() there "
            "empties the board too, and an outage takes it along, when it is needed most.",
            "Give it a LOCATION of its own: another server, another database number, or a database.",
        )


def _same_place(alias: str, layer: str, families: Families) -> bool:
    """Whether two aliases keep their entries in one place, as far as LOCATION tells."""
    mine, other = settings.CACHES[alias], settings.CACHES[layer]
    per_process = families[layer] is None or families[layer].per_process  # type: ignore[union-attr]  # seen by `is None`
    places = _places(mine) & _places(other)
    return not per_process and bool(places - {""})


def _places(entry: Mapping[str, Any]) -> set[str]:
    location = entry.get("LOCATION", "")
    parts = location if isinstance(location, list | tuple) else str(location).split(",")
    return {str(part).strip().rstrip("/") for part in parts}


def _as_layer(alias: str, family: Family, seconds: float) -> LayerConfig:
    """Return how the board's alias is called; whether it is a layer too makes no difference."""
    entry: Mapping[str, Any] = settings.CACHES[alias]
    resilience: object = entry.get("RESILIENCE")
    strategy = resilience.get("TIMEOUT_STRATEGY") if isinstance(resilience, Mapping) else None
    return LayerConfig(
        alias=alias,
        backend=entry["BACKEND"],
        family=family,
        operation_timeout=seconds,
        timeout_strategy="thread" if strategy == "thread" else "auto",
        max_concurrency=_CONCURRENCY,
        breaker=BreakerConfig(),
        own_timeout=False,
        timeout=None,
    )


def _project(module: str) -> str:
    # The algorithm is named: Django's default changes, and all versions of a project are one fleet.
    mac = salted_hmac("django_resilient_cache.fleet", module, _secret(), algorithm="sha256")
    return mac.hexdigest()[:16]


def _settings_module() -> str:
    module: Any = settings.SETTINGS_MODULE  # None where settings.configure() made them
    return str(module or os.environ.get("DJANGO_SETTINGS_MODULE", ""))


def _project_path(module: str) -> str:
    """Return the directory of the settings; without any, the working directory."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return str(Path(file).resolve().parent if file else Path.cwd())


def _secret() -> str:
    try:
        return str(settings.SECRET_KEY)
    except ImproperlyConfigured:  # a script's settings need none
        return ""
