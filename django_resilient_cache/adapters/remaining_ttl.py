"""How long an entry has left to live, for the backends that can tell.

Asked only when a hit is to be written into a layer above, so that no upper layer outlives the one
below: pipelined with the read on Redis and Valkey, a second look elsewhere.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from django.core.cache import BaseCache
from django.utils import timezone

from django_resilient_cache.adapters.outcome import MISS, UNKNOWN, Kind, Outcome
from django_resilient_cache.conf.backends import family_of

#: The year of the largest date, which DatabaseCache writes for "never".
_NEVER = 9999

_CLIENTS = ("redis", "valkey")

#: `type`, as caches of functions will have it for a key.
_class: Callable[[Any], Any] = type

#: Packages whose connections pack commands as the protocol has it, and nothing else.
_PACKERS = (*_CLIENTS, "django_resilient_cache")

#: Family -> the class that makes its reads; Django's own does it in two classes.
_MAKERS = {
    "redis": "django.core.cache.backends.redis.RedisCacheClient",
    "django_redis": "django_redis.client.default.DefaultClient",
    "django_valkey": "django_valkey.base_client.ClientCommands",
}

#: Seconds left of each of the keys, in their order; None: it never expires; 0 or less: gone;
#: UNKNOWN.  Not by key: one that has no hash is for the backend to refuse or to take.
Lifetimes = list[float | None]


class RedisReads:
    """GET and PTTL of a key, sent together; the value goes through the alias's own codec."""

    def __init__(
        self, client: Any, make_key: Callable[[Any, Any], Any], decode: Callable[[Any], Any]
    ) -> None:
        self._client = client
        self._make_key = make_key
        self._decode = decode

    def get_with_ttl(self, key: Any, version: Any) -> Outcome:
        name = self._make_key(key, version)
        try:
            value, milliseconds = self._get_and_pttl(name)
        except _connection_errors(_class(self._client)):
            # What retries the user has asked for are the pipeline's.
            pipeline = self._client.pipeline(transaction=False)
            value, milliseconds = pipeline.get(name).pttl(name).execute()
        if value is None:
            return MISS
        return Outcome(Kind.HIT, self._decode(value), _from_pttl(milliseconds))

    def _get_and_pttl(self, name: Any) -> tuple[Any, int]:
        """Send both at once on a pooled connection: a pipeline of two costs as much as the server."""
        client = self._client
        pool = client.connection_pool
        connection = pool.get_connection(*_command_name(_class(pool)))
        try:
            connection.send_packed_command(_get_and_pttl_packed(connection, name))
            value = client.parse_response(connection, "GET")
            return value, connection.read_response()
        except BaseException:  # whatever it was, the client must not reuse it
            connection.disconnect()  # an answer may be outstanding
            raise
        finally:
            pool.release(connection)

    def lifetimes(self, keys: list[Any], version: Any) -> Lifetimes:
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.pttl(self._make_key(key, version))
        return [_from_pttl(milliseconds) for milliseconds in pipeline.execute()]


def _get_and_pttl_packed(connection: Any, name: Any) -> Any:
    """Return both commands as they are sent; the client's own packer takes as long as the server."""
    if not _packs_plainly(_class(connection)):
        return connection.pack_commands([("GET", name), ("PTTL", name)])
    encoded = connection.encoder.encode(name)
    argument = b"$%d\r\n%b\r\n" % (len(encoded), encoded)
    expect = getattr(connection, "expect", None)  # one of ours wants to know
    if expect is not None:
        expect(2)
    return [b"*2\r\n$3\r\nGET\r\n%b*2\r\n$4\r\nPTTL\r\n%b" % (argument, argument)]


def _from_pttl(milliseconds: int) -> float | None:
    if milliseconds == -1:
        return None
    return max(0.0, milliseconds / 1000)


def remaining(backend: BaseCache, keys: list[Any], version: Any) -> Lifetimes:
    """Return how many seconds each of these keys has left to live."""
    return _lifetimes(_class(backend))(backend, keys, version)


def pipelined(backend: BaseCache, key: Any = None) -> RedisReads | None:
    """Return the direct way to the server, where the backend reads entries just as its maker does."""
    family = _family(_class(backend))
    if family is None:
        return None
    if family == "redis":
        inner: Any = backend._cache  # type: ignore[attr-defined]  # Django's, not BaseCache's
        if not _gets_as_made(_class(inner)):
            return None
        return RedisReads(
            inner.get_client(key), backend.make_and_validate_key, inner._serializer.loads
        )
    client: Any = backend.client  # type: ignore[attr-defined]  # the same
    if not _reads_plainly(_class(client), family):
        return None
    server = client.get_client(write=False)
    if not hasattr(server, "connection_pool"):  # a cluster: its keys are on many servers
        return None
    return RedisReads(server, client.make_key, client.decode)


@lru_cache(maxsize=64)
def _command_name(pool: type) -> tuple[str, ...]:
    """Return what older clients want to be told when a connection is taken, and newer ones not."""
    parameters = signature(pool.get_connection).parameters  # type: ignore[attr-defined]  # pools differ
    wanted = parameters.get("command_name")
    return ("GET",) if wanted is not None and wanted.default is Parameter.empty else ()


@lru_cache(maxsize=64)
def _connection_errors(client: type) -> tuple[type[Exception], ...]:
    root = next(
        root for cls in client.__mro__ if (root := cls.__module__.partition(".")[0]) in _CLIENTS
    )
    errors = import_module(f"{root}.exceptions")
    return errors.ConnectionError, errors.TimeoutError


@lru_cache(maxsize=64)
def _packs_plainly(cls: type) -> bool:
    """Whether connections of this class pack commands as their client does."""
    packers = [c for c in cls.__mro__ if {"pack_command", "pack_commands"} & c.__dict__.keys()]
    return bool(packers) and all(c.__module__.partition(".")[0] in _PACKERS for c in packers)


@lru_cache(maxsize=64)
def _family(cls: Any) -> str | None:
    """Return the family of a backend that is known to ask its client for entries; None: another."""
    name = family_of(cls).name
    return name if name in _MAKERS and _gets_as_made(cls) else None


@lru_cache(maxsize=64)
def _gets_as_made(cls: Any) -> bool:
    """Whether `get` is that of the package itself: a subclass may wrap what it stores."""
    return str(cls.get.__module__).partition(".")[0] in ("django", "django_redis", "django_valkey")


@lru_cache(maxsize=64)
def _reads_plainly(cls: type, family: str) -> bool:
    """Whether the client `cls` reads as its family's own does: not sharded, no herd markers."""
    maker = next(
        (c for c in cls.__mro__ if f"{c.__module__}.{c.__qualname__}" == _MAKERS[family]), None
    )
    plain = maker is not None and getattr(cls, "get", None) is getattr(maker, "get", None)
    return plain and "shard" not in cls.__module__


@lru_cache(maxsize=64)
def _lifetimes(cls: type) -> Callable[[Any, list[Any], Any], Lifetimes]:
    known = {
        "local_memory": _of_local_memory,
        "file": _of_files,
        "database": _of_rows,
        "redis": _of_redis,
        "django_redis": _of_redis,
        "django_valkey": _of_redis,
    }
    return known.get(family_of(cls).name, _of_others)


def _of_redis(backend: Any, keys: list[Any], version: Any) -> Lifetimes:
    commands = pipelined(backend)
    return (
        _of_others(backend, keys, version)
        if commands is None
        else commands.lifetimes(keys, version)
    )


def _of_others(backend: Any, keys: list[Any], version: Any) -> Lifetimes:
    """Ask a backend that tells lifetimes under the names that django-redis gave them."""
    if hasattr(backend, "pttl"):
        left = [backend.pttl(key, version=version) for key in keys]
        return [None if ms is None else ms / 1000 for ms in left]
    return [UNKNOWN] * len(keys)


def _of_local_memory(backend: Any, keys: list[Any], version: Any) -> Lifetimes:
    now = time.time()
    ends = [backend._expire_info.get(backend.make_key(key, version=version), now) for key in keys]
    return [None if end is None else end - now for end in ends]


def _of_files(backend: Any, keys: list[Any], version: Any) -> Lifetimes:
    return [_of_file(backend._key_to_file(key, version)) for key in keys]


def _of_file(name: str) -> float | None:
    try:
        with Path(name).open("rb") as file:
            end = pickle.load(file)  # noqa: S301 - as the backend itself reads it
    except (FileNotFoundError, EOFError):
        return 0.0
    return None if end is None else end - time.time()


def _of_rows(backend: Any, keys: list[Any], version: Any) -> Lifetimes:
    from django.db import connections, models, router

    names = [backend.make_key(key, version=version) for key in keys]
    connection = connections[router.db_for_read(backend.cache_model_class)]
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {quote('cache_key')}, {quote('expires')} FROM {quote(backend._table)} "  # noqa: S608 - names are quoted
            f"WHERE {quote('cache_key')} IN ({', '.join(['%s'] * len(names))})",
            names,
        )
        rows = cursor.fetchall()
    expression: Any = models.Expression(output_field=models.DateTimeField())
    converters = [
        *connection.ops.get_db_converters(expression),
        *expression.get_db_converters(connection),
    ]
    left: dict[str, float | None] = {}
    for name, end in rows:
        expires = end
        for converter in converters:
            expires = converter(expires, expression, connection)
        never = expires.year == _NEVER
        left[name] = None if never else (expires - timezone.now()).total_seconds()
    return [left.get(name, 0.0) for name in names]
