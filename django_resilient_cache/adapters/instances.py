"""Backend instances of our own, beside the ones that callers get from ``caches``."""

from __future__ import annotations

from typing import Any

from django.core.cache import BaseCache, caches

from django_resilient_cache import conf
from django_resilient_cache.adapters.memcached import raise_on_lost_server
from django_resilient_cache.conf.backends import family_of


def private_instance(alias: str) -> BaseCache:
    """Return a new instance of `alias` that no caller shares, and that raises when it fails.

    It does not warn of keys that Memcached would not take, where the chain does that itself, nor
    where the alias is only ever a lower layer: the nearest one has said so already.
    """
    backend: Any = caches.create_connection(alias)
    raise_on_lost_server(backend)
    if _warns(type(backend)) and (_looks(type(backend)) or not conf.is_nearest(alias)):
        backend.validate_key = _accept
    own: BaseCache = backend
    return own


def is_silenced(backend: BaseCache) -> bool:
    """Whether an own instance like `backend` leaves it to the chain to look at keys."""
    return _warns(type(backend)) and _looks(type(backend))


def _warns(cls: type) -> bool:
    # Not every backend is a BaseCache: django-valkey's are none.
    return getattr(cls, "validate_key", None) is BaseCache.validate_key


def _looks(cls: type) -> bool:
    """Whether it is known to look at every key."""
    return family_of(cls).validates_keys


def _accept(key: Any) -> None:
    """Take the place of BaseCache.validate_key, which does nothing but warn."""
