"""Memcached clients that say when they got no answer.

As callers configure them, they take a lost server for an empty one: pymemcache answers misses
until a retry is due and then moves the server's keys to the others; libmemcached, under pylibmc,
reports a broken connection as "not found".  Here are the instances of our own put right;
``caches[alias]`` stays as it is.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterable
from math import inf
from typing import Any

from django.core.cache import BaseCache

from django_resilient_cache.conf.backends import family_of

#: What the classes below are mixed into: classes of a client that is not there for the types.
_Client: Any = object

#: Told apart from every value that can be cached.
_MISSING: Any = object()

#: Options of pymemcache's HashClient: it asks the server each time, waits for the answer, and
#: never moves keys to another server, where old values would be found, now or afterwards.
_PYMEMCACHE = {
    "default_noreply": False,
    "ignore_exc": False,
    "retry_attempts": sys.maxsize,
    "retry_timeout": -inf,
}

#: Behaviors of pylibmc with the same effect.  `_Asking` needs a server that has failed to be
#: remembered for longer than a moment, but not past its `disconnect_all`.
_PYLIBMC = {
    "_noreply": 0,
    "auto_eject": 0,
    "buffer_requests": 0,
    "failure_limit": 2**31 - 1,
    "retry_timeout": 2,
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
    import pylibmc

    own = backend._options.get("behaviors") or {}
    kept = {name: value for name, value in own.items() if name not in _EJECTING}
    backend._options = {**backend._options, "behaviors": {**kept, **_PYLIBMC}}
    answers = (pylibmc.BadKeyProvided, pylibmc.ClientError, pylibmc.NotFound, pylibmc.TooBig)
    known = {"_error": pylibmc.Error, "_answers": answers}
    backend._class = type(backend._class.__name__, (_Asking, backend._class), known)


class _Asking(_Client):  # type: ignore[misc]  # a base that is Any
    """Mixed in before pylibmc's client: asks again before it believes a miss.

    For libmemcached a connection that breaks or times out while it reads is a miss.  The next
    call for that server raises, for as long as the server is remembered to have failed.
    """

    #: pylibmc's exceptions, and those by which a server answers.
    _error: type[Exception]
    _answers: tuple[type[Exception], ...]

    def get(self, key: Any, default: Any = None) -> Any:
        return self._asked(self._get, key, default)

    def get_multi(self, keys: Iterable[Any]) -> Any:
        return self._asked(self._get_multi, list(keys))

    def _get(self, key: Any, default: Any) -> Any:
        found = super().get(key, _MISSING)
        if found is _MISSING:
            found = super().get(key, _MISSING)
        return default if found is _MISSING else found

    def _get_multi(self, keys: list[Any]) -> dict[Any, Any]:
        found: dict[Any, Any] = super().get_multi(keys)
        # One for each server; a second get_multi would leave out a failed server in silence.
        missing = {self.hash(key): key for key in keys if key not in found}
        for key in missing.values():
            value = super().get(key, _MISSING)
            if value is not _MISSING:
                found[key] = value
        return found

    def _asked(self, ask: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Ask; a failure is forgotten at once: the breaker decides when the server is tried."""
        try:
            return ask(*args, **kwargs)
        except self._error as error:
            if not isinstance(error, self._answers):
                self.disconnect_all()
            raise


def _forgetting_failures(name: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._asked(getattr(super(_Asking, self), name), *args, **kwargs)

    return call


_CHANGES = "add decr delete delete_multi flush_all incr set set_multi touch"
for _name in _CHANGES.split():
    setattr(_Asking, _name, _forgetting_failures(_name))


_BY_FAMILY: dict[str, Callable[[Any], None]] = {"pymemcache": _pymemcache, "pylibmc": _pylibmc}
