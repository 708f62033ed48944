"""Faults of a layer, seen through a chain: nobody is raised at, breakers open, ledgers hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.cache import BaseCache, caches
from django.test import override_settings

from django_resilient_cache import CacheUnavailable, State, breakers
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.testing import Faults, Unreadable, faults
from tests.entries import CHAIN, MEMORY
from tests.services import wait_until
from tests.simulated_chain import FAULTY

pytestmark = pytest.mark.usefixtures("still_agent")

LIMITS: dict[str, dict[str, Any]] = {
    "direct": {"OPERATION_TIMEOUT": None},
    "thread": {"OPERATION_TIMEOUT": 20, "TIMEOUT_STRATEGY": "thread"},
    "short": {"OPERATION_TIMEOUT": 0.03, "TIMEOUT_STRATEGY": "thread", "MAX_CONCURRENCY": 200},
}
#: How the layer goes wrong, and under which limits.
FAULTS: dict[str, Callable[[Faults], object]] = {
    "fail": lambda far: far.fail(),
    "lose_answers": lambda far: far.lose_answers(),
    "late": lambda far: far.late(),
    "hang": lambda far: far.hang(),
    "slow": lambda far: far.slow(0.3),
}
CASES = [
    *((fault, limit) for fault in ("fail", "lose_answers", "late") for limit in LIMITS),
    ("hang", "short"),
    ("slow", "short"),
]
NAMES = ["-".join(case) for case in CASES]
#: What a chain without its authority answers; an error: what it raises.
ANSWERS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "get": (("k",), None),
    "get_many": ((["k", "n"],), {}),
    "has_key": (("k",), False),
    "set": (("k", "new"), None),
    "set_many": (({"k": "new"},), ["k"]),
    "delete": (("k",), False),
    "delete_many": ((["k"],), None),
    "clear": ((), None),
    "add": (("m", 1), False),
    "touch": (("k", 60), False),
    "incr": (("n",), CacheUnavailable),
    "decr": (("n",), CacheUnavailable),
    "get_or_set": (("k", "computed"), "computed"),
}


def settings(layers: list[str], limit: str = "direct", **resilience: Any) -> dict[str, Any]:
    guard = {"MAX_FAILURES": 3, "RESET_TIMEOUT": 60, **LIMITS[limit], **resilience}
    return {
        "default": {"BACKEND": CHAIN, "LOCATION": layers},
        "near": {"BACKEND": MEMORY, "LOCATION": "near"},
        "far": {"BACKEND": FAULTY, "LOCATION": "real", "RESILIENCE": guard},
        "real": {"BACKEND": MEMORY, "LOCATION": "real"},
    }


def answer(operation: str, form: str) -> Any:
    """What the chain returns, or the type of the error it raises."""
    cache: BaseCache = caches["default"]
    arguments = ANSWERS[operation][0]

    async def in_loop() -> Any:
        return await getattr(cache, f"a{operation}")(*arguments)

    try:
        if form == "async":
            return asyncio.run(in_loop())
        return getattr(cache, operation)(*arguments)
    except CacheUnavailable:
        return CacheUnavailable


@contextmanager
def failing(fault: str, limit: str, layers: list[str], **resilience: Any) -> Iterator[Faults]:
    """A chain with "k" and "n" in its far layer, which then goes wrong; no call is left waiting."""
    with override_settings(CACHES=settings(layers, limit, **resilience)):
        caches["real"].set_many({"k": "old", "n": 1})
        far = faults("far")
        FAULTS[fault](far)
        try:
            yield far
        finally:
            far.discard()
            assert far.hanging == far.pending == 0


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize(("fault", "limit"), CASES, ids=NAMES)
def test_whatever_goes_wrong_every_method_answers_as_documented(
    fault: str, limit: str, form: str
) -> None:
    for operation, (_, expected) in ANSWERS.items():
        with failing(fault, limit, ["far"]) as far:
            assert answer(operation, form) == expected, operation
            # A short limit may end before a busy process has begun.
            assert far.calls.total() >= (limit != "short")


@pytest.mark.parametrize(("fault", "limit"), CASES, ids=NAMES)
def test_its_breaker_opens_and_no_more_calls_reach_it(fault: str, limit: str) -> None:
    with failing(fault, limit, ["far"]) as far:
        chain = caches["default"]

        def opens() -> bool:
            chain.get("k")
            return breakers["far"].state is State.OPEN

        # Three, or a few more where this process itself was short of time.
        assert wait_until(opens, 10, every=0.001)
        if limit != "short":
            assert far.calls["get"] == 3
        asked = far.calls.total()
        for _ in range(20):
            assert chain.get("k") is None
            chain.set("other", 1)
        assert far.calls.total() == asked
        far.discard()
        breakers["far"].reset()
        chain.set("k", 1)
        assert caches["real"].get("k") == 1


REPLACING = ("set", "set_many", "delete", "delete_many", "clear")


@pytest.mark.parametrize("operation", REPLACING)
@pytest.mark.parametrize(("fault", "limit"), CASES, ids=NAMES)
def test_what_the_layer_missed_is_held_until_repaired(
    fault: str, limit: str, operation: str
) -> None:
    with failing(fault, limit, ["far"]) as far:
        chain, layer = caches["default"], registry.layer("far")
        answer(operation, "sync")
        assert not layer.missed_changes.in_sync
        far.heal()
        breakers["far"].reset()
        assert chain.get("k") is None, "not what may be obsolete"
        assert wait_until(repaired, 5)
        assert caches["real"].get("k") is None
        chain.set("k", "newest")
        assert chain.get("k") == "newest"


def repaired() -> bool:
    registry.tend()
    return registry.layer("far").missed_changes.in_sync


@pytest.mark.parametrize("limit", ["direct", "thread"])
@pytest.mark.parametrize("when", ["healed", "due"])
def test_a_late_change_lands_while_its_key_is_held(limit: str, when: str) -> None:
    """A server that holds a change its client has given up applies it during the outage."""
    with override_settings(CACHES=settings(["near", "far"], limit, MAX_FAILURES=1)):
        far, chain, real = faults("far"), caches["default"], caches["real"]
        chain.set_many({"k": "old", "n": "old"})
        late = far.late(None if when == "healed" else 0.02)
        chain.set("k", "newer")
        assert breakers["far"].state is State.OPEN
        chain.delete("k")
        if when == "healed":
            assert real.get("k") == "old"
            late.heal()
        assert wait_until(lambda: real.get("k") == "newer", 5), "it has landed"
        far.heal()
        assert len(registry.layer("far").missed_changes) == 1, "and the key is held"
        breakers["far"].reset()
        assert chain.get("k") is None
        assert wait_until(repaired, 5)
        assert real.get("k") is None
        assert chain.get("k") is None
        assert chain.get("n") == "old", "what was not touched is as it was"


def test_a_hung_change_keeps_its_key_until_it_has_ended() -> None:
    with override_settings(CACHES=settings(["far"], "short", MAX_FAILURES=100)):
        far, chain, layer = faults("far"), caches["default"], registry.layer("far")
        chain.set("warm", 1)
        far.hang(operations=["set"])
        chain.set("k", "old")
        registry.tend()
        assert not layer.missed_changes.in_sync, "no repair before it has ended"
        far.heal()
        assert wait_until(lambda: caches["real"].get("k") == "old", 5)
        assert chain.get("k") is None
        assert wait_until(repaired, 5)
        assert caches["real"].get("k") is None


@pytest.mark.parametrize("how", ["corrupt", "stored"])
@pytest.mark.parametrize("limit", ["direct", "thread"])
def test_an_entry_that_cannot_be_read_back_is_a_miss_and_left_in_place(
    limit: str, how: str
) -> None:
    with override_settings(CACHES=settings(["far"], limit)):
        far, chain, real = faults("far"), caches["default"], caches["real"]
        chain.set_many({"good": 1, "menu": 2})
        if how == "stored":
            real.set("menu", Unreadable())
        else:
            far.corrupt(keys="menu")
        for _ in range(5):
            assert chain.get("menu", "default") == "default"
        assert chain.get_many(["good", "menu"]) == {"good": 1}
        assert chain.has_key("menu") is True
        assert chain.add("menu", 3) is False
        with pytest.raises(ValueError, match="cannot be read back"):
            chain.incr("menu")
        assert chain.get_or_set("menu", lambda: "computed") == "computed"
        assert breakers["far"].state is State.CLOSED
        assert registry.layer("far").guard.counters.failures == 0
        assert registry.layer("far").missed_changes.in_sync
        assert real.has_key("menu"), "another version may need it"
        far.heal()
        chain.set("menu", 4)
        assert chain.get("menu") == 4


def test_a_garbage_reply_counts_as_a_failure() -> None:
    with override_settings(CACHES=settings(["far"])):
        chain = caches["default"]
        chain.set("k", 1)
        faults("far").corrupt(AttributeError("'int' object has no attribute 'decode'"))
        for _ in range(3):
            assert chain.get("k") is None
        assert breakers["far"].state is State.OPEN
        assert "decode" in (breakers["far"].last_error or "")


def test_an_entry_above_a_corrupt_one_is_still_a_hit() -> None:
    with override_settings(CACHES=settings(["near", "far"])):
        chain = caches["default"]
        chain.set("k", 1)
        with faults("far").corrupt():
            assert chain.get("k") == 1
            caches["near"].clear()
            assert chain.get("k") is None
        assert chain.get("k") == 1


def test_a_faulty_cache_passes_on_what_an_entry_has_left_to_live() -> None:
    """So that a copy above lives no longer than the entry behind it."""
    with override_settings(CACHES=settings(["near", "far"])):
        caches["far"].set("k", 1, 7)
        assert caches["default"].get("k") == 1
        (end,) = caches["near"]._expire_info.values()  # type: ignore[attr-defined]  # the backend's own
        assert 0 < end - time.time() <= 7
