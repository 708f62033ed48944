"""Memcached clients that say when they got no answer.

As callers configure them, they take a lost server for an empty one: pymemcache answers misses
until a retry is due and then moves the server's keys to the others; pylibmc ejects servers.  Here
are the instances of our own put right; ``caches[alias]`` stays as it is.  One thing stays: for
libmemcached, under pylibmc, a connection that breaks while it reads is "not found" (check W011).
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from math import inf
from typing import Any

from django.core.cache import BaseCache

from django_resilient_cache.conf.backends import family_of

#: Options of pymemcache's HashClient: it asks the server each time, waits for the answer, and
#: never moves keys to another server, where old values would be found, now or afterwards.
_PYMEMCACHE = {
    "default_noreply": False,
    "ignore_exc": False,
    "retry_attempts": sys.maxsize,
    "retry_timeout": -inf,
}

#: Behaviors of pylibmc with the same effect, as far as there are any.  A server that has failed is
#: not tried for `retry_timeout` seconds, of which one is the fewest: it then raises at once.
_PYLIBMC = {
    "_noreply": 0,
    "auto_eject": 0,
    "buffer_requests": 0,
    "failure_limit": 2**31 - 1,
    "retry_timeout": 1,
}
#: Each of these turns `auto_eject` on, or is for it alone.
_EJECTING = frozenset({"remove_failed", "dead_timeout"})


def raise_on_lost_server(backend: BaseCache) -> None:
    """Have the fresh instance `backend`, which nobody shares, raise where it gets no answer.

    Backends that are not Memcached's, and clients of a project's own, are left as they are.
    """
    put_right = _BY_FAMILY.get(family_name(backend))
    if put_right is not None and strange_client(backend) is None:
        put_right(backend)


def family_name(backend: Any) -> str:
    """Return the name of the family of a backend instance."""
    cls: Any = type(backend)
    return family_of(cls).name


def strange_client(backend: Any) -> Any:
    """Return the client of a Memcached backend, where what it does about errors is not known."""
    cls = getattr(backend, "_class", None)
    return None if isinstance(cls, type) and issubclass(cls, _known_client(backend)) else cls


def _known_client(backend: Any) -> tuple[type, ...]:
    family = family_name(backend)
    if family == "pymemcache":
        from pymemcache.client.hash import HashClient

        return (HashClient,)
    if family == "pylibmc":
        from pylibmc import Client

        return (Client,)
    return ()


def _pymemcache(backend: Any) -> None:
    backend._options = {
        **backend._options,
        **_PYMEMCACHE,
        "serde": _strict(backend._options.get("serde")),
    }


def _strict(serde: Any) -> Any:
    """Return pymemcache's own serde so that it does not take what it cannot read for None."""
    from pymemcache import serde as known

    kind = type(serde)
    if kind is getattr(known, "CompressedSerde", None):  # there is none before 4.0
        return kind(
            serde._compress, serde._decompress, _strict(serde._serde), serde._min_compress_len
        )
    return _StrictSerde(serde) if kind is known.PickleSerde else serde


class _StrictSerde:
    def __init__(self, serde: Any) -> None:
        self.serialize = serde.serialize
        self._deserialize = serde.deserialize

    def deserialize(self, key: Any, value: Any, flags: int) -> Any:
        found = self._deserialize(key, value, flags)
        if found is None:
            _unpickle(value)
        return found


def _unpickle(value: bytes) -> None:
    """Raise what made None of an entry, if it is not a cached None."""
    try:
        pickle.loads(value)  # noqa: S301 - as pymemcache has just done
    except Exception as error:
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error


def _pylibmc(backend: Any) -> None:
    own = backend._options.get("behaviors") or {}
    kept = {name: value for name, value in own.items() if name not in _EJECTING}
    backend._options = {**backend._options, "behaviors": {**kept, **_PYLIBMC}}


_BY_FAMILY: dict[str, Callable[[Any], None]] = {"pymemcache": _pymemcache, "pylibmc": _pylibmc}
