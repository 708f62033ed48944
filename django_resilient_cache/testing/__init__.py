"""`FaultyCache`: a cache that fails on demand, to rehearse an outage in a project's own tests.

It stands before another alias and passes every call on, until it is told what to do instead::

    CACHES = {
        "default": {
            "BACKEND": "django_resilient_cache.backend.ResilientCache",
            "LOCATION": ["memory", "redis"],
        },
        "memory": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "redis": {
            "BACKEND": "django_resilient_cache.testing.FaultyCache",
            "LOCATION": "real redis",
            "RESILIENCE": {"OPERATION_TIMEOUT": 0.1, "MAX_FAILURES": 3},
        },
        "real redis": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://..."},
    }

A test then asks for the faults of that alias::

    from django_resilient_cache.testing import faults

    def test_the_front_page_does_without_redis(client):
        with faults("redis").fail():  # refused, until the block is left
            assert client.get("/").status_code == 200

    def test_a_slow_redis_does_not_slow_the_front_page(client):
        redis = faults("redis")
        redis.hang(operations=["get"], keys="views.*", probability=0.5, seed=1)
        ...
        redis.heal()  # what hung goes on

Faults hold in all threads of this process, for every `FaultyCache` before the same alias, until
they are healed or ``CACHES`` changes (`override_settings`).  Where several match a call, each has
its say, in the order in which they were asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django.core.cache import BaseCache, caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from django_resilient_cache.outcome import Kind
from django_resilient_cache.testing.fault import Effect, Fault, Faults
from django_resilient_cache.ttl import get_with_ttl

__all__ = ["Effect", "Fault", "Faults", "FaultyCache", "faults"]

T = TypeVar("T")

_faults: dict[str, Faults] = {}


def faults(alias: str) -> Faults:
    """Return what goes wrong with the `FaultyCache` of this alias.

    Raises ImproperlyConfigured where the alias is none.
    """
    cache = caches[alias]
    if not isinstance(cache, FaultyCache):
        raise ImproperlyConfigured(
            f'CACHES["{alias}"] is not a FaultyCache, nothing can be told to fail there; '
            'write "BACKEND": "django_resilient_cache.testing.FaultyCache"'
        )
    return _of(cache.location)


def _of(location: str) -> Faults:
    return _faults.setdefault(location, Faults())


def _caches_changed(*, setting: str, **kwargs: object) -> None:
    if setting == "CACHES":
        for old in list(_faults.values()):
            old.heal()
        _faults.clear()


setting_changed.connect(_caches_changed, dispatch_uid="django_resilient_cache.testing")


class FaultyCache(BaseCache):
    """Passes calls on to the alias in ``LOCATION`` unless told otherwise: see the module.

    Keys, versions, prefixes and defaults are that alias's own.
    """

    def __init__(self, location: Any, params: dict[str, Any]) -> None:
        super().__init__({})
        #: The alias of the cache behind this one.
        self.location = str(location)

    @property
    def inner(self) -> BaseCache:
        """The cache behind this one, in the current thread or task."""
        inner: BaseCache = caches[self.location]
        return inner

    def _call(self, operation: str, keys: Iterable[Any], make: Callable[[], T]) -> T:
        return _of(self.location).call(operation, keys, make)

    def get(self, key: Any, default: Any = None, version: Any = None) -> Any:
        return self._call("get", (key,), lambda: self.inner.get(key, default, version=version))

    def get_many(self, keys: Any, version: Any = None) -> Any:
        keys = list(keys)
        return self._call("get_many", keys, lambda: self.inner.get_many(keys, version=version))

    def has_key(self, key: Any, version: Any = None) -> bool:
        return self._call("has_key", (key,), lambda: self.inner.has_key(key, version=version))

    def pttl(self, key: Any, version: Any = None) -> float | None:
        """Return the milliseconds left of an entry, as django-redis does; negative: unknown."""
        outcome = self._call("pttl", (key,), lambda: get_with_ttl(self.inner, key, version))
        if outcome.kind is not Kind.HIT:
            return 0.0
        return None if outcome.ttl is None else outcome.ttl * 1000

    def set(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> None:
        return self._call(
            "set", (key,), lambda: self.inner.set(key, value, timeout, version=version)
        )

    def set_many(self, data: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> Any:
        return self._call(
            "set_many", data, lambda: self.inner.set_many(data, timeout, version=version)
        )

    def delete(self, key: Any, version: Any = None) -> bool:
        return self._call("delete", (key,), lambda: self.inner.delete(key, version=version))

    def delete_many(self, keys: Any, version: Any = None) -> None:
        keys = list(keys)
        return self._call(
            "delete_many", keys, lambda: self.inner.delete_many(keys, version=version)
        )

    def clear(self) -> None:
        return self._call("clear", (), self.inner.clear)

    def add(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> bool:
        return self._call(
            "add", (key,), lambda: self.inner.add(key, value, timeout, version=version)
        )

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        return self._call("touch", (key,), lambda: self.inner.touch(key, timeout, version=version))

    def incr(self, key: Any, delta: Any = 1, version: Any = None) -> Any:
        return self._call("incr", (key,), lambda: self.inner.incr(key, delta, version=version))

    def decr(self, key: Any, delta: Any = 1, version: Any = None) -> Any:
        return self._call("decr", (key,), lambda: self.inner.decr(key, delta, version=version))

    def make_key(self, key: Any, version: Any = None) -> Any:
        return self.inner.make_key(key, version=version)

    def close(self, **kwargs: Any) -> None:
        """Nothing to close: Django closes the cache behind, which is an alias of its own."""

    def __getattribute__(self, name: str) -> Any:
        if name in _OF_THE_INNER:
            return getattr(self.inner, name)
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)


#: What BaseCache keeps on the instance and what here is the other cache's.
_OF_THE_INNER = frozenset({"default_timeout", "key_func", "key_prefix", "version"})
