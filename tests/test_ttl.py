"""How long an entry has left, for the backends that can tell."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis
from django.core.cache import BaseCache, caches
from django.test import override_settings

from django_resilient_cache.adapters.commands import GetManyWithTtl, GetWithTtl
from django_resilient_cache.adapters.outcome import UNKNOWN, Kind
from django_resilient_cache.layer.registry import registry
from tests.contract.bench import Bench
from tests.contract.kinds import BY_NAME, available
from tests.contract.kinds import Kind as LayerKind
from tests.entries import MEMORY, chain

TELL = ["memory", "file", "database", "redis", "django-redis", "django-valkey"]


@pytest.fixture(params=TELL)
def bench(request: pytest.FixtureRequest) -> Bench:
    kind: LayerKind = BY_NAME[request.param]
    available(kind)
    return Bench(kind, (), kind.entry(request))


@pytest.fixture(params=["pymemcache", "pylibmc"])
def silent_bench(request: pytest.FixtureRequest) -> Bench:
    kind: LayerKind = BY_NAME[request.param]
    available(kind)
    return Bench(kind, (), kind.entry(request))


def left(raw: BaseCache, key: str, version: Any = None) -> Any:
    outcome = GetWithTtl(key, version).run(raw)
    assert outcome.kind is Kind.HIT
    many = GetManyWithTtl([key, "missing"], version).run(raw).value
    assert list(many[0]) == [key]
    assert many[1].keys() == {key}
    if outcome.ttl is None:
        assert many[1][key] is None
    else:
        assert many[1][key] == pytest.approx(outcome.ttl, abs=5)
    return outcome.ttl


def test_a_lifetime_is_told(bench: Bench) -> None:
    with bench.caches() as cache:
        raw = cache("layer")
        bench.empty()
        raw.set("k", "v", 100)
        assert 90 < left(raw, "k") <= 100
        raw.touch("k", 1000)
        assert 990 < left(raw, "k") <= 1000
        raw.set("forever", None, None)
        assert left(raw, "forever") is None
        assert GetWithTtl("missing", None).run(raw).kind is Kind.MISS
        assert GetManyWithTtl(["missing"], None).run(raw).value == ({}, {})


@pytest.mark.parametrize("options", [{"VERSION": 7, "KEY_PREFIX": "p"}], ids=str)
def test_of_the_very_entry(bench: Bench, options: dict[str, Any]) -> None:
    with bench.caches(layer=options) as cache:
        raw = cache("layer")
        bench.empty()
        raw.set("k", 1, 100)
        raw.set("k", 2, 1000, version=3)
        assert 90 < left(raw, "k", raw.version) <= 100
        assert 990 < left(raw, "k", 3) <= 1000


@pytest.mark.parametrize("key", ["k", "\u043a\u043b\u044e\u0447", "k" * 200], ids=len)
@pytest.mark.parametrize("packs", ["plainly", "in its own way"])
@pytest.mark.parametrize("bench", ["redis", "django-redis"], indirect=True)
def test_whatever_the_key_and_however_its_connection_packs(
    bench: Bench, key: str, packs: str
) -> None:
    packed = []

    class Own(redis.Connection):
        def pack_commands(self, commands: Any) -> Any:
            packed.extend(commands)
            return super().pack_commands(commands)

    kwargs = {"connection_class": Own} if packs == "in its own way" else {}
    options = {"CONNECTION_POOL_KWARGS": kwargs} if bench.kind.name == "django-redis" else kwargs
    with bench.caches(layer={"OPTIONS": options}) as cache:
        bench.empty()
        cache("layer").set(key, "v", 100)
        for _ in range(2):
            assert 90 < left(cache("layer"), key) <= 100
            outcome = registry.layer("layer").execute(None, GetWithTtl(key, None))
            assert (outcome.kind, outcome.value) == (Kind.HIT, "v")
            assert 90 < (outcome.ttl or 0) <= 100
    assert packed[:2] == ([("GET", packed[0][1]), ("PTTL", packed[0][1])] if kwargs else [])


def test_many_lifetimes_at_once(bench: Bench) -> None:
    with bench.caches() as cache:
        raw = cache("layer")
        bench.empty()
        for number in range(30):
            raw.set(f"k{number}", number, 100 * (number + 1))
        raw.set("none", None, None)
        keys = [f"k{number}" for number in range(30)] + ["none", "missing"]
        values, lifetimes = GetManyWithTtl(keys, None).run(raw).value
        assert values == {**{f"k{number}": number for number in range(30)}, "none": None}
        assert lifetimes.pop("none") is None
        assert lifetimes == {
            f"k{number}": pytest.approx(100 * (number + 1), abs=10) for number in range(30)
        }


def test_a_client_that_cannot_tell(silent_bench: Bench) -> None:
    with silent_bench.caches() as cache:
        raw = cache("layer")
        raw.set("k", "v", 100)
        assert left(raw, "k") == UNKNOWN


def test_a_copy_above_has_what_is_left(bench: Bench) -> None:
    """Not what its layer would give it."""
    bench = Bench(bench.kind, ("near",), bench.entry)
    with bench.caches(near={"TIMEOUT": 5000}) as cache:
        bench.empty()
        near: Any = cache("near")
        for timeout, most in ((100, 100), (None, 5000), (100_000, 5000)):
            cache("layer").set("k", "v", timeout)
            assert cache("chain").get("k") == "v"
            ends = near._expire_info[near.make_key("k")]
            assert most - 10 < ends - time.time() <= most
            near.clear()
            assert cache("chain").get_many(["k"]) == {"k": "v"}
            ends = near._expire_info[near.make_key("k")]
            assert most - 10 < ends - time.time() <= most
            near.clear()


def test_a_per_process_copy_of_a_shared_entry_lives_five_seconds(bench: Bench) -> None:
    if bench.kind.backend == MEMORY:
        pytest.skip("not shared")
    bench = Bench(bench.kind, ("near",), bench.entry)
    with bench.caches() as cache:
        near: Any = cache("near")
        chain, layer = cache("chain"), cache("layer")
        for write in (
            lambda: chain.set("k", "v", None),
            lambda: chain.set_many({"k": "v"}),
            lambda: (layer.set("k", "v"), chain.get("k")),
            lambda: (layer.set("k", "v", None), chain.get_many(["k"])),
            lambda: chain.add("k", "v"),
        ):
            bench.empty()
            write()
            ends = near._expire_info[near.make_key("k")]
            assert 3 < ends - time.time() <= 5


def test_an_entry_that_ends_meanwhile_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "default": chain("near", "far"),
        "near": {"BACKEND": MEMORY, "LOCATION": "near"},
        "far": {"BACKEND": MEMORY, "LOCATION": "far"},
    }
    with override_settings(CACHES=settings):
        far: Any = caches["far"]
        far.set("k", "v", 100)
        kept = far._expire_info
        # Gone between the reading and the question for its end.
        monkeypatch.setattr(type(far), "make_key", _forgetting(kept, far.make_key))
        assert caches["default"].get("k") in ("v", None)
        monkeypatch.undo()
        assert caches["near"].get("k") is None


def _forgetting(kept: dict[str, Any], make_key: Any) -> Any:
    calls: list[str] = []

    def forgetting(self: BaseCache, key: str, version: Any = None) -> Any:
        calls.append(key)
        if len(calls) == 3:  # near's get, far's get, and now its lifetime
            kept.clear()
        return make_key(key, version)

    return forgetting
