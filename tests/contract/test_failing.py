"""With a layer failing, in whatever way, every method of the API does what is documented."""

from __future__ import annotations

import pytest
from django.core.cache import caches
from django.test import override_settings

from django_resilient_cache import (
    CacheUnavailable,
    CircuitOpenError,
    State,
    is_circuit_open,
)
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.testing import faults
from tests.contract.api import Api
from tests.contract.every_method import CALLS, KEYS
from tests.contract.recorder import attempt
from tests.contract.scene import FAILURES, Scene, entries

pytestmark = pytest.mark.usefixtures("still_agent")


@pytest.fixture(params=FAILURES)
def failure(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_chain_of_one_layer_misses(failure: str, api: Api) -> None:
    with Scene(api, failure, ["far"], "miss") as scene:
        chain = scene.chain
        scene.hold(k=1, n=1)
        scene.fails()
        assert chain.get("k") is None
        assert chain.get("k", "default") == "default"
        assert chain.get_many(["k", "n"]) == {}
        assert chain.has_key("k") is False
        assert "k" not in chain
        for call in (chain.incr, chain.decr):
            with pytest.raises(ValueError) as caught:
                call("n")
            assert isinstance(caught.value, CacheUnavailable)
            assert set(caught.value.errors) == {"far"}
            assert isinstance(caught.value.errors["far"], scene.error)
        chain.set("k", 2)
        assert chain.set_many({"k": 2, "m": 3}) == ["k", "m"]
        assert chain.add("new", 1) is False
        assert chain.touch("k") is False
        assert chain.delete("k") is False
        chain.delete_many(["k"])
        chain.clear()
        assert chain.get_or_set("k", lambda: "computed") == "computed"
        assert chain.get_or_set("k", "plain") == "plain"
        assert chain.get_or_set("k", None) is None
        for version_call in (chain.incr_version, chain.decr_version):
            with pytest.raises(ValueError):
                version_call("k")


@pytest.mark.parametrize("location", [["far"], ["near", "far"], ["near", "middle", "far"]], ids=str)
def test_under_raise_every_method_raises(failure: str, location: list[str], api: Api) -> None:
    """With the error of each layer that gave no answer."""
    with Scene(api, failure, location, "raise") as scene:
        scene.fails()
        for name, call in CALLS.items():
            with pytest.raises(CacheUnavailable) as caught:
                call(scene.chain, KEYS[name])
            assert set(caught.value.errors) == {"far"}, name
            assert isinstance(caught.value.errors["far"], scene.error), name
            assert not is_circuit_open(caught.value), name
            if name in ("incr", "decr"):
                assert isinstance(caught.value, ValueError)


def test_under_raise_an_open_breaker_is_named(api: Api) -> None:
    with override_settings(CACHES=entries(["near", "middle", "far"], "raise")):
        chain = api(caches["default"])
        registry.layer("far").breaker.force_open()
        for name, call in CALLS.items():
            with faults("middle").fail(), pytest.raises(CacheUnavailable) as caught:
                call(chain, KEYS[name])
            assert is_circuit_open(caught.value), name
            open_error = caught.value.errors["far"]
            assert isinstance(open_error, CircuitOpenError)
            assert open_error.name == "far"
            if name.partition(" ")[0] in ("get", "get_many", "has_key", "in", "get_or_set"):
                assert set(caught.value.errors) == {"far", "middle"}, name
                assert isinstance(caught.value.errors["middle"], ConnectionError)


def test_hits_go_on_above_a_failing_authority(failure: str, api: Api) -> None:
    for mode in ("miss", "raise"):
        with Scene(api, failure, ["near", "far"], mode) as scene:
            chain = scene.chain
            scene.hold(k=1, l=None)
            scene.fails()
            assert chain.get("k") == 1
            assert chain.get("l", "default") is None
            assert chain.get_many(["k", "l"]) == {"k": 1, "l": None}
            assert chain.has_key("k")
            assert chain.get_or_set("k", lambda: pytest.fail("computed")) == 1


def test_changes_reach_the_layer_above_a_failing_authority(failure: str, api: Api) -> None:
    with Scene(api, failure, ["near", "far"], "miss") as scene:
        chain = scene.chain
        scene.hold(k="old", d=1, m=1)
        scene.fails()
        chain.set("k", "new")
        assert chain.get("k") == "new"
        assert chain.set_many({"a": 1, "b": 2}) == []
        assert chain.get_many(["a", "b", "z"]) == {"a": 1, "b": 2}
        assert chain.delete("d") is True, "the next layer's word"
        assert scene.near.get("d") is None
        assert chain.delete("d") is False
        chain.delete_many(["m"])
        assert scene.near.get("m") is None
        chain.clear()
        assert scene.near.get("a") is None


def test_without_the_authority_nobody_wins_an_add(failure: str, api: Api) -> None:
    with Scene(api, failure, ["near", "far"], "miss") as scene:
        scene.fails()
        assert scene.chain.add("lock", 1) is False
        assert scene.near.get("lock") is None, "nothing above says otherwise"


def test_get_or_set_keeps_the_value_above_a_failing_authority(failure: str, api: Api) -> None:
    """So that an outage does not recompute on every call."""
    with Scene(api, failure, ["near", "far"], "miss") as scene:
        scene.fails()
        computed: list[int] = []

        def compute() -> int:
            computed.append(1)
            return len(computed)

        assert [scene.chain.get_or_set("k", compute) for _ in range(5)] == [1] * 5
        assert scene.near.get("k") == 1
        assert scene.chain.get_or_set("plain", 7) == 7
        assert scene.near.get("plain") == 7


def test_a_counter_that_may_have_moved_is_dropped_above(failure: str, api: Api) -> None:
    """No near copy may contradict what the authority may have done."""
    with Scene(api, failure, ["near", "far"], "miss") as scene:
        scene.hold(n=1, m=1, t=1)
        scene.fails()
        assert attempt(scene.chain.incr, "n") is not None
        assert attempt(scene.chain.decr, "m") is not None
        scene.chain.touch("t", 1)
        assert scene.near.get_many(["n", "m", "t"]) == {}


def test_a_counter_that_was_not_asked_for_stays_above(api: Api) -> None:
    with override_settings(CACHES=entries(["near", "far"])):
        chain = api(caches["default"])
        chain.set("n", 1)
        registry.layer("far").breaker.force_open()
        with pytest.raises(ValueError, match="forced open"):
            chain.incr("n")
        assert chain.get("n") == 1


def test_a_failing_layer_in_between_is_passed_over(failure: str, api: Api) -> None:
    """Reads fall through it, changes go past it, and the authority's word stands."""
    hook, resilience, _ = FAILURES[failure]
    for mode in ("miss", "raise"):
        location = ["near", "middle", "far"]
        with override_settings(CACHES=entries(location, mode, middle=resilience)):
            chain, real = api(caches["default"]), caches["real"]
            real.set("below", 1)
            middle = faults("middle")
            hook(middle)
            assert chain.get("below") == 1
            assert caches["near"].get("below") == 1, "backfilled past it"
            caches["near"].clear()
            assert chain.get_many(["below", "none"]) == {"below": 1}
            assert chain.get("none", "default") == "default", "the authority's word decides a miss"
            assert chain.has_key("none") is False
            chain.set("k", 1)
            assert real.get("k") == 1
            assert chain.incr("k") == 2
            assert chain.add("new", 1) is True
            assert chain.add("new", 1) is False
            assert chain.touch("new") is True
            assert chain.delete("new") is True
            assert chain.set_many({"x": 1}) == []
            chain.delete_many(["x"])
            chain.clear()
            assert real.get("k") is None
            middle.heal()


def test_a_failing_first_layer_is_skipped_once_its_breaker_opens(api: Api) -> None:
    """Answers come from the second layer from the first call on."""
    settings = entries(["middle", "far"])
    settings["middle"]["RESILIENCE"] = {"OPERATION_TIMEOUT": None, "MAX_FAILURES": 3}
    with override_settings(CACHES=settings):
        chain = api(caches["default"])
        caches["real"].set("k", 1)
        middle = faults("middle")
        middle.fail()
        asked = []
        for _ in range(6):
            assert chain.get("k") == 1
            asked.append(middle.calls["get"])
        assert asked == [1, 2, 3, 3, 3, 3]
        assert registry.layer("middle").breaker.state is State.OPEN
        assert registry.layer("far").breaker.state is State.CLOSED


def test_a_caller_of_the_failing_layer_never_waits_for_the_others(api: Api) -> None:
    """A hung layer costs its limit, and nothing once its breaker is open."""
    resilience = {"OPERATION_TIMEOUT": 0.05, "TIMEOUT_STRATEGY": "thread", "MAX_FAILURES": 2}
    with override_settings(CACHES=entries(["near", "far"], "miss", resilience)):
        chain, far = api(caches["default"]), faults("far")
        chain.get("warm")
        with far.hang():
            for number in range(20):
                chain.set(f"k{number}", number)
                assert chain.get(f"k{number}") == number
            # Two, or a few more where this process itself was short of time.
            assert far.hanging < 10
        assert registry.layer("far").breaker.state is State.OPEN
