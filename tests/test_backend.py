"""The backend's own place among Django's caches."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.core.cache import BaseCache, cache, caches
from django.core.signals import request_finished
from django.test import override_settings

from django_resilient_cache import CacheUnavailable, State, breakers
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.testing import FaultyCache, faults
from tests.entries import MEMORY, chain

pytestmark = pytest.mark.usefixtures("still_agent")

FAULTY = "django_resilient_cache.testing.FaultyCache"


def settings(**more: Any) -> dict[str, Any]:
    return {
        "default": chain("near", "far"),
        "near": {"BACKEND": MEMORY, "LOCATION": "near"},
        "far": {
            "BACKEND": FAULTY,
            "LOCATION": "real",
            "RESILIENCE": {"OPERATION_TIMEOUT": None, "MAX_FAILURES": 1},
        },
        "real": {"BACKEND": MEMORY, "LOCATION": "real"},
        **more,
    }


@override_settings(CACHES=settings())
def test_the_proxy_and_the_alias_are_one() -> None:
    cache.set("k", 1)
    assert caches["default"].get("k") == 1
    assert "k" in cache
    assert cache.get_or_set("l", lambda: 2) == 2


@override_settings(CACHES=settings())
@pytest.mark.parametrize("name", ["lock", "ttl", "delete_pattern", "client", "_cache"])
def test_what_a_chain_lacks_is_said_with_where_to_find_it(name: str) -> None:
    with pytest.raises(AttributeError, match=r'caches\["far"\]') as caught:
        getattr(caches["default"], name)
    assert name in str(caught.value)
    assert not hasattr(caches["default"], "__len__")


def test_what_a_misconfigured_chain_lacks_is_an_attribute_error_too() -> None:
    for location in ("", [], ["nowhere"], None, 5):
        entry = chain() | {"LOCATION": location}
        with override_settings(CACHES=settings(default=entry)):
            assert not hasattr(caches["default"], "lock")


@pytest.mark.django_db
@override_settings(CACHES=settings())
def test_a_finished_request_closes_nothing_that_is_needed() -> None:
    cache.set("k", 1)
    request_finished.send(sender=None)
    assert cache.get("k") == 1
    caches["default"].close()
    assert cache.get("k") == 1


@override_settings(CACHES=settings())
def test_an_instance_may_be_used_by_another_thread() -> None:
    mine = caches["default"]
    mine.set("k", 1)
    found: list[Any] = []
    for use in (lambda: mine.get("k"), lambda: caches["default"].get("k")):
        thread = threading.Thread(target=lambda: found.append(use()))  # noqa: B023  # called in this round
        thread.start()
        thread.join()
    assert found == [1, 1]


@override_settings(CACHES=settings())
def test_the_nearest_hit_asks_nobody_else() -> None:
    cache.set("k", 1)
    before = faults("far").calls.total()
    assert cache.get("k") == 1
    assert cache.get_many(["k"]) == {"k": 1}
    assert cache.has_key("k")
    assert faults("far").calls.total() == before


@override_settings(CACHES=settings())
def test_hits_and_misses_are_counted_where_they_happened() -> None:
    cache.set("k", 1)
    near, far = registry.layer("near"), registry.layer("far")
    hits, misses = near.guard.counters.hits, far.guard.counters.misses
    cache.get("k")
    cache.get("k")
    cache.get("missing")
    assert near.guard.counters.hits == hits + 2
    assert far.guard.counters.misses == misses + 1


@override_settings(CACHES=settings())
def test_a_success_of_the_nearest_layer_resets_its_count_of_failures() -> None:
    cache.set("k", 1)
    breaker = registry.layer("near").breaker
    for _ in range(8):  # no more: half of 20 calls would open it by the rate
        breaker.acquire().failure(ConnectionError())
        assert cache.get("k") == 1
    assert breaker.state is State.CLOSED


@override_settings(
    CACHES=settings(
        default=chain("near", "far", "last"), last={"BACKEND": FAULTY, "LOCATION": "other"}
    )
    | {"other": {"BACKEND": MEMORY, "LOCATION": "other"}}
)
def test_a_miss_passes_over_the_open_layers_below_it() -> None:
    cache, far, last = caches["default"], caches["far"], caches["last"]
    with faults("far").fail():
        cache.get("k")
    assert breakers["far"].state is State.OPEN
    asked = faults("far").calls["get"]
    last.set("k", 1, 100)
    assert cache.get("k") == 1
    assert caches["near"].get("k") == 1, "the copy is made all the same"
    assert cache.get("missing", "default") == "default"
    breakers["far"].reset()
    far.set("l", 2, 100)
    assert cache.get("l") == 2
    assert faults("far").calls["get"] > asked
    counted = registry.layer("far").snapshot()
    assert (counted["rejected"], counted["hits"]) == (2, 1)


@pytest.mark.parametrize("unavailable", ["miss", "raise"])
def test_only_open_layers_below_a_miss(unavailable: str) -> None:
    entry = chain("near", "far") | {"OPTIONS": {"ON_UNAVAILABLE": unavailable}}
    with override_settings(CACHES=settings(default=entry)):
        cache = caches["default"]
        cache.get("k")
        breakers["far"].force_open()
        if unavailable == "miss":
            assert cache.get("k", "default") == "default"
        else:
            with pytest.raises(CacheUnavailable) as caught:
                cache.get("k")
            assert list(caught.value.errors) == ["far"]
        assert registry.layer("far").snapshot()["rejected"] == 1


@override_settings(CACHES=settings())
def test_a_nearest_layer_that_is_open_is_passed_over() -> None:
    cache.set("k", 1)
    breakers["near"].force_open()
    assert cache.get("k") == 1
    assert faults("far").calls["get"] == 1
    breakers["near"].auto()
    assert cache.get("k") == 1
    assert faults("far").calls["get"] == 1


def test_overridden_settings_start_fresh() -> None:
    """No entry of an outer block is guarded by its breaker in an inner one."""
    with override_settings(CACHES=settings()):
        faults("far").fail()
        cache.set("k", 1)
        assert breakers["far"].state is State.OPEN
        outer = caches["default"]
        with override_settings(CACHES=settings(near={"BACKEND": MEMORY, "LOCATION": "other"})):
            assert breakers["far"].state is State.CLOSED
            assert caches["default"] is not outer
            assert cache.get("k") is None
            cache.set("k", 2)
            assert faults("far").calls["set"] == 1
            assert caches["real"].get("k") == 2
        assert breakers["far"].state is State.CLOSED
        assert cache.get("k") == 2 or cache.get("k") == 1


@override_settings(CACHES=settings())
def test_breakers_name_the_layers_of_chains() -> None:
    assert set(breakers) == {"near", "far"}
    assert len(breakers) == 2
    assert breakers["far"] is registry.layer("far").breaker
    with pytest.raises(KeyError, match="real"):
        breakers["real"]
    assert breakers.get("default") is None


@override_settings(CACHES=settings(default=chain("far")))
def test_incr_version_moves_an_entry() -> None:
    cache.set("k", "v")
    assert cache.incr_version("k") == 2
    assert cache.get("k") is None
    assert cache.get("k", version=2) == "v"
    assert cache.decr_version("k", version=2) == 1
    assert cache.get("k") == "v"
    with pytest.raises(ValueError, match="not found"):
        cache.incr_version("missing")


# FaultyCache


@override_settings(CACHES=settings())
def test_a_faulty_cache_is_the_cache_behind_it_until_told_otherwise() -> None:
    faulty, real = caches["far"], caches["real"]
    assert isinstance(faulty, FaultyCache)
    faulty.set("k", 1, 100, version=3)
    assert real.get("k", version=3) == 1
    assert faulty.set_many({"a": 1, "b": 2}) == []
    assert faulty.get_many(["a", "b", "c"]) == real.get_many(["a", "b"])
    assert (faulty.incr("a"), faulty.decr("a"), faulty.add("a", 5)) == (2, 1, False)
    assert faulty.touch("a", None) is True
    assert faulty.pttl("a") is None
    assert 90_000 < (faulty.pttl("k", version=3) or 0) <= 100_000
    assert faulty.pttl("missing") == 0
    assert faulty.delete("a") is True
    faulty.delete_many(["b"])
    assert not faulty.has_key("b")
    faulty.clear()
    assert real.get("k", version=3) is None
    assert faulty.make_key("k") == real.make_key("k")
    assert faulty.default_timeout == 300
    with pytest.raises(AttributeError):
        faulty.no_such_attribute  # noqa: B018  # the look-up itself is tried


@override_settings(CACHES=settings())
def test_faults_can_be_narrowed_down_and_taken_away() -> None:
    far: BaseCache = caches["far"]
    handle = faults("far")
    with handle.fail(LookupError("out"), operations=["get"], keys="user:*"):
        with pytest.raises(LookupError, match="out"):
            far.get("user:1")
        far.get("page:1")
        far.set("user:1", 1)
        far.get_many(["user:1"])
    assert far.get("user:1") == 1
    with handle.lose_answers(keys="user:*"), pytest.raises(ConnectionError):
        far.set_many({"page": 1, "user:2": 2})
    assert far.get_many(["page", "user:2"]) == {"page": 1, "user:2": 2}
    handle.fail()
    handle.heal()
    assert far.get("page") == 1
    assert handle.calls["get"] == 4


@override_settings(CACHES=settings())
def test_a_share_of_calls_fails_the_same_way_each_time() -> None:
    far: BaseCache = caches["far"]

    def pattern() -> str:
        text = ""
        with faults("far").fail(probability=0.3, seed=7):
            for _ in range(200):
                try:
                    far.get("k")
                    text += "."
                except ConnectionError:
                    text += "x"
        return text

    first = pattern()
    assert 30 < first.count("x") < 90
    assert pattern() == first


@override_settings(CACHES=settings())
def test_what_hangs_goes_on_when_healed() -> None:
    handle = faults("far")
    handle.hang(operations=["set"])
    thread = threading.Thread(target=lambda: caches["far"].set("k", 1))
    thread.start()
    while not handle.hanging:
        pass
    assert caches["far"].get("k") is None
    handle.heal()
    thread.join(20)
    assert caches["far"].get("k") == 1
    with handle.slow(0.001):
        assert caches["far"].get("k") == 1


@override_settings(CACHES=settings())
def test_faults_end_with_the_settings_they_were_asked_for() -> None:
    faults("far").fail()
    with override_settings(CACHES=settings()):
        caches["far"].set("k", 1)
        assert caches["far"].get("k") == 1


@override_settings(CACHES=settings())
def test_mistakes_in_faults_are_told() -> None:
    with pytest.raises(Exception, match="is not a FaultyCache"):
        faults("near")
    with pytest.raises(ValueError, match="'gets'"):
        faults("far").fail(operations=["gets"])
    with pytest.raises(ValueError, match="probability"):
        faults("far").fail(probability=2)
