"""Changes of a `DatabaseCache`: failures are raised, and leave the caller's transaction usable."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeVar

from django.core.cache import BaseCache
from django.db import DataError

from django_resilient_cache.adapters.transactions import errors_of, in_savepoint
from django_resilient_cache.conf.backends import family_of
from django_resilient_cache.exceptions import ResilientCacheError

T = TypeVar("T")

#: `type`, as caches of functions will have it for a key.
_class: Callable[[Any], Any] = type


def survivable(backend: BaseCache, change: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Make a change that the caller's transaction survives; DatabaseCache does so where it sets."""
    if _is_database(_class(backend)):
        return in_savepoint(backend, change, *args, **kwargs)
    return change(*args, **kwargs)


@lru_cache(maxsize=64)
def delivers_errors(cls: Any) -> bool:
    """Whether `set` of this backend raises where it fails; DatabaseCache's own does not."""
    return not _is_database(cls) or cls.set is not _defining(cls, "_base_set").__dict__["set"]


def set_or_raise(backend: Any, key: Any, value: Any, timeout: Any, version: Any) -> None:
    """Set an entry of a `DatabaseCache`; raises what the database refused it for."""
    name = backend.make_and_validate_key(key, version=version)
    with errors_of(backend) as refused:
        if backend._base_set("set", name, value, timeout):
            return
    if not refused:
        raise ResilientCacheError("DatabaseCache did not write, and does not say why")
    if not isinstance(refused[-1], DataError):
        raise refused[-1]
    # It does not fit.  DatabaseCache tells nobody; what was there before must not be read again.
    with suppress(DataError):
        in_savepoint(backend, backend.delete, key, version=version)


@lru_cache(maxsize=64)
def _is_database(cls: Any) -> bool:
    return family_of(cls).database


def _defining(cls: Any, name: str) -> Any:
    return next(base for base in cls.__mro__ if name in base.__dict__)
