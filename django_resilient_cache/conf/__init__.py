"""What the settings say about chains and layers: the only reader of `CACHES`.

Read when asked and never kept, so that a changed setting counts at once.  Every mistake is a
`Problem`, found by the same functions for `manage.py check` and for the first use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from django_resilient_cache.conf.backends import CHAIN, OTHER, Family, family_of
from django_resilient_cache.conf.chain_settings import (
    ChainConfig,
    chain_rules,
    named,
    unknown_alias,
)
from django_resilient_cache.conf.fleet_settings import SETTING as CONTROL_SETTING
from django_resilient_cache.conf.fleet_settings import ControlConfig, control_rules
from django_resilient_cache.conf.fleet_settings import control_config as _control_config
from django_resilient_cache.conf.layer_settings import LayerConfig, layer_options, layer_rules
from django_resilient_cache.conf.options import LayerOptions, options_table
from django_resilient_cache.conf.problems import (
    Problem,
    check_messages,
    describe,
    setting_path,
    show,
    show_error,
)

__all__ = [
    "CONTROL_SETTING",
    "ChainConfig",
    "ControlConfig",
    "LayerConfig",
    "Problem",
    "backends",
    "chain_aliases",
    "chain_config",
    "chain_problems",
    "check_messages",
    "control_config",
    "control_problems",
    "is_nearest",
    "layer_aliases",
    "layer_config",
    "layer_problems",
    "layers_of",
    "options_table",
    "setting_path",
    "show",
    "unused_aliases",
]


def layer_config(alias: str) -> LayerConfig:
    """Return how `alias` is guarded.

    Raises ImproperlyConfigured with all its mistakes, each as `manage.py check` shows it.
    """
    _refuse(layer_problems(alias))
    entry, family = _caches()[alias], _family(alias) or OTHER
    options = cast("LayerOptions", layer_options(alias, entry, family)[0])
    return LayerConfig(
        alias=alias,
        backend=entry["BACKEND"],
        family=family,
        operation_timeout=options.operation_timeout,
        timeout_strategy=options.timeout_strategy,
        max_concurrency=options.max_concurrency,
        breaker=options.breaker_config(),
        own_timeout=_has_timeout(entry),
        timeout=_timeout(entry),
    )


def chain_config(location: object, params: Mapping[str, Any]) -> ChainConfig:
    """Return what a chain that is made with these arguments does.

    Raises ImproperlyConfigured with all its mistakes, each as `manage.py check` shows it; those
    of a layer are raised by `layer_config`.
    """
    alias = _alias_of(location, params)
    _refuse(chain_rules(alias, location, params, _families()))
    return ChainConfig(
        alias=alias,
        layers=tuple(named(location)),
        on_unavailable=params.get("OPTIONS", {}).get("ON_UNAVAILABLE", "miss"),
        own_prefix=bool(params.get("KEY_PREFIX")) or params.get("KEY_FUNCTION") is not None,
        own_version="VERSION" in params,
        own_timeout=_has_timeout(params),
    )


def control_config(seconds: float) -> ControlConfig | None:
    """Return where workers meet; None: they share nothing.  `seconds`: the limit of one call.

    Raises ImproperlyConfigured as `layer_config` does.
    """
    _refuse(control_problems())
    return _control_config(seconds, _families())


def layer_problems(alias: str) -> list[Problem]:
    """Return the mistakes and doubts in how `alias` is configured as a layer."""
    backend = _backend(alias)
    if isinstance(backend, Problem):
        return [backend]
    entry, family = _caches()[alias], family_of(backend)
    return [*layer_rules(alias, entry, family, backend), *layer_options(alias, entry, family)[1]]


def chain_problems(alias: str) -> list[Problem]:
    """Return the mistakes in the chain `alias`; those of its layers are their own."""
    entry = _caches()[alias]
    return list(chain_rules(alias, entry.get("LOCATION", ""), entry, _families()))


def control_problems() -> list[Problem]:
    """Return the mistakes and doubts in where workers are to meet."""
    return list(control_rules(_families(), layer_aliases()))


def chain_aliases() -> list[str]:
    """Return the aliases that are chains."""
    return [alias for alias, family in _families().items() if family is CHAIN]


def layers_of(chain: str) -> list[str]:
    """Return the layers of the chain with this alias, nearest first, as far as they exist."""
    families = _families()
    names = named(_caches()[chain].get("LOCATION"))
    return [name for name in names if name in families and families[name] is not CHAIN]


def layer_aliases() -> list[str]:
    """Return the aliases that are layers of a chain, each once."""
    return list(dict.fromkeys(name for chain in chain_aliases() for name in layers_of(chain)))


def is_nearest(alias: str) -> bool:
    """Return whether `alias` is the nearest layer of some chain."""
    return any(layers_of(chain)[:1] == [alias] for chain in chain_aliases())


def unused_aliases() -> list[str]:
    """Return the aliases that say how they are guarded, but that no chain names."""
    used = {*layer_aliases(), *chain_aliases()}
    return [
        alias for alias, entry in _caches().items() if "RESILIENCE" in entry if alias not in used
    ]


def backends() -> dict[str, str]:
    """Return each alias with its BACKEND as written."""
    return {alias: str(entry.get("BACKEND")) for alias, entry in _caches().items()}


def _caches() -> Mapping[str, Mapping[str, Any]]:
    return cast("Mapping[str, Mapping[str, Any]]", settings.CACHES)


def _families() -> dict[str, Family | None]:
    return {alias: _family(alias) for alias in _caches()}


def _family(alias: str) -> Family | None:
    backend = _backend(alias)
    return None if isinstance(backend, Problem) else family_of(backend)


def _backend(alias: str) -> type | Problem:
    """Return the class of an alias, or why it cannot be told."""
    if alias not in _caches():
        return unknown_alias(setting_path(alias), "is not configured.", alias, _families())
    path, written = setting_path(alias, "BACKEND"), _caches()[alias].get("BACKEND")
    hint = "Write the dotted path of a cache backend whose package is installed."
    if not isinstance(written, str):
        message = f"is {describe(written)}; it takes a dotted path."
        return Problem("resilient_cache.E020", path, message, hint)
    try:
        return cast("type", import_string(written))
    except Exception as error:  # noqa: BLE001 - whatever importing that module does
        message = f"is {show(written)}, which cannot be imported: {show_error(error)}."
        return Problem("resilient_cache.E020", path, message, hint)


def _alias_of(location: object, params: Mapping[str, Any]) -> str | None:
    """Return the alias that a chain was made for; Django does not tell a backend."""
    found = None
    for alias, entry in _caches().items():
        rest = {key: value for key, value in entry.items() if key not in ("BACKEND", "LOCATION")}
        if entry.get("LOCATION", "") == location and rest == params and _family(alias) is CHAIN:
            if entry.get("LOCATION") is location:
                return alias
            found = found or alias
    return found


def _refuse(problems: Iterable[Problem]) -> None:
    errors = [str(problem) for problem in problems if problem.is_error]
    if errors:
        raise ImproperlyConfigured("\n".join(errors))


def _has_timeout(entry: Mapping[str, Any]) -> bool:
    return "TIMEOUT" in entry or "timeout" in entry


def _timeout(entry: Mapping[str, Any]) -> float | None:
    """Return the TIMEOUT as Django's BaseCache reads it."""
    written = entry.get("timeout", entry.get("TIMEOUT"))
    try:
        return None if written is None else int(written)
    except (TypeError, ValueError):
        return 300
