"""What each fault does to each method of a `FaultyCache`, and how it ends."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.cache import BaseCache, caches
from django.test import override_settings

from django_resilient_cache.testing import Effect, Fault, Faults, Unreadable, faults
from tests.entries import MEMORY
from tests.services import wait_until
from tests.simulated_chain import FAULTY

CACHES = {
    "default": {"BACKEND": FAULTY, "LOCATION": "real"},
    "real": {"BACKEND": MEMORY, "LOCATION": "effects"},
}

READS: dict[str, tuple[Any, ...]] = {
    "get": ("k",),
    "get_many": (["k", "n", "none"],),
    "has_key": ("k",),
}
#: Arguments, and whether it was made, as the cache behind shows it.
CHANGES: dict[str, tuple[tuple[Any, ...], Callable[[BaseCache], bool]]] = {
    "set": (("k", "new"), lambda real: real.get("k") == "new"),
    "set_many": (({"k": "new", "m": 1},), lambda real: real.get("m") == 1),
    "delete": (("k",), lambda real: "k" not in real),
    "delete_many": ((["k", "n"],), lambda real: "n" not in real),
    "clear": ((), lambda real: "n" not in real),
    "add": (("m", 1), lambda real: real.get("m") == 1),
    "touch": (("k", 0), lambda real: "k" not in real),
    "incr": (("n", 2), lambda real: real.get("n") == 7),
    "decr": (("n", 2), lambda real: real.get("n") == 3),
    "get_or_set": (("m", 1), lambda real: real.get("m") == 1),
}
ARGUMENTS = READS | {name: arguments for name, (arguments, _) in CHANGES.items()}

#: Made of a `get` that comes first: this one alone is lost, given up or refused.
COMPOSED = {"get_or_set"}
DECODING = ("get", "get_many", "incr", "decr")


def made(operation: str) -> bool:
    return operation in CHANGES and CHANGES[operation][1](caches["real"])


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Any]]:
    """Calls a method of the faulty cache, or its async form, on what the cache behind has."""

    def make(operation: str) -> Any:
        arguments = ARGUMENTS[operation]
        if request.param == "sync":
            return getattr(caches["default"], operation)(*arguments)

        async def in_loop() -> Any:
            return await getattr(caches["default"], f"a{operation}")(*arguments)

        return asyncio.run(in_loop())

    with override_settings(CACHES=CACHES):
        fill()
        yield make


@contextmanager
def calling(call: Callable[[str], Any], operation: str) -> Iterator[list[Any]]:
    """A thread that makes the call; yields a list that gets its result or error."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(call(operation))
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert wait_until(lambda: faults("default").hanging == 1 or not thread.is_alive(), 5)
        yield results
    finally:
        faults("default").discard()
        thread.join(10)
        assert not thread.is_alive(), "no thread is left waiting"


def healthy(operation: str) -> Any:
    """The result of the call where nothing goes wrong; the cache is then as before."""
    fill()
    try:
        return getattr(caches["real"], operation)(*ARGUMENTS[operation])
    finally:
        fill()


def fill() -> None:
    caches["real"].clear()
    caches["real"].set_many({"k": "old", "n": 5})


@pytest.mark.parametrize("operation", ARGUMENTS)
def test_without_a_fault_each_call_passes(call: Callable[[str], Any], operation: str) -> None:
    result = call(operation)
    assert made(operation) is (operation in CHANGES)
    assert result == healthy(operation)


@pytest.mark.parametrize("operation", ARGUMENTS)
def test_a_failing_call_is_not_made(call: Callable[[str], Any], operation: str) -> None:
    with faults("default").fail(), pytest.raises(ConnectionError, match="failed on demand"):
        call(operation)
    assert not made(operation)


@pytest.mark.parametrize("operation", ARGUMENTS)
def test_a_call_whose_answer_is_lost_is_made(call: Callable[[str], Any], operation: str) -> None:
    error = OSError(104, "reset by peer")
    with faults("default").lose_answers(error), pytest.raises(OSError, match="reset") as caught:
        call(operation)
    assert caught.value is not error, "each call has an error of its own"
    assert made(operation) is (operation in CHANGES and operation not in COMPOSED)


@pytest.mark.parametrize("operation", ARGUMENTS)
def test_a_hanging_call_is_made_once_healed(call: Callable[[str], Any], operation: str) -> None:
    hung = faults("default")
    hung.hang()
    with calling(call, operation) as results:
        assert not results
        assert not made(operation)
        hung.heal()
        assert wait_until(lambda: bool(results), 5)
        assert made(operation) is (operation in CHANGES)
    assert results == [healthy(operation)]
    assert hung.hanging == 0


@pytest.mark.parametrize("operation", ARGUMENTS)
def test_a_hanging_call_that_is_discarded_is_not_made(
    call: Callable[[str], Any], operation: str
) -> None:
    hung = faults("default")
    hung.hang()
    with calling(call, operation) as results:
        hung.discard()
        assert hung.hanging == 0
        assert wait_until(lambda: bool(results), 5)
    assert isinstance(results[0], ConnectionError)
    assert not made(operation)


@pytest.mark.parametrize("operation", ARGUMENTS)
def test_a_slow_call_is_made_after_a_while(call: Callable[[str], Any], operation: str) -> None:
    with faults("default").slow(0.02) as slow:
        with calling(call, operation) as results:
            assert wait_until(lambda: bool(results), 5)
        assert slow.hanging == 0
    assert results == [healthy(operation)]


@pytest.mark.parametrize("operation", ARGUMENTS)
def test_a_late_call_is_given_up_and_lands_when_healed(
    call: Callable[[str], Any], operation: str
) -> None:
    late = faults("default")
    changes = operation in CHANGES and operation not in COMPOSED
    with late.late():
        with pytest.raises(TimeoutError):
            call(operation)
        assert not made(operation)
        assert late.pending == changes
    assert made(operation) is changes, "before heal() returns"
    assert late.pending == 0


@pytest.mark.parametrize("operation", CHANGES)
def test_a_late_call_lands_after_its_seconds(call: Callable[[str], Any], operation: str) -> None:
    only = "add" if operation == "get_or_set" else operation
    with faults("default").late(0.02, operations=[only]) as late:
        with pytest.raises(TimeoutError):
            call(operation)
        assert wait_until(lambda: made(operation), 5)
        assert wait_until(lambda: late.pending == 0, 5)
        assert late.in_force, "that it has landed ends no fault"
    assert wait_until(lambda: not late_threads(), 5), "its thread ends with what it waited for"


@pytest.mark.parametrize("operation", CHANGES)
def test_a_late_call_that_is_discarded_never_lands(
    call: Callable[[str], Any], operation: str
) -> None:
    late = faults("default")
    late.late(1.0)
    with pytest.raises(TimeoutError):
        call(operation)
    late.discard()
    assert late.pending == 0
    assert wait_until(lambda: not late_threads(), 5)
    assert not made(operation)


def late_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "late" in thread.name]


@pytest.mark.parametrize("operation", ARGUMENTS)
def test_a_corrupt_entry_cannot_be_read_and_is_left_alone(
    call: Callable[[str], Any], operation: str
) -> None:
    with faults("default").corrupt():
        if operation in DECODING:
            with pytest.raises(pickle.UnpicklingError):
                call(operation)
            assert not made(operation)
        elif operation == "get_or_set":
            with pytest.raises(pickle.UnpicklingError):
                call(operation)
            assert made(operation), "BaseCache reads what it has added"
        else:
            call(operation)
            assert made(operation) is (operation in CHANGES)
    caches["real"].set("k", "old")
    assert caches["default"].get("k") == "old", "healed, it is read again"


@pytest.mark.parametrize("operation", DECODING)
def test_what_is_missing_is_not_corrupt(call: Callable[[str], Any], operation: str) -> None:
    caches["real"].clear()
    with faults("default").corrupt():
        if operation in ("incr", "decr"):
            with pytest.raises(ValueError, match="not found"):
                call(operation)
        else:
            assert call(operation) == {"get": None, "get_many": {}}[operation]


@pytest.mark.parametrize("effect", ["fail", "lose_answers", "hang", "late", "corrupt"])
def test_narrowed_down_it_leaves_the_other_calls_alone(
    call: Callable[[str], Any], effect: str
) -> None:
    with getattr(faults("default"), effect)(keys="other:*"):
        for operation in ARGUMENTS:
            assert call(operation) == healthy(operation), operation
    with getattr(faults("default"), effect)(operations=["get_many"]):
        for operation in set(ARGUMENTS) - {"get_many"}:
            call(operation)
            fill()
    with getattr(faults("default"), effect)(probability=0):
        for operation in ARGUMENTS:
            call(operation)
            fill()


def test_a_batch_is_befallen_as_a_whole(call: Callable[[str], Any]) -> None:
    with faults("default").fail(keys="m"), pytest.raises(ConnectionError):
        call("set_many")
    assert caches["real"].get("k") == "old"


def test_a_batch_of_reads_is_corrupt_only_where_its_entries_are(
    call: Callable[[str], Any],
) -> None:
    with faults("default").corrupt(keys="none"):
        assert call("get_many") == {"k": "old", "n": 5}
    with faults("default").corrupt(keys="n"):
        with pytest.raises(pickle.UnpicklingError):
            call("get_many")
        assert call("get") == "old"


def test_each_fault_has_its_say_in_order(call: Callable[[str], Any]) -> None:
    both = faults("default")
    both.slow(0.01, operations=["get"])
    both.fail(LookupError, operations=["get"])
    both.fail(KeyError)
    with calling(call, "get") as results:
        assert wait_until(lambda: bool(results), 5)
    assert type(results[0]) is LookupError


def test_late_changes_land_in_the_order_in_which_they_were_asked_for(
    call: Callable[[str], Any],
) -> None:
    cache, late = caches["default"], faults("default")
    late.late()
    for number in range(20):
        with pytest.raises(TimeoutError):
            cache.set("k", number)
    late.heal()
    assert caches["real"].get("k") == 19


def test_a_late_change_that_comes_to_nothing_hurts_nobody(call: Callable[[str], Any]) -> None:
    late = faults("default")
    late.late()
    for key in ("none", "n"):
        with pytest.raises(TimeoutError):
            caches["default"].incr(key)
    late.heal()
    assert caches["real"].get("n") == 6


def test_one_fault_can_be_healed_alone(call: Callable[[str], Any]) -> None:
    cause = faults("default")
    refused = cause.fail(operations=["get"])
    lost = cause.lose_answers(operations=["set"])
    assert [fault.effect for fault in cause.in_force] == [Effect.FAIL, Effect.LOSE]
    refused.heal()
    call("get")
    with pytest.raises(ConnectionError):
        call("set")
    lost.heal()
    lost.heal()
    call("set")
    assert cause.in_force == []


def test_a_fault_made_by_hand_can_be_added(call: Callable[[str], Any]) -> None:
    fault = Fault(effect=Effect.FAIL, error=KeyError("gone"), operations=["get"])
    with faults("default").add(fault) as cause:
        with pytest.raises(KeyError, match="gone"):
            call("get")
        assert cause.in_force == [fault]
        assert "fail(" in repr(cause)
    assert repr(cause) == "<Faults: none>"


def test_what_hangs_when_the_settings_change_goes_to_no_other_cache() -> None:
    with override_settings(CACHES=CACHES):
        faults("default").hang()
        cache = caches["default"]
        errors: list[BaseException] = []

        def change() -> None:
            try:
                cache.set("k", "from before")
            except ConnectionError as error:
                errors.append(error)

        thread = threading.Thread(target=change)
        thread.start()
        assert wait_until(lambda: faults("default").hanging == 1, 5)
        with override_settings(CACHES=CACHES):
            thread.join(5)
            assert not thread.is_alive()
            assert len(errors) == 1
            assert caches["real"].get("k") is None
            assert faults("default").in_force == []


@pytest.mark.parametrize("error", [None, AttributeError("Can't get attribute 'Menu'")])
def test_an_unreadable_value_is_stored_and_read_by_nobody(error: Exception | None) -> None:
    with override_settings(CACHES=CACHES):
        cache = caches["default"]
        cache.set("k", Unreadable(error))
        assert cache.has_key("k")
        with pytest.raises(AttributeError if error else pickle.UnpicklingError):
            cache.get("k")
        with pytest.raises(AttributeError if error else pickle.UnpicklingError):
            cache.get_many(["k"])
        cache.set("k", "again")
        assert cache.get("k") == "again"


def test_calls_are_counted_befallen_or_not(call: Callable[[str], Any]) -> None:
    counted: Faults = faults("default")
    for _ in range(3):
        call("get")
    with counted.fail(), pytest.raises(ConnectionError):
        call("get")
    assert counted.calls["get"] == 4
