"""`FaultyCache`: stands before another alias and passes calls on, unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.core.cache import BaseCache, caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from django_resilient_cache.adapters.commands import GetWithTtl
from django_resilient_cache.adapters.outcome import Kind
from django_resilient_cache.conf.problems import closest, show
from django_resilient_cache.testing.active_faults import Faults
from django_resilient_cache.testing.shared_faults import SharedFaults

T = TypeVar("T")

#: By the alias behind and the directory that processes share, if any.
_faults: dict[tuple[str, str | None], Faults] = {}

#: What BaseCache keeps on the instance and what here is the other cache's.
_OF_THE_INNER = frozenset({"default_timeout", "key_func", "key_prefix", "version"})


def faults(alias: str) -> Faults:
    """Return what goes wrong with the `FaultyCache` of this alias.

    Raises ImproperlyConfigured where the alias is none, or its settings are wrong.
    """
    cache = caches[alias] if alias in caches else None  # noqa: SIM401 - it has no get()
    if isinstance(cache, FaultyCache):
        return cache.faults
    faulty = [name for name in caches if _is_faulty(name)]
    likely = closest(alias, faulty) or (faulty[0] if len(faulty) == 1 else None)
    what = "is not a FaultyCache" if cache is not None else "is not configured"
    hint = (
        f'did you mean "{likely}"?'
        if likely
        else 'write "BACKEND": "django_resilient_cache.testing.FaultyCache" there'
    )
    raise ImproperlyConfigured(
        f"CACHES[{show(alias)}] {what}, nothing can be told to fail there; {hint}"
    )


def _is_faulty(alias: str) -> bool:
    backend = str(caches.settings[alias].get("BACKEND"))
    return backend.startswith(__package__ or "")


def _leads_back(alias: str) -> bool:
    """Whether the cache behind `alias` is, in the end, itself."""
    seen: list[str] = []
    while alias in caches and isinstance(cache := caches[alias], FaultyCache):
        if alias in seen:
            return True
        seen.append(alias)
        alias = cache.location
    return False


def discard_all() -> None:
    """End all faults that were begun in this process; make nothing that hangs or is late.

    Calls are counted anew.
    """
    for known in list(_faults.values()):
        known.discard()
        known.calls.clear()


def _caches_changed(*, setting: str, **kwargs: object) -> None:
    if setting == "CACHES":
        discard_all()  # what went on would now go to other caches
        _faults.clear()


setting_changed.connect(_caches_changed, dispatch_uid="django_resilient_cache.testing")


class FaultyCache(BaseCache):
    """Passes calls on to the alias in ``LOCATION`` unless told otherwise by `faults`.

    Keys, versions, prefixes and defaults are that alias's own, and so is every attribute that
    BaseCache does not have.  ``OPTIONS["SHARED"]``: the directory of `SharedFaults`.
    """

    def __init__(self, location: Any, params: dict[str, Any]) -> None:
        super().__init__({})
        #: The alias of the cache behind this one.
        self.location = location
        self._params = params
        self._made_faults: Faults | None = None

    @property
    def inner(self) -> BaseCache:
        """The cache behind this one, in the current thread or task."""
        inner: BaseCache = caches[self.location]
        return inner

    @property
    def faults(self) -> Faults:
        """What goes wrong; raises ImproperlyConfigured where the settings are wrong."""
        if self._made_faults is None:
            shared = self._checked()
            found = _faults.get((self.location, shared))
            if found is None:
                made = Faults() if shared is None else SharedFaults(shared)
                found = _faults.setdefault((self.location, shared), made)
            self._made_faults = found
        return self._made_faults

    def _checked(self) -> str | None:
        """Return the directory to share; checked at the first use, as constructing never raises."""
        location, options = self.location, self._params.get("OPTIONS") or {}
        if not isinstance(location, str) or location not in caches:
            likely = closest(location, caches)
            raise ImproperlyConfigured(
                f"LOCATION of a FaultyCache is {show(location)}; write the alias of the cache "
                "behind it" + (f', perhaps "{likely}"' if likely else "")
            )
        if _leads_back(location):
            raise ImproperlyConfigured(
                f"LOCATION of a FaultyCache is {show(location)}, which leads back to itself; "
                "write the alias of the cache behind it"
            )
        if unknown := sorted(set(options) - {"SHARED"}):
            raise ImproperlyConfigured(
                f"OPTIONS of the FaultyCache before {show(location)} has {unknown[0]!r}; it takes "
                "SHARED only, what the cache behind needs stands at its own alias"
            )
        shared = options.get("SHARED")
        return None if shared is None else str(shared)

    def _call(self, operation: str, keys: Iterable[Any], version: Any, make: Callable[[], T]) -> T:
        def present(key: Any) -> bool:
            return bool(self.inner.has_key(key, version=version))

        return self.faults.call(operation, keys, make, present)

    def get(self, key: Any, default: Any = None, version: Any = None) -> Any:
        return self._call(
            "get", (key,), version, lambda: self.inner.get(key, default, version=version)
        )

    def get_many(self, keys: Any, version: Any = None) -> Any:
        keys = list(keys)
        return self._call(
            "get_many", keys, version, lambda: self.inner.get_many(keys, version=version)
        )

    def has_key(self, key: Any, version: Any = None) -> bool:
        return self._call(
            "has_key", (key,), version, lambda: self.inner.has_key(key, version=version)
        )

    def pttl(self, key: Any, version: Any = None) -> float | None:
        """Return the milliseconds left of an entry, as django-redis does; negative: unknown."""
        outcome = self._call(
            "pttl", (key,), version, lambda: GetWithTtl(key, version).run(self.inner)
        )
        if outcome.kind is not Kind.HIT:
            return 0.0
        return None if outcome.ttl is None else outcome.ttl * 1000

    def set(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> None:
        return self._call(
            "set", (key,), version, lambda: self.inner.set(key, value, timeout, version=version)
        )

    def set_many(self, data: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> Any:
        data = dict(data)
        return self._call(
            "set_many", data, version, lambda: self.inner.set_many(data, timeout, version=version)
        )

    def delete(self, key: Any, version: Any = None) -> bool:
        return self._call(
            "delete", (key,), version, lambda: self.inner.delete(key, version=version)
        )

    def delete_many(self, keys: Any, version: Any = None) -> None:
        keys = list(keys)
        return self._call(
            "delete_many", keys, version, lambda: self.inner.delete_many(keys, version=version)
        )

    def clear(self) -> None:
        # Not the method itself: made late it is made by another thread, with its own instance.
        return self._call("clear", (), None, lambda: self.inner.clear())  # noqa: PLW0108 - bound late

    def add(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> bool:
        return self._call(
            "add", (key,), version, lambda: self.inner.add(key, value, timeout, version=version)
        )

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        return self._call(
            "touch", (key,), version, lambda: self.inner.touch(key, timeout, version=version)
        )

    def incr(self, key: Any, delta: Any = 1, version: Any = None) -> Any:
        return self._call(
            "incr", (key,), version, lambda: self.inner.incr(key, delta, version=version)
        )

    def decr(self, key: Any, delta: Any = 1, version: Any = None) -> Any:
        return self._call(
            "decr", (key,), version, lambda: self.inner.decr(key, delta, version=version)
        )

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


def _by_thread(name: str) -> Callable[..., Any]:
    """Return the async method of this name: its sync method, in Django's thread for sync code.

    BaseCache puts some of them together from others (`aincr` from a get and a set): a fault would
    meet other operations than were asked for.
    """

    @wraps(getattr(BaseCache, f"a{name}"))
    async def method(self: FaultyCache, *args: Any, **kwargs: Any) -> Any:
        return await sync_to_async(getattr(self, name))(*args, **kwargs)

    return method


for _name in (
    *("has_key", "incr", "decr", "get_many", "set_many", "delete_many"),
    *("get_or_set", "incr_version", "decr_version"),
):
    setattr(FaultyCache, f"a{_name}", _by_thread(_name))
