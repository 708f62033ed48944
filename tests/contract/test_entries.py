"""Entries that cannot be read back: a miss of that layer, logged, left in place."""

from __future__ import annotations

import base64
import logging
import pickle
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.db import connections, router

from django_resilient_cache import State
from django_resilient_cache.layer.registry import registry
from tests.contract.bench import Bench
from tests.contract.kinds import KINDS
from tests.contract.recorder import attempt
from tests.entries import DATABASE, FAULTY, FILE, MEMORY, PYLIBMC, PYMEMCACHE

pytestmark = pytest.mark.usefixtures("still_agent")

UNREADABLE = {
    "nothing": b"",
    "no pickle": b"garbage",
    "cut off": pickle.dumps({"a": list(range(50))})[:-20],
    "of a later protocol": b"\x80\xff.",
    "of a module that has gone": b"cno.such.module\nThing\n.",
    "of a class that has gone": b"cdatetime\nGone\n.",
    "of a class that has changed": b"cdatetime\ndate\n(S'x'\ntR.",
    "no text": b"\xff\xfe\x00",
}

#: Clients that take an unreadable entry for a cached None, with the bare alias too.
HIDES = (PYMEMCACHE,)


def plant(bench: Bench, key: str, data: bytes) -> None:
    """Put bytes where the layer under test keeps the pickle of an entry."""
    raw: Any = caches["layer"]
    raw.set(key, "placeholder", 1000)
    if bench.kind.backend in (MEMORY, FAULTY):
        raw._cache[raw.make_key(key)] = data
    elif bench.kind.backend == FILE:
        ends = pickle.dumps(time.time() + 1000)
        Path(raw._key_to_file(key)).write_bytes(ends + zlib.compress(data))
    elif bench.kind.backend == DATABASE:
        text = base64.b64encode(data).decode() or "="
        with connections[router.db_for_write(raw.cache_model_class)].cursor() as cursor:
            cursor.execute(
                f"UPDATE {raw._table} SET value = %s WHERE cache_key = %s",
                [text, raw.make_key(key)],
            )
    else:
        plant_in_server(bench, raw.make_key(key), data)


def plant_in_server(bench: Bench, name: str, data: bytes) -> None:
    location = bench.entry["LOCATION"]
    if bench.kind.backend == PYLIBMC:
        from pymemcache.client.base import Client

        host, port = location.split(":")
        client = Client((host, int(port)))
        client.set(name, data, expire=1000, noreply=False, flags=1)
        client.close()
        return
    redis = pytest.importorskip("redis")
    with redis.Redis.from_url(location.replace("valkey://", "redis://")) as client:
        client.set(str(name), data, ex=1000)


@pytest.fixture
def bench(bench: Bench) -> Bench:
    if bench.kind.backend in HIDES:
        pytest.skip("its client takes such an entry for a cached None")
    return bench


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
def test_an_entry_that_cannot_be_read_back(
    bench: Bench, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with bench.caches() as cache, caplog.at_level(logging.WARNING, "django_resilient_cache"):
        bench.empty()
        chain = cache("chain")
        chain.set("good", [1])
        plant(bench, "bad", data)

        assert chain.get("bad", "default") == "default"
        assert chain.get_many(["bad", "good"]) == {"good": [1]}
        if bench.above:
            cache("near").clear()
            assert chain.get_many(["bad", "good"]) == {"good": [1]}
        assert attempt(chain.incr, "bad") in (ValueError, attempt(cache("layer").incr, "bad"))
        assert attempt(chain.decr, "bad") in (ValueError, attempt(cache("layer").decr, "bad"))
        assert chain.get("bad", "default") == "default", "it was left in place"
        assert isinstance(chain.has_key("bad"), bool)
        assert isinstance(chain.touch("bad"), bool)
        assert chain.get_or_set("bad", lambda: "computed") == "computed"
        chain.add("bad", 1)

        chain.set("bad", "replaced")
        assert chain.get("bad") == "replaced"
        plant(bench, "bad", data)
        chain.delete("bad")
        chain.set_many({"bad": 1})
        assert chain.get("bad") == 1

        said = [record for record in caplog.records if "read back" in record.msg]
        layer = registry.layer("layer")
        assert layer.guard.counters.failures == 0, layer.breaker.last_error
        assert layer.breaker.state is State.CLOSED
        assert len(said) == 1, "logged once, not for each call"


def test_an_entry_that_cannot_be_read_back_stays_for_who_can(bench: Bench) -> None:
    """During a rolling deploy another version may need it."""
    with bench.caches() as cache:
        bench.empty()
        plant(bench, "k", UNREADABLE["of a module that has gone"])
        before = attempt(cache("layer").get, "k")
        for _ in range(3):
            assert cache("chain").get("k") is None
            assert cache("chain").get_many(["k"]) == {}
            assert cache("chain").has_key("k") in (False, attempt(cache("layer").has_key, "k"))
        assert before is ModuleNotFoundError
        assert attempt(cache("layer").get, "k") is before


def test_a_file_of_garbage_from_the_first_byte(tmp_path: Path) -> None:
    kind = next(kind for kind in KINDS if kind.backend == FILE)
    entry = {"BACKEND": FILE, "LOCATION": str(tmp_path)}
    with Bench(kind, (), entry).caches() as cache:
        chain, layer = cache("chain"), cache("layer")
        for data in UNREADABLE.values():
            layer.set("k", 1)
            Path(layer._key_to_file("k")).write_bytes(data)  # type: ignore[attr-defined]  # the backend's own
            assert chain.get("k", "default") == "default"
            assert chain.get_many(["k"]) == {}
            assert chain.has_key("k") is False
            assert chain.add("k", 1) in (True, False)
            assert chain.touch("k") in (True, False)
            chain.set("k", 2)
            assert chain.get("k") == 2
        assert registry.layer("layer").guard.counters.failures == 0


REDIS_LIKE = [kind for kind in KINDS if kind.place == "valkey"]


@pytest.mark.parametrize("kind", REDIS_LIKE, ids=lambda kind: kind.label, indirect=True)
def test_a_foreign_type_is_the_servers_plain_answer(bench: Bench) -> None:
    """WRONGTYPE passes on as it does from the bare alias, and blames nobody."""
    redis = pytest.importorskip("redis")
    with bench.caches() as cache:
        chain, layer = cache("chain"), cache("layer")
        with redis.Redis.from_url(bench.entry["LOCATION"].replace("valkey:", "redis:")) as client:
            client.lpush(str(layer.make_key("list")), "item")
        for call in ("get", "incr", "decr"):
            expected = attempt(getattr(layer, call), "list")
            assert isinstance(expected, type)
            assert attempt(getattr(chain, call), "list") is expected, call
        assert attempt(chain.get_many, ["list"]) == attempt(layer.get_many, ["list"])
        assert chain.has_key("list") is True
        assert registry.layer("layer").guard.counters.failures == 0
        chain.set("list", 1)
        assert chain.get("list") == 1
