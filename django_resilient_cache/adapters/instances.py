"""Backend instances of our own, beside the ones that callers get from ``caches``."""

from __future__ import annotations

from typing import Any

from django.core.cache import BaseCache, caches

from django_resilient_cache import conf
from django_resilient_cache.adapters.memcached import tell_the_truth
from django_resilient_cache.conf.backends import family_of


def own_instance(alias: str) -> BaseCache:
    """Return a new instance of `alias` that no caller shares, and that raises when it fails.

    It does not warn of keys that Memcached would not take, where the chain does that itself, nor
    where the alias is only ever a lower layer: the nearest one has said so already.
    """
    raw: Any = caches.create_connection(alias)
    tell_the_truth(raw)
    if _warns(type(raw)) and (_looks(type(raw)) or not conf.is_nearest(alias)):
        raw.validate_key = _accept
    own: BaseCache = raw
    return own


def is_silenced(raw: BaseCache) -> bool:
    """Whether an own instance like `raw` leaves it to the chain to look at keys."""
    return _warns(type(raw)) and _looks(type(raw))


def _warns(cls: type) -> bool:
    # Not every backend is a BaseCache: django-valkey's are none.
    return getattr(cls, "validate_key", None) is BaseCache.validate_key


def _looks(cls: type) -> bool:
    """Whether it is known to look at every key."""
    return family_of(cls).name in ("local_memory", "file", "database", "redis", "dummy")


def _accept(key: Any) -> None:
    """Take the place of BaseCache.validate_key, which does nothing but warn."""
