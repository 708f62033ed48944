"""The chains under test, under the aliases that Django's cache tests use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CHAIN = "django_resilient_cache.backend.ResilientCache"
DJANGOS_REDIS = "django.core.cache.backends.redis.RedisCache"
Caches = dict[str, dict[str, Any]]

#: A busy machine is no reason for a miss here.
PATIENT = {"OPERATION_TIMEOUT": 10.0}


def local() -> dict[str, Any]:
    return {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "near",
        "OPTIONS": {"MAX_ENTRIES": 10_000},
    }


def redis(url: str, **resilience: Any) -> dict[str, Any]:
    return {"BACKEND": DJANGOS_REDIS, "LOCATION": url, "RESILIENCE": {**PATIENT, **resilience}}


def django_redis(url: str) -> dict[str, Any]:
    return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url, "RESILIENCE": PATIENT}


#: Name -> the layers of the chain, nearest first.
LAYERS: Mapping[str, Callable[[str], Caches]] = {
    "one local layer": lambda url: {"near": local()},
    "local and Redis": lambda url: {"near": local(), "far": redis(url)},
    "local and django-redis": lambda url: {"near": local(), "far": django_redis(url)},
    "Redis on threads": lambda url: {"far": redis(url, TIMEOUT_STRATEGY="thread")},
}


def caches_for(layers: Caches, base: Mapping[str, Mapping[str, Any]]) -> Caches:
    """Return CACHES in which each alias of `base` is a chain of the same layers.

    Where an alias limits its entries, that is for its layers to do: it has local ones of its own.
    """
    setting: Caches = dict(layers)
    for alias, params in base.items():
        options = params.get("OPTIONS")
        if options is None:
            setting[alias] = {"BACKEND": CHAIN, "LOCATION": list(layers), **params}
        else:
            setting[f"{alias} near"] = {**local(), "LOCATION": alias, "OPTIONS": options}
            setting[alias] = {"BACKEND": CHAIN, "LOCATION": [f"{alias} near"]}
    return setting
