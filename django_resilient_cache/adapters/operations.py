"""What can be asked of one layer: a raw backend in, an `Outcome` out.

Each runs inside the layer's limit, perhaps on another thread; its name is the operation's name in
log lines and errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeVar

from django.core.cache import BaseCache
from django.db import DataError

from django_resilient_cache.adapters.error_classification import ErrorClass, classify
from django_resilient_cache.adapters.outcome import DONE, MISS, Kind, Outcome
from django_resilient_cache.adapters.transactions import errors_of, in_savepoint
from django_resilient_cache.conf.backends import family_of
from django_resilient_cache.exceptions import ResilientCacheError

T = TypeVar("T")

#: Told apart from every value that can be cached, ``None`` included.
MISSING: Any = object()

#: `type`, as caches of functions will have it for a key.
_class: Callable[[Any], Any] = type

#: Looking up a member costs as much as the rest of the operation.
_HIT, _DONE = Kind.HIT, Kind.DONE


def get(backend: BaseCache, key: Any, version: Any) -> Outcome:
    """HIT with the value, or MISS."""
    value = backend.get(key, MISSING, version=version)
    return MISS if value is MISSING else Outcome(_HIT, value)


def get_many(backend: BaseCache, keys: Iterable[Any], version: Any) -> Outcome:
    """DONE with a dictionary of the entries found; `error`: why others cannot be read back."""
    try:
        return Outcome(_DONE, backend.get_many(list(keys), version=version))
    except Exception as error:
        if classify(error, "get_many") is not ErrorClass.UNDECODABLE:
            raise
        return Outcome(_DONE, readable(backend, keys, version), error=error)


def readable(backend: BaseCache, keys: Iterable[Any], version: Any) -> dict[Any, Any]:
    """Return the entries that can be read back; one that cannot must not hide the others."""
    found = {}
    for key in keys:
        try:
            value = backend.get(key, MISSING, version=version)
        except Exception as error:
            if classify(error, "get") is not ErrorClass.UNDECODABLE:
                raise
        else:
            if value is not MISSING:
                found[key] = value
    return found


def has_key(backend: BaseCache, key: Any, version: Any) -> Outcome:
    """HIT (with True) or MISS."""
    return Outcome(_HIT, True) if backend.has_key(key, version=version) else MISS


def set(backend: BaseCache, key: Any, value: Any, timeout: Any, version: Any) -> Outcome:
    """DONE."""
    if _swallows(_class(backend)):
        _set_aloud(backend, key, value, timeout, version)
    else:
        backend.set(key, value, timeout, version=version)
    return DONE


def add(backend: BaseCache, key: Any, value: Any, timeout: Any, version: Any) -> Outcome:
    """DONE with whether the key was free."""
    return Outcome(_DONE, bool(backend.add(key, value, timeout, version=version)))


def touch(backend: BaseCache, key: Any, timeout: Any, version: Any) -> Outcome:
    """DONE with whether the key was there."""
    return Outcome(_DONE, bool(backend.touch(key, timeout, version=version)))


def delete(backend: BaseCache, key: Any, version: Any) -> Outcome:
    """DONE with whether the key was there."""
    return Outcome(_DONE, bool(_apart(backend, backend.delete, key, version=version)))


def incr(backend: BaseCache, key: Any, delta: Any, version: Any) -> Outcome:
    """DONE with the new value; raises ValueError where the key is missing."""
    return Outcome(_DONE, backend.incr(key, delta, version=version))


def decr(backend: BaseCache, key: Any, delta: Any, version: Any) -> Outcome:
    """DONE with the new value; raises ValueError where the key is missing."""
    return Outcome(_DONE, backend.decr(key, delta, version=version))


def set_many(backend: BaseCache, data: Mapping[Any, Any], timeout: Any, version: Any) -> Outcome:
    """DONE with the keys that the layer did not take."""
    if _swallows(_class(backend)):
        for key, value in data.items():  # as DatabaseCache does it
            _set_aloud(backend, key, value, timeout, version)
        return Outcome(_DONE, [])
    return Outcome(_DONE, backend.set_many(dict(data), timeout, version=version) or [])


def delete_many(backend: BaseCache, keys: Iterable[Any], version: Any) -> Outcome:
    """DONE."""
    _apart(backend, backend.delete_many, list(keys), version=version)
    return DONE


def clear(backend: BaseCache) -> Outcome:
    """DONE."""
    _apart(backend, backend.clear)
    return DONE


def missed(backend: BaseCache, change: Callable[..., Outcome], args: tuple[Any, ...]) -> Outcome:
    """Tell the layer that it misses this change; it is not called."""
    raise NotImplementedError


def fill(backend: BaseCache, entries: Iterable[tuple[Any, Any, Any]], version: Any) -> Outcome:
    """Write (key, value, timeout) entries that were read below; DONE."""
    for key, value, timeout in entries:
        set(backend, key, value, timeout, version)
    return DONE


def fill_free(backend: BaseCache, entries: Iterable[tuple[Any, Any, Any]], version: Any) -> Outcome:
    """As `fill`, for a layer that other processes write too: only where the key is free."""
    for key, value, timeout in entries:
        backend.add(key, value, timeout, version=version)
    return DONE


def _apart(backend: BaseCache, change: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Make a change that the caller's transaction survives; DatabaseCache does so where it sets."""
    if _is_database(_class(backend)):
        return in_savepoint(backend, change, *args, **kwargs)
    return change(*args, **kwargs)


@lru_cache(maxsize=64)
def _is_database(cls: Any) -> bool:
    return family_of(cls).name == "database"


@lru_cache(maxsize=64)
def _swallows(cls: Any) -> bool:
    """Whether `set` of this backend keeps a failed write to itself, as DatabaseCache does."""
    return _is_database(cls) and cls.set is _defining(cls, "_base_set").__dict__["set"]


def _defining(cls: Any, name: str) -> Any:
    return next(base for base in cls.__mro__ if name in base.__dict__)


def _set_aloud(backend: Any, key: Any, value: Any, timeout: Any, version: Any) -> None:
    name = backend.make_and_validate_key(key, version=version)
    with errors_of(backend) as refused:
        if backend._base_set("set", name, value, timeout):
            return
    if not refused:
        raise ResilientCacheError("DatabaseCache did not write, and does not say why")
    if not isinstance(refused[-1], DataError):
        raise refused[-1]
    # It does not fit, and DatabaseCache has nobody know.  Nor must they read what was there before.
    with suppress(DataError):
        in_savepoint(backend, backend.delete, key, version=version)
