"""Whose fault an exception is, told by where it was raised."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import BaseCache, caches
from django.core.cache.backends.base import InvalidCacheKey
from django.db import OperationalError, connection, transaction
from django.test import override_settings

from django_resilient_cache.adapters.error_classification import ErrorClass, classify
from django_resilient_cache.layer.layer import Layer
from django_resilient_cache.layer.registry import registry
from tests.contract.recorder import all_warnings, attempt
from tests.entries import (
    DATABASE,
    DJANGO_REDIS,
    DJANGO_VALKEY,
    FILE,
    MEMORY,
    PYMEMCACHE,
    REDIS,
    chain,
)
from tests.services import AnsweringServer, ValkeyServer

pytestmark = pytest.mark.usefixtures("still_agent")

PATIENT = {"MAX_FAILURES": 10**6, "FAILURE_RATE": None, "OPERATION_TIMEOUT": 20}
CLIENTS = {"redis": REDIS, "django_redis": DJANGO_REDIS, "django_valkey": DJANGO_VALKEY}


@contextmanager
def one_layer(
    backend: str, location: str, **entry: Any
) -> Iterator[tuple[BaseCache, Layer, BaseCache]]:
    """A chain of one layer, that layer, and the bare alias."""
    layer = {"BACKEND": backend, "LOCATION": location, "RESILIENCE": PATIENT, **entry}
    if "OPERATION_TIMEOUT" in PATIENT and backend in (MEMORY, FILE, DATABASE):
        layer["RESILIENCE"] = {**PATIENT, "OPERATION_TIMEOUT": None}
    with override_settings(CACHES={"default": chain("layer"), "layer": layer}):
        yield caches["default"], registry.layer("layer"), caches["layer"]
        caches.close_all()


# Redis and Valkey


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


def url(client: str, server: Any) -> str:
    address: str = server.url
    return address.replace("redis://", "valkey://") if client == "django_valkey" else address


READS: dict[str, Callable[[BaseCache], Any]] = {
    "get": lambda c: c.get("k"),
    "get_many": lambda c: c.get_many(["k"]),
    "has_key": lambda c: c.has_key("k"),
}
WRITES: dict[str, Callable[[BaseCache], Any]] = {
    "set": lambda c: c.set("k", [1]),
    "set_many": lambda c: c.set_many({"k": [1], "l": [2]}),
    "add": lambda c: c.add("new", [1]),
    "incr": lambda c: c.incr("n"),
}


def expect_failures(
    cache: BaseCache, layer: Layer, calls: dict[str, Callable[[BaseCache], Any]]
) -> None:
    for name, call in calls.items():
        before = layer.guard.counters.failures
        attempt(call, cache)  # incr() raises, whatever the reason
        assert layer.guard.counters.failures == before + 1, name


def test_a_server_that_says_it_is_unfit_fails(client: str, own_valkey: ValkeyServer) -> None:
    """READONLY, OOM, NOPERM: nothing that a caller could do better."""
    with one_layer(CLIENTS[client], url(client, own_valkey)) as (cache, layer, _):
        cache.set("n", 1)
        own_valkey.ask(b"REPLICAOF 127.0.0.1 1\r\n")
        expect_failures(cache, layer, WRITES)
        assert "read only" in str(layer.breaker.last_error).lower()
        own_valkey.ask(b"REPLICAOF NO ONE\r\n")
        cache.get("k")  # a client may need a call to notice
        own_valkey.ask(b"CONFIG SET maxmemory 1\r\n")
        own_valkey.ask(b"CONFIG SET maxmemory-policy noeviction\r\n")
        expect_failures(cache, layer, WRITES)
        own_valkey.ask(b"CONFIG SET maxmemory 0\r\n")
        cache.set("k", 1)
        own_valkey.ask(b"ACL SETUSER default -@read -@write\r\n")
        expect_failures(cache, layer, {**READS, **WRITES})


@pytest.mark.parametrize(
    "text",
    [
        "LOADING Valkey is loading the dataset in memory",
        "READONLY You can't write against a read only replica.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Errors writing to the AOF file",
        "CLUSTERDOWN The cluster is down",
        "NOPERM this user has no permissions to run the 'get' command",
        "NOAUTH Authentication required.",
        "MASTERDOWN Link with MASTER is down",
        "BUSY Redis is busy running a script.",
        "ERR unknown command 'GET'",
    ],
)
def test_every_refusal_of_the_server_fails(client: str, text: str) -> None:
    with (
        AnsweringServer(lambda piece: f"-{text}\r\n".encode() * commands(piece)) as server,
        one_layer(CLIENTS[client], url(client, server)) as (cache, layer, _),
    ):
        expect_failures(cache, layer, {**READS, **WRITES})


def commands(piece: bytes) -> int:
    """How many commands a client has sent; fewer answers would leave it waiting."""
    return max(1, piece.count(b"*"))


GARBAGE = {
    "no protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "bytes": b"\xff\xfe\x00\x01\r\n",
    "a number": b":7\r\n",
    "a list": b"*2\r\n:1\r\n:2\r\n",
    "a null list": b"*-1\r\n",
    "a list of lists": b"*1\r\n*1\r\n:1\r\n",
    "a wrong length": b"$abc\r\n",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_from_the_server_never_reaches_a_caller(client: str, garbage: bytes) -> None:
    """A garbage reply can surface as TypeError or AttributeError."""
    with (
        AnsweringServer(lambda piece: garbage * commands(piece)) as server,
        one_layer(CLIENTS[client], url(client, server)) as (cache, _, _),
    ):
        for call in READS.values():
            call(cache)
        for name, call in WRITES.items():
            result = attempt(call, cache)
            if isinstance(result, type):
                assert name == "incr"
                assert issubclass(result, ValueError)
        assert cache.delete("k") in (True, False)
        assert cache.touch("k") in (True, False)
        cache.delete_many(["k"])
        cache.clear()


def test_what_the_client_refuses_to_send_is_the_callers(client: str, valkey: ValkeyServer) -> None:
    with one_layer(CLIENTS[client], url(client, valkey)) as (cache, layer, bare):
        for call in (
            lambda c: c.set("k", 1, timeout="soon"),
            lambda c: c.set("k", 1, timeout=[]),
            lambda c: c.set("k", [1], timeout=float("nan")),
            lambda c: c.set("\ud800", 1),
            lambda c: c.get("\ud800"),
            lambda c: c.get_many(["\ud800"]),
            lambda c: c.set("k", lambda: None),
            lambda c: c.set("k", Connects()),
        ):
            assert attempt(call, cache) == attempt(call, bare)
        assert layer.guard.counters.failures == 0, layer.breaker.last_error


class Connects:
    """A value whose pickling fails as a network does."""

    def __reduce__(self) -> Any:
        raise ConnectionError("raised by the caller's own value")


class Returns:
    """A value whose unpickling fails as a network does."""

    def __reduce__(self) -> Any:
        return _fail_to_connect, ()


def _fail_to_connect() -> None:
    raise ConnectionError("raised by the entry")


def test_a_pipelines_error_is_told_by_the_answer_not_by_its_key() -> None:
    """It names the command that failed, with a key that may say anything."""
    redis = pytest.importorskip("redis")
    text = "Command # 1 (SET wrongtype caused error: wrongtype) of pipeline caused error: {}"
    error = redis.exceptions.ResponseError(text.format("OOM command not allowed"))
    assert classify(error, "set_many") is ErrorClass.LAYER_FAILURE
    error = redis.exceptions.ResponseError(text.format("WRONGTYPE Operation against"))
    assert classify(error, "set_many") is ErrorClass.SERVER_REPLY


# Memcached


def test_memcached(memcached: Any) -> None:
    pytest.importorskip("pymemcache")
    with one_layer(PYMEMCACHE, memcached.location) as (cache, layer, bare), all_warnings():
        for call in (
            lambda c: c.set("k", "x" * 2_000_000),
            lambda c: c.get("with space"),
            lambda c: c.set("k" * 300, 1),
            lambda c: c.set("text", "abc") or c.incr("text"),
            lambda c: c.incr("missing"),
            lambda c: c.decr("missing"),
            lambda c: c.set("k", lambda: None),
            lambda c: c.set("k", 1, timeout="soon"),
            lambda c: c.set("n", 1) or c.incr("n", "x"),
        ):
            assert attempt(call, cache) == attempt(call, bare)
        assert layer.guard.counters.failures == 0, layer.breaker.last_error


@pytest.mark.parametrize("garbage", [b"ERROR\r\n", b"SERVER_ERROR out of memory\r\n", b"\xff\r\n"])
def test_garbage_from_memcached(garbage: bytes) -> None:
    pytest.importorskip("pymemcache")
    with (
        AnsweringServer(lambda piece: garbage) as server,
        one_layer(PYMEMCACHE, server.location) as (cache, layer, _),
    ):
        for name, call in READS.items():
            before = layer.guard.counters.failures
            call(cache)
            assert layer.guard.counters.failures == before + 1, name


# Local backends


def test_files_that_cannot_be_used_fail(tmp_path: Path) -> None:
    with one_layer(FILE, str(tmp_path)) as (cache, layer, bare):
        bare.set("k", 1)
        name = Path(bare._key_to_file("k"))  # type: ignore[attr-defined]  # the backend's own
        name.unlink()
        name.mkdir()  # opening it fails, whoever runs the tests
        assert cache.get("k", "default") == "default"
        assert layer.guard.counters.failures == 1
        cache.set("k", 2)
        assert layer.guard.counters.failures == 2
        assert "IsADirectoryError" in str(layer.breaker.last_error)


@pytest.mark.parametrize("backend", [MEMORY, FILE])
def test_what_a_value_raises_is_no_failure(backend: str, tmp_path: Path) -> None:
    with one_layer(backend, str(tmp_path)) as (cache, layer, bare):
        assert attempt(cache.set, "k", Connects()) is ConnectionError
        bare.set("k", Returns())
        assert cache.get("k", "default") == "default"
        assert cache.get_many(["k"]) == {}
        assert layer.guard.counters.failures == 0


@pytest.mark.django_db
def test_a_database_that_cannot_be_used_fails() -> None:
    with one_layer(DATABASE, "no_such_table") as (cache, layer, _):
        with transaction.atomic():
            assert cache.get("k", "default") == "default"
        assert layer.guard.counters.failures == 1
        assert "OperationalError" in str(layer.breaker.last_error)


@pytest.mark.django_db
def test_a_transaction_that_is_broken_already_is_the_callers() -> None:
    with one_layer(DATABASE, "no_such_table") as (cache, layer, bare), transaction.atomic():
        connection.needs_rollback = True
        error = attempt(bare.get, "k")
        assert attempt(cache.get, "k") is error is transaction.TransactionManagementError
        connection.needs_rollback = False
        assert layer.guard.counters.failures == 0


@pytest.mark.django_db
def test_what_a_database_driver_refuses_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL's refuses a NUL in a text with a ValueError."""
    from django.db.backends.utils import CursorWrapper

    def refuses(self: Any, sql: str, params: Any = None, *ignored: Any) -> Any:
        raise ValueError("A string literal cannot contain NUL (0x00) characters.")

    with one_layer(DATABASE, "no_such_table") as (cache, layer, _):
        monkeypatch.setattr(CursorWrapper, "_execute", refuses)
        assert attempt(cache.get, "k") is ValueError
        assert attempt(cache.get_many, ["k"]) is ValueError
        assert layer.guard.counters.failures == 0


# What nothing is known of


class Raises(BaseCache):
    """A backend of somebody's own."""

    error: Exception

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def _fail(self, *args: Any, **kwargs: Any) -> Any:
        raise self.error

    get = set = add = delete = incr = touch = clear = _fail


@pytest.mark.parametrize(
    ("error", "operation", "verdict"),
    [
        (ConnectionError(), "get", ErrorClass.LAYER_FAILURE),
        (TimeoutError(), "set", ErrorClass.LAYER_FAILURE),
        (OSError(), "get", ErrorClass.LAYER_FAILURE),
        (TypeError(), "get", ErrorClass.LAYER_FAILURE),
        (AttributeError(), "set", ErrorClass.LAYER_FAILURE),
        (ValueError(), "get", ErrorClass.LAYER_FAILURE),
        (OperationalError(), "get", ErrorClass.LAYER_FAILURE),
        (ValueError(), "incr", ErrorClass.SERVER_REPLY),
        (ValueError(), "decr", ErrorClass.SERVER_REPLY),
        (ConnectionError(), "incr", ErrorClass.LAYER_FAILURE),
        (UnicodeDecodeError("utf-8", b"", 0, 1, ""), "incr", ErrorClass.LAYER_FAILURE),
        (InvalidCacheKey(), "get", ErrorClass.CALLER_ERROR),
        (NotImplementedError(), "touch", ErrorClass.CALLER_ERROR),
        (pickle.PicklingError(), "set", ErrorClass.CALLER_ERROR),
        (pickle.UnpicklingError(), "get", ErrorClass.UNDECODABLE),
        (UnicodeEncodeError("utf-8", "", 0, 1, ""), "get", ErrorClass.CALLER_ERROR),
    ],
    ids=lambda value: getattr(value, "name", type(value).__name__),
)
def test_a_backend_that_nothing_is_known_of(
    error: Exception, operation: str, verdict: ErrorClass
) -> None:
    backend = Raises("", {})
    backend.error = error
    with pytest.raises(type(error)) as caught:
        getattr(backend, "incr" if operation == "decr" else operation)("k")
    assert classify(caught.value, operation) is verdict


def test_key_functions_are_the_callers() -> None:
    with one_layer(MEMORY, "m", KEY_FUNCTION=f"{__name__}.refusing") as (cache, layer, _):
        for call in (*READS.values(), *WRITES.values()):
            assert attempt(call, cache) is LookupError
        assert layer.guard.counters.failures == 0


def refusing(key: str, prefix: str, version: int) -> str:
    raise LookupError(key)
