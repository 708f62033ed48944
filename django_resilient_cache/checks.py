"""`manage.py check`: every mistake in the settings, and what works but probably not as meant.

What is an error here is raised at the first use as well; docs/checks.md explains each id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from django_resilient_cache import conf
from django_resilient_cache.conf import LayerConfig, Problem, check_messages, setting_path
from django_resilient_cache.timeouts.strategy import choose, strange_client

_FOR_REHEARSALS = "django_resilient_cache.testing."
_SESSION_STORES = {
    "django.contrib.sessions.backends.cache.SessionStore": "cache",
    "django.contrib.sessions.backends.cached_db.SessionStore": "cached_db",
}


def register_checks() -> None:
    """Have `manage.py check` run these; for `AppConfig.ready`."""
    for check in (check_chains, check_layers, check_strategies, check_memcached, check_sessions):
        checks.register(check, checks.Tags.caches)
    checks.register(check_rehearsals, checks.Tags.caches, deploy=True)


def check_chains(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check what each chain says about itself, and how its near layers go with the others."""
    problems: list[Problem] = []
    for chain in conf.chain_aliases():
        problems += conf.chain_problems(chain)
    return check_messages([*problems, *_endless_copies()])


def check_layers(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check how each layer is guarded, and that what is guarded is a layer."""
    unused = conf.unused_aliases()
    problems: list[Problem] = []
    for alias in (*conf.layer_aliases(), *unused):
        problems += conf.layer_problems(alias)
    problems += [
        Problem(
            "resilient_cache.W005",
            setting_path(alias, "RESILIENCE"),
            f"guards nothing: no chain names {conf.show(alias)}, so its users call it unguarded.",
            f"Name {conf.show(alias)} in the LOCATION of a chain and use that chain, or remove it.",
        )
        for alias in unused
    ]
    return check_messages(problems)


def check_strategies(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check that the limit of each layer is kept on the client's sockets where it could be."""
    return check_messages(
        Problem(
            "resilient_cache.W004",
            setting_path(layer.alias),
            f"keeps its OPERATION_TIMEOUT by a thread at each call, not on the sockets: {reason}.",
            'Use a client that is known to work; or write "TIMEOUT_STRATEGY": "thread" in '
            f"{setting_path(layer.alias, 'RESILIENCE')} to accept it.",
        )
        for layer in _valid(conf.layer_aliases())
        if (reason := choose(layer)[1]) is not None
    )


def check_memcached(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check that the clients of Memcached layers can be trusted to raise when they fail."""
    return check_messages(
        problem for layer in _valid(conf.layer_aliases()) for problem in _client_problems(layer)
    )


def check_sessions(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check that sessions and the chain they are kept in go together."""
    alias, store = settings.SESSION_CACHE_ALIAS, _session_store()
    if store is None or alias not in conf.chain_aliases():
        return []
    return check_messages(_session_problems(alias, store))


def check_rehearsals(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check, for `--deploy` alone, that no cache is there to fail on demand."""
    return check_messages(
        Problem(
            "resilient_cache.W010",
            setting_path(alias, "BACKEND"),
            f"is {conf.show(backend)}, which fails on demand: it is for rehearsals.",
            "Write the backend itself; keep this one in the settings of tests.",
        )
        for alias, backend in conf.backends().items()
        if backend.startswith(_FOR_REHEARSALS)
    )


def _client_problems(layer: LayerConfig) -> Iterator[Problem]:
    client = strange_client(layer)
    if client is not None:
        yield Problem(
            "resilient_cache.W008",
            setting_path(layer.alias, "BACKEND"),
            f"is {conf.show(layer.backend)}, of whose client ({client}) it is not known whether it "
            "raises when its server is away: if it answers misses, the breaker never opens.",
            "Use Django's PyMemcacheCache; or make sure that it raises, and silence this check.",
        )
    elif layer.family.name == "pylibmc":
        yield Problem(
            "resilient_cache.W011",
            setting_path(layer.alias, "BACKEND"),
            f"is {conf.show(layer.backend)}: pylibmc cannot tell a lost server from a miss, so the "
            "breaker learns of an outage late, and get_many() on several servers may hide it.",
            "Use Django's PyMemcacheCache; with several servers it keeps entries elsewhere.",
        )


def _session_problems(alias: str, store: str) -> Iterator[Problem]:
    if store == "cache":
        yield Problem(
            "resilient_cache.W002",
            "SESSION_ENGINE",
            f"keeps sessions in the cache alone, in the chain {conf.show(alias)}: an outage loses "
            "them, and each new one then tries add() 10,000 times before it fails.",
            'Write SESSION_ENGINE = "django.contrib.sessions.backends.cached_db".',
        )
    for near, shared in _near_copies(alias):
        yield Problem(
            "resilient_cache.W001",
            "SESSION_CACHE_ALIAS",
            f"is {conf.show(alias)}, a chain with {conf.show(near.alias)} above "
            f"{conf.show(shared.alias)}: each process has its own {conf.show(near.alias)}, so it "
            "goes on with the session it has after another process has changed or ended it.",
            f"Give sessions a chain without it, with LOCATION [{conf.show(shared.alias)}].",
        )


def _session_store() -> str | None:
    """Return how sessions use a cache, for engines derived from Django's too; None: not at all."""
    try:
        store = import_module(settings.SESSION_ENGINE).SessionStore
    except Exception:  # noqa: BLE001 - an engine that cannot be imported is not ours to report
        return None
    names = (f"{cls.__module__}.{cls.__qualname__}" for cls in store.__mro__)
    return next((_SESSION_STORES[name] for name in names if name in _SESSION_STORES), None)


def _endless_copies() -> Iterator[Problem]:
    pairs = (pair for chain in conf.chain_aliases() for pair in _near_copies(chain))
    below = {near.alias: (near, shared) for near, shared in pairs}
    for near, shared in below.values():
        if near.own_timeout and near.timeout is None:
            yield Problem(
                "resilient_cache.W006",
                setting_path(near.alias, "TIMEOUT"),
                f"is None, above {conf.show(shared.alias)}: each process has its own "
                f"{conf.show(near.alias)}, where an entry without a TTL then hides every change "
                "that another process makes.",
                "Write the seconds for which an old value does no harm, or leave it out.",
            )


def _near_copies(chain: str) -> Iterator[tuple[LayerConfig, LayerConfig]]:
    """Yield each layer of a chain that is per process, with the shared one below it."""
    layers = list(_valid(conf.layers_of(chain)))
    for position, layer in enumerate(layers):
        shared = [below for below in layers[position + 1 :] if not below.family.per_process]
        if layer.family.per_process and not layer.family.keeps_nothing and shared:
            yield layer, shared[0]


def _valid(aliases: Iterable[str]) -> Iterator[LayerConfig]:
    for alias in aliases:
        with suppress(ImproperlyConfigured):
            yield conf.layer_config(alias)
