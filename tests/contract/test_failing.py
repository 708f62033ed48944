"""With a layer failing, in whatever way, every method of the API does what is documented."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from django.core.cache import BaseCache, caches
from django.core.cache.backends.base import InvalidCacheKey
from django.test import override_settings

from django_resilient_cache import (
    CacheUnavailable,
    CircuitOpenError,
    OperationTimeout,
    State,
    deadline,
    is_circuit_open,
)
from django_resilient_cache.registry import registry
from django_resilient_cache.testing import Faults, faults
from tests.contract.kinds import attempt
from tests.entries import CHAIN, DJANGO_REDIS, MEMORY
from tests.services import RefusedPort

pytestmark = pytest.mark.usefixtures("still_agent")

FAULTY = "django_resilient_cache.testing.FaultyCache"

#: A breaker that never opens by itself, so that each call meets the fault.
PATIENT = {"MAX_FAILURES": 10**6, "FAILURE_RATE": None}


def entries(
    location: list[str],
    mode: str = "miss",
    far: dict[str, Any] | None = None,
    middle: dict[str, Any] | None = None,
) -> dict[str, Any]:
    faulty = {"OPERATION_TIMEOUT": None, **PATIENT}
    return {
        "default": {
            "BACKEND": CHAIN,
            "LOCATION": location,
            "OPTIONS": {"ON_UNAVAILABLE": mode},
        },
        "near": {"BACKEND": MEMORY, "LOCATION": "near", "TIMEOUT": 300},
        "far": {"BACKEND": FAULTY, "LOCATION": "real", "RESILIENCE": faulty | (far or {})},
        "middle": {
            "BACKEND": FAULTY,
            "LOCATION": "real middle",
            "RESILIENCE": faulty | (middle or {}),
        },
        "real": {"BACKEND": MEMORY, "LOCATION": "real"},
        "real middle": {"BACKEND": MEMORY, "LOCATION": "real middle"},
    }


def refuse(far: Faults) -> None:
    far.fail(ConnectionError("refused"))


def lose(far: Faults) -> None:
    far.lose_answers(ConnectionError("lost"))


def hang(far: Faults) -> None:
    far.hang()


#: How the layer fails: what is done to it, its limit, what its error is.
FAILURES: dict[str, tuple[Callable[[Faults], None], dict[str, Any], type[Exception]]] = {
    "refused": (refuse, {}, ConnectionError),
    "answer lost": (lose, {}, ConnectionError),
    "refused, thread": (
        refuse,
        {"OPERATION_TIMEOUT": 20, "TIMEOUT_STRATEGY": "thread"},
        ConnectionError,
    ),
    "hung": (
        hang,
        {"OPERATION_TIMEOUT": 0.01, "TIMEOUT_STRATEGY": "thread", "MAX_CONCURRENCY": 200},
        OperationTimeout,
    ),
}


@pytest.fixture(params=FAILURES)
def failure(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Scene:
    """A chain whose far layer has failed."""

    def __init__(self, failure: str, location: list[str], mode: str) -> None:
        self._break, resilience, self.error = FAILURES[failure]
        self._settings = override_settings(CACHES=entries(location, mode, resilience))

    def __enter__(self) -> Scene:
        self._settings.enable()
        self.chain: BaseCache = caches["default"]
        self.near: BaseCache = caches["near"]
        self.real: BaseCache = caches["real"]
        self.far = faults("far")
        return self

    def fails(self) -> None:
        self._break(self.far)

    def __exit__(self, *args: object) -> None:
        self.far.heal()
        self._settings.disable()


def test_a_chain_of_one_layer_misses(failure: str) -> None:
    with Scene(failure, ["far"], "miss") as scene:
        chain = scene.chain
        chain.set_many({"k": 1, "n": 1})
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


CALLS: dict[str, Callable[[BaseCache], Any]] = {
    "get": lambda c: c.get("k"),
    "get_many": lambda c: c.get_many(["k", "l"]),
    "has_key": lambda c: c.has_key("k"),
    "in": lambda c: "k" in c,
    "set": lambda c: c.set("k", 1),
    "set_many": lambda c: c.set_many({"k": 1}),
    "delete": lambda c: c.delete("k"),
    "delete_many": lambda c: c.delete_many(["k"]),
    "clear": lambda c: c.clear(),
    "add": lambda c: c.add("k", 1),
    "touch": lambda c: c.touch("k"),
    "incr": lambda c: c.incr("k"),
    "decr": lambda c: c.decr("k"),
    "get_or_set": lambda c: c.get_or_set("k", lambda: 1),
    "incr_version": lambda c: c.incr_version("k"),
    "decr_version": lambda c: c.decr_version("k"),
}


@pytest.mark.parametrize("location", [["far"], ["near", "far"], ["near", "middle", "far"]], ids=str)
@pytest.mark.parametrize("call", CALLS)
def test_under_raise_every_method_raises(failure: str, call: str, location: list[str]) -> None:
    """With the error of each layer that gave no answer."""
    with Scene(failure, location, "raise") as scene:
        scene.fails()
        with pytest.raises(CacheUnavailable) as caught:
            CALLS[call](scene.chain)
        assert set(caught.value.errors) == {"far"}
        assert isinstance(caught.value.errors["far"], scene.error)
        assert not is_circuit_open(caught.value)
        if call in ("incr", "decr"):
            assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("call", CALLS)
def test_under_raise_an_open_breaker_is_named(call: str) -> None:
    with override_settings(CACHES=entries(["near", "middle", "far"], "raise")):
        registry.layer("far").breaker.force_open()
        with faults("middle").fail(), pytest.raises(CacheUnavailable) as caught:
            CALLS[call](caches["default"])
        assert is_circuit_open(caught.value)
        open_error = caught.value.errors["far"]
        assert isinstance(open_error, CircuitOpenError)
        assert open_error.name == "far"
        reading = call in ("get", "get_many", "has_key", "in", "get_or_set")
        if reading:
            assert set(caught.value.errors) == {"far", "middle"}
            assert isinstance(caught.value.errors["middle"], ConnectionError)


def test_hits_go_on_above_a_failing_authority(failure: str) -> None:
    for mode in ("miss", "raise"):
        with Scene(failure, ["near", "far"], mode) as scene:
            chain = scene.chain
            chain.set_many({"k": 1, "l": None})
            scene.fails()
            assert chain.get("k") == 1
            assert chain.get("l", "default") is None
            assert chain.get_many(["k", "l"]) == {"k": 1, "l": None}
            assert chain.has_key("k")
            assert chain.get_or_set("k", lambda: pytest.fail("computed")) == 1


def test_changes_reach_the_layer_above_a_failing_authority(failure: str) -> None:
    with Scene(failure, ["near", "far"], "miss") as scene:
        chain = scene.chain
        chain.set_many({"k": "old", "d": 1, "m": 1})
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


def test_without_the_authority_nobody_wins_an_add(failure: str) -> None:
    with Scene(failure, ["near", "far"], "miss") as scene:
        scene.fails()
        assert scene.chain.add("lock", 1) is False
        assert scene.near.get("lock") is None, "nothing above says otherwise"


def test_get_or_set_keeps_the_value_above_a_failing_authority(failure: str) -> None:
    """So that an outage does not recompute on every call."""
    with Scene(failure, ["near", "far"], "miss") as scene:
        scene.fails()
        computed: list[int] = []

        def compute() -> int:
            computed.append(1)
            return len(computed)

        assert [scene.chain.get_or_set("k", compute) for _ in range(5)] == [1] * 5
        assert scene.near.get("k") == 1
        assert scene.chain.get_or_set("plain", 7) == 7
        assert scene.near.get("plain") == 7


def test_a_counter_that_may_have_moved_is_dropped_above(failure: str) -> None:
    """No near copy may contradict what the authority may have done."""
    with Scene(failure, ["near", "far"], "miss") as scene:
        scene.chain.set_many({"n": 1, "m": 1, "t": 1})
        scene.fails()
        assert attempt(scene.chain.incr, "n") is not None
        assert attempt(scene.chain.decr, "m") is not None
        scene.chain.touch("t", 1)
        assert scene.near.get_many(["n", "m", "t"]) == {}


def test_a_counter_that_was_not_asked_for_stays_above() -> None:
    with override_settings(CACHES=entries(["near", "far"])):
        chain = caches["default"]
        chain.set("n", 1)
        registry.layer("far").breaker.force_open()
        with pytest.raises(ValueError, match="forced open"):
            chain.incr("n")
        assert chain.get("n") == 1


def test_a_failing_layer_in_between_is_passed_over(failure: str) -> None:
    """Reads fall through it, changes go past it, and the authority's word stands."""
    hook, resilience, _ = FAILURES[failure]
    for mode in ("miss", "raise"):
        location = ["near", "middle", "far"]
        with override_settings(CACHES=entries(location, mode, middle=resilience)):
            chain, real = caches["default"], caches["real"]
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


def test_a_failing_first_layer_is_skipped_once_its_breaker_opens() -> None:
    """Answers come from the second layer from the first call on."""
    settings = entries(["middle", "far"])
    settings["middle"]["RESILIENCE"] = {"OPERATION_TIMEOUT": None, "MAX_FAILURES": 3}
    with override_settings(CACHES=settings):
        chain = caches["default"]
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


def test_a_caller_of_the_failing_layer_never_waits_for_the_others() -> None:
    """A hung layer costs its limit, and nothing once its breaker is open."""
    resilience = {"OPERATION_TIMEOUT": 0.05, "TIMEOUT_STRATEGY": "thread", "MAX_FAILURES": 2}
    with override_settings(CACHES=entries(["near", "far"], "miss", resilience)):
        chain, far = caches["default"], faults("far")
        chain.get("warm")
        with far.hang():
            for number in range(20):
                chain.set(f"k{number}", number)
                assert chain.get(f"k{number}") == number
            # Two, or a few more where this process itself was short of time.
            assert far.hanging < 10
        assert registry.layer("far").breaker.state is State.OPEN


MISTAKES: dict[str, tuple[Callable[[BaseCache], Any], type[Exception]]] = {
    "unpicklable": (lambda c: c.set("k", threading.Lock()), TypeError),
    "missing counter": (lambda c: c.incr("missing"), ValueError),
    "no counter": (lambda c: c.incr("text"), TypeError),
    "wrong timeout": (lambda c: c.set("k", 1, timeout=cast("int", "soon")), TypeError),
    "computation": (lambda c: c.get_or_set("c", lambda: 1 // 0), ZeroDivisionError),
}


@pytest.mark.parametrize("location", [["far"], ["near", "far"], ["near", "middle", "far"]], ids=str)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_callers_own_mistakes_pass_on_uncounted(mistake: str, location: list[str]) -> None:
    call, error = MISTAKES[mistake]
    for mode in ("miss", "raise"):
        with override_settings(CACHES=entries(location, mode)):
            chain = caches["default"]
            chain.set("text", "abc")
            with pytest.raises(error):
                call(chain)
            for alias in location:
                assert registry.layer(alias).failures == 0
                assert registry.layer(alias).breaker.last_error is None


def test_a_mistake_leaves_no_copy_above_that_the_authority_refused() -> None:
    with override_settings(CACHES=entries(["near", "middle", "far"])):
        chain = caches["default"]
        chain.set("k", 1)
        with pytest.raises(TypeError):
            chain.set("k", threading.Lock())
        assert chain.get("k") == 1, "as the authority has it"
        caches["real"].delete("k")
        with pytest.raises(ValueError, match="not found"):
            chain.incr("k")
        assert chain.get("k") is None, "no layer above contradicts the authority"


def test_a_layers_error_of_the_same_type_is_no_mistake() -> None:
    """A garbage reply can surface as TypeError or AttributeError."""
    for error in (TypeError, AttributeError, KeyError, IndexError, UnicodeDecodeError):
        arguments = ("utf-8", b"", 0, 1, "garbage") if error is UnicodeDecodeError else ("garbage",)
        with override_settings(CACHES=entries(["far"])):
            faults("far").fail(error(*arguments))
            assert caches["default"].get("k") is None
            assert registry.layer("far").failures == 1


def test_an_interrupt_passes_through_uncounted_and_leaves_nothing_above() -> None:
    for interrupt in (KeyboardInterrupt, SystemExit):
        with override_settings(CACHES=entries(["near", "far"])):
            chain = caches["default"]
            chain.set("k", 1)
            layer = registry.layer("far")
            faults("far").fail(interrupt, operations=["set"])  # type: ignore[arg-type]
            with pytest.raises(interrupt):
                chain.set("k", 2)
            assert caches["near"].get("k") is None
            assert layer.failures == 0
            assert layer.breaker.state is State.CLOSED


def test_a_spent_deadline_still_reaches_the_direct_layers() -> None:
    resilience = {"OPERATION_TIMEOUT": 20, "TIMEOUT_STRATEGY": "thread"}
    with override_settings(CACHES=entries(["near", "far"], "miss", resilience)):
        chain = caches["default"]
        chain.set("k", 1)
        with deadline(0):
            assert chain.get("k") == 1
            assert chain.get("other", "default") == "default"
            chain.set("k", 2)
            assert chain.get("k") == 2
            chain.delete("k")
            assert chain.get("k") is None
        layer = registry.layer("far")
        assert layer.failures == 0
        assert layer.breaker.last_error is None


def test_invalid_keys_of_a_layer_pass_on() -> None:
    settings = entries(["strict"])
    settings["strict"] = {"BACKEND": "tests.contract.test_failing.Strict", "LOCATION": "strict"}
    with override_settings(CACHES=settings):
        for call in CALLS.values():
            with pytest.raises(InvalidCacheKey):
                if call(caches["default"]) is None:  # clear() has no key
                    raise InvalidCacheKey
        assert registry.layer("strict").failures == 0


class Strict(caches["default"].__class__):  # type: ignore[misc]
    def validate_key(self, key: str) -> None:
        raise InvalidCacheKey(key)


@pytest.mark.parametrize("strategy", ["sockets", "thread"])
@pytest.mark.parametrize("mode", ["miss", "raise"])
def test_a_redis_that_refuses_connections(strategy: str, mode: str) -> None:
    pytest.importorskip("django_redis")
    with RefusedPort() as port:
        settings = entries(["near", "redis"], mode)
        settings["redis"] = {
            "BACKEND": DJANGO_REDIS,
            "LOCATION": port.url,
            "RESILIENCE": {"OPERATION_TIMEOUT": 20, "TIMEOUT_STRATEGY": strategy, **PATIENT},
        }
        with override_settings(CACHES=settings):
            chain = caches["default"]
            for name, call in CALLS.items():
                caches["near"].clear()
                # Each as the first call of the outage: what the ledger holds is not asked for.
                registry.layer("redis").ledger.forget()
                result = attempt(call, chain)
                if mode == "raise":
                    assert issubclass(result, CacheUnavailable), name
                elif name in ("incr", "decr", "incr_version", "decr_version"):
                    assert issubclass(result, ValueError), name
                else:
                    assert not isinstance(result, type), name
            assert registry.layer("redis").failures >= len(CALLS)
