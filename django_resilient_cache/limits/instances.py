"""Backend instances of our own, beside the ones that callers get from ``caches``."""

from __future__ import annotations

from typing import Any

from django.core.cache import BaseCache, caches

from django_resilient_cache import conf


def own_instance(alias: str) -> BaseCache:
    """Return a new instance of `alias` that no caller shares.

    Where the alias is only ever a lower layer it does not warn of keys that Memcached would not
    take: the nearest layer has said so already.
    """
    raw: BaseCache = caches.create_connection(alias)
    # Not every backend is a BaseCache: django-valkey's are none.
    warns = getattr(type(raw), "validate_key", None) is BaseCache.validate_key
    if warns and not conf.is_nearest(alias):
        raw.validate_key = _accept  # type: ignore[method-assign]
    return raw


def _accept(key: Any) -> None:
    """Take the place of BaseCache.validate_key, which does nothing but warn."""
