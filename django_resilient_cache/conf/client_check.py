"""Whether the client of an alias can be made at all; nothing is connected to.

Clients are made lazily, so that a wrong address or option shows in the first call only, where it
looks like one more failure of the server.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django_resilient_cache.conf.backends import CHAIN, Family
from django_resilient_cache.conf.masking import HIDDEN, masked, masked_in_prose
from django_resilient_cache.conf.problems import Problem, describe, setting_path

Entry = Mapping[str, Any]
#: Where a setting stands in an entry of CACHES.
Keys = tuple[Any, ...]

_SECRET = re.compile("token|secret|pass|credential|user", re.IGNORECASE)

#: What an address looks like, for hints and to tell whether the address is what is wrong.
_EXAMPLES = {
    "redis": "redis://cache:6379/0",
    "django_redis": "redis://cache:6379/0",
    "django_valkey": "valkey://cache:6379/0",
    "pymemcache": "cache:11211",
    "pylibmc": "cache:11211",
}


def building_rules(alias: str, entry: Entry, family: Family, backend: type) -> Iterator[Problem]:
    """Yield what keeps the client of an alias from being made, if anything does."""
    if family is CHAIN:
        return
    error = _error_of(entry, family, backend)
    if error is None:
        return
    keys, example = _culprit(entry, family, backend, error), _EXAMPLES.get(family.name)
    hint = "Correct it, or leave it out."
    if keys == () or keys[0] == "LOCATION":
        hint = f'Write for example "{example}".' if keys else "Correct what the error names."
    yield Problem(
        "resilient_cache.E032",
        setting_path(alias, *keys),
        f"{_shown(entry, keys)}no client can be made: {_told(error, entry, keys)}.",
        hint,
    )


def _error_of(entry: Entry, family: Family, backend: type) -> Exception | None:
    """Return what making the client raises; None: nothing."""
    params = {name: _copied(value) for name, value in entry.items() if name != "BACKEND"}
    try:
        raw = backend(params.pop("LOCATION", ""), params)
        _MAKE.get(family.name, _nothing_more)(raw)
    except Warning:  # where warnings are errors, one of these is not ours to report
        return None
    except Exception as error:  # noqa: BLE001 - whatever the client raises
        return error
    return None


def _copied(value: Any) -> Any:
    """Return a copy of nested dicts: clients write defaults into theirs."""
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    return value


# Making clients, as far as that goes without connecting


def _nothing_more(raw: Any) -> None:
    """Of other backends only the constructor is known not to connect."""


def _make_redis(raw: Any) -> None:
    client = raw._cache
    if hasattr(client, "_pool_class"):
        for server in client._servers:
            client._pool_class.from_url(server, **client._pool_options).make_connection()


def _make_django_redis(raw: Any) -> None:
    client = raw.client
    factory: Any = getattr(client, "connection_factory", None)
    if not _comes_from(type(factory), "django_redis.pool", "django_valkey.pool"):
        return  # Cluster's clients connect when they are made
    for server in client._server:
        pool = factory.get_connection_pool(factory.make_connection_params(server))
        pool.make_connection()
        # A client of Cluster would connect; that its options are some is all there is to see.
        prefix = "redis" if hasattr(factory, "redis_client_cls") else "base"
        cls = getattr(factory, f"{prefix}_client_cls")
        options = getattr(factory, f"{prefix}_client_cls_kwargs")
        inspect.signature(cls).bind(connection_pool=pool, **options)


def _make_memcached(raw: Any) -> None:
    if not _comes_from(raw._class, "pymemcache.client.hash", "pylibmc.client"):
        return
    for client in getattr(raw._cache, "clients", {}).values():
        if hasattr(client, "_create_client"):  # a pool makes its first one later
            client._create_client()


def _comes_from(cls: Any, *modules: str) -> bool:
    return any(base.__module__ in modules for base in getattr(cls, "__mro__", ()))


_MAKE: dict[str, Callable[[Any], None]] = {
    "redis": _make_redis,
    "django_redis": _make_django_redis,
    "django_valkey": _make_django_redis,
    "pymemcache": _make_memcached,
    "pylibmc": _make_memcached,
}


# Finding the setting


def _culprit(entry: Entry, family: Family, backend: type, error: Exception) -> Keys:
    """Return where the setting stands without which `error` does not come; (): nobody knows."""

    def fails_with(changed: Entry) -> str:
        return repr(_error_of(changed, family, backend))

    example = _EXAMPLES.get(family.name)
    if example is not None and fails_with({**entry, "LOCATION": example}) == "None":
        return _culprit_location(
            entry.get("LOCATION"), lambda one: fails_with({**entry, "LOCATION": one})
        )
    for keys in _settings(entry):
        if fails_with(_without(entry, keys)) != repr(error):
            return keys
    return ()


def _culprit_location(location: Any, fails_with: Callable[[Any], str]) -> Keys:
    if isinstance(location, list | tuple):
        for index, one in enumerate(location):
            if fails_with([one]) != "None":
                return ("LOCATION", index)
    return ("LOCATION",)


def _settings(entry: Entry, at: Keys = ()) -> Iterator[Keys]:
    """Yield where each setting stands, those inside others first."""
    for name, value in entry.items():
        if at or name not in ("BACKEND", "LOCATION", "RESILIENCE"):
            if isinstance(value, Mapping):
                yield from _settings(value, (*at, name))
            yield (*at, name)


def _without(entry: Entry, keys: Keys) -> Entry:
    first, *rest = keys
    inside = {first: _without(entry[first], tuple(rest))} if rest else {}
    return {name: value for name, value in entry.items() if name != first} | inside


# Showing it


def _shown(entry: Entry, keys: Keys) -> str:
    """Return the first half of the message: the value, without what may be secret."""
    if not keys:
        return "is an alias for which "
    return f"is {_shown_value(keys, _at(entry, keys))}, with which "


def _shown_value(keys: Keys, value: Any) -> str:
    if isinstance(value, str) and keys[0] == "LOCATION":
        return f'"{masked(value)}"'
    # A dotted path is what a text mostly is; of others even the name may be a misspelt "password".
    secret = _SECRET.search(str(keys[-1])) or (
        isinstance(value, str) and not re.fullmatch(r"\w+(\.\w+)+", value)
    )
    return HIDDEN if secret else describe(value)


def _told(error: Exception, entry: Entry, keys: Keys) -> str:
    """Return the error, without what it quotes of a value that is not shown."""
    values = [(("LOCATION",), str(entry.get("LOCATION"))), (keys, str(_at(entry, keys)))]
    text = re.sub(
        "'([^']+)'",
        lambda quoted: f"'{HIDDEN}'" if _hides(values, quoted[1]) else quoted[0],
        masked_in_prose(str(error).removesuffix(".")),
    )
    return f'{type(error).__name__} "{text}"'


def _hides(values: list[tuple[Keys, str]], part: str) -> bool:
    return any(
        part in value and part not in _shown_value(keys, value) for keys, value in values if keys
    )


def _at(entry: Any, keys: Keys) -> Any:
    for key in keys:
        entry = entry.get(key) if isinstance(entry, Mapping) else entry[key]
    return entry
