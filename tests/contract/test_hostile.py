"""Keys, versions, values and timeouts that nobody should use: as the bare alias takes them.

Or a clear error, the same in every state of the cache.  Whatever it is, no layer is blamed, nothing
is left behind, and the next caller is served as ever.
"""

from __future__ import annotations

import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from django.core.cache import BaseCache, caches
from django.db import DataError
from django.test import override_settings

from django_resilient_cache import CacheUnavailable, State
from django_resilient_cache.backend.bound_chain import process
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.testing import faults
from tests.contract.bench import Bench
from tests.contract.recorder import attempt
from tests.entries import FAULTY, MEMORY, chain

pytestmark = pytest.mark.usefixtures("still_agent")


class Refuses:
    """Cannot be made a text."""

    def __str__(self) -> str:
        raise LookupError("no text")

    __repr__ = __str__


class Lies:
    """Is equal to everything and has no hash."""

    def __eq__(self, other: object) -> bool:
        raise LookupError("no comparison")

    __hash__ = None  # type: ignore[assignment]  # as unhashable classes have it


class Text(str):
    """A text of a project's own."""

    __slots__ = ()


KEYS: dict[str, Any] = {
    "empty": "",
    "a space": "a b",
    "a line's end": "a\r\nset b 0 0 1\r\n1\r\n",
    "a zero": "a\0b",
    "half a character": "\ud800",
    "many bytes": "\u20ac" * 90,
    "long": "k" * 10_000,
    "a path": "../../../etc/passwd",
    "a pattern": "*",
    "a format": "%s{0}{key}",
    "quotes": "'; DROP TABLE cache; --",
    "bytes": b"bytes\xff",
    "None": None,
    "a number": 17,
    "a fraction": 1.5,
    "a large number": 10**4500,
    "a tuple": (1, "a"),
    "a list": [1],
    "no text": Refuses(),
    "no hash": Lies(),
    "a text of one's own": Text("own"),
}

VERSIONS: dict[str, Any] = {
    "zero": 0,
    "negative": -1,
    "a fraction": 1.5,
    "a text": "v 1\n",
    "long": "v" * 10_000,
    "half a character": "\ud800",
    "a large number": 10**4500,
    "a list": [1],
    "a set": {1},
    "no text": Refuses(),
    "no hash": Lies(),
}

TIMEOUTS: dict[str, Any] = {
    "never was": -(10**9),
    "a large number": 10**30,
    "no number": float("nan"),
    "endless": float("inf"),
    "a text": "soon",
    "a list": [1],
    "an object": Refuses(),
    "bytes": b"1",
}


class Recursive:
    """Contains itself in a way that no pickle gets to the end of."""

    def __reduce__(self) -> Any:
        return Recursive, (), {"again": Recursive()}


VALUES: dict[str, Any] = {
    "a function": lambda: None,
    "a lock": threading.Lock(),
    "a generator": (n for n in ()),
    "without end": Recursive(),
    "half a character": "\ud800",
}

Calls: TypeAlias = dict[str, Callable[[BaseCache, Any, Any], Any]]

CALLS: Calls = {
    "get": lambda c, k, v: c.get(k, "default", version=v),
    "set": lambda c, k, v: c.set(k, 1, 100, version=v),
    "add": lambda c, k, v: c.add(k, 1, 100, version=v),
    "get again": lambda c, k, v: c.get(k, "default", version=v),
    "has_key": lambda c, k, v: c.has_key(k, version=v),
    "touch": lambda c, k, v: c.touch(k, 100, version=v),
    "incr": lambda c, k, v: c.incr(k, version=v),
    "decr": lambda c, k, v: c.decr(k, version=v),
    "get_many": lambda c, k, v: c.get_many([k, "good"], version=v),
    "set_many": lambda c, k, v: c.set_many({k: 1, "good": 2}, 100, version=v),
    "delete_many": lambda c, k, v: c.delete_many([k, "good"], version=v),
    "get_or_set": lambda c, k, v: c.get_or_set(k, lambda: 1, 100, version=v),
    "get_or_set, plain": lambda c, k, v: c.get_or_set(k, 1, 100, version=v),
    "incr_version": lambda c, k, v: c.incr_version(k, version=v),
    "delete": lambda c, k, v: c.delete(k, version=v),
}
#: What a caller can make something of.
CLEAR = (
    DataError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RecursionError,
    pickle.PicklingError,
)

SETS: Calls = {
    "set": lambda c, value, timeout: c.set("k", value, timeout),
    "add": lambda c, value, timeout: c.add("new", value, timeout),
    "set_many": lambda c, value, timeout: c.set_many({"k": value, "l": value}, timeout),
    "get_or_set": lambda c, value, timeout: c.get_or_set("fresh", lambda: value, timeout),
    "touch": lambda c, value, timeout: c.touch("there", timeout),
}


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def compare(bench: Bench, calls: dict[str, Callable[[BaseCache], Any]]) -> list[str]:
    """Where the chain answers otherwise than the bare alias; checks that nobody is blamed."""
    with bench.caches(chain={"OPTIONS": {"ON_UNAVAILABLE": "raise"}}) as cache:
        chain, bare = cache("chain"), cache("layer")
        logs: list[list[Any]] = []
        for each in (bare, chain):
            bench.empty()
            each.set("there", 1)
            logs.append([attempt(call, each) for call in calls.values()])
        layer = registry.layer("layer")
        error = layer.breaker.last_error
        assert (layer.guard.counters.failures, layer.guard.counters.timeouts) == (0, 0), (
            error,
            logs,
        )
        assert layer.breaker.state is State.CLOSED
        assert layer.missed_changes.in_sync
        assert all(stripe.stamp is not None for stripe in process.generations._stripes)
        assert process.single_flight.under_way == {}
        chain.set("good", "value")
        assert chain.get("good") == bare.get("good") == "value"
        if bench.above or any(isinstance(result, type) for result in logs[0]):
            # A layer above may take what others refuse, and the chain miss what they raise for.
            return [
                f"{name}: {found!r:.80}"
                for name, expected, found in zip(calls, *logs, strict=True)
                if isinstance(found, type) and found is not expected and not is_clear(found)
            ]
        return [
            f"{name}: {found!r:.80}, not {expected!r:.80}"
            for name, expected, found in zip(calls, *logs, strict=True)
            if plain(name, found) != plain(name, expected)
        ]


def is_clear(error: type[Exception]) -> bool:
    """Whether a caller can make something of it."""
    return issubclass(error, CLEAR) and not issubclass(error, CacheUnavailable)


def plain(name: str, result: Any) -> Any:
    """A result without what BaseCache does not promise."""
    if isinstance(result, type):
        return result
    if name in ("set", "set_many", "delete_many"):
        return result or None if name == "set_many" else None
    return bool(result) if name in ("add", "touch", "delete", "has_key") else result


def bound(calls: Calls, *args: Any) -> dict[str, Callable[[BaseCache], Any]]:
    """The calls with these arguments, for any cache."""

    def with_args(call: Callable[..., Any]) -> Callable[[BaseCache], Any]:
        return lambda cache: call(cache, *args)

    return {name: with_args(call) for name, call in calls.items()}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_keys(bench: Bench, key: Any) -> None:
    assert compare(bench, bound(CALLS, key, None)) == []


@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
def test_versions(bench: Bench, version: Any) -> None:
    assert compare(bench, bound(CALLS, "key", version)) == []


@pytest.mark.parametrize("timeout", TIMEOUTS.values(), ids=TIMEOUTS)
def test_timeouts(bench: Bench, timeout: Any) -> None:
    if bench.kind.name == "pylibmc" and timeout == TIMEOUTS["never was"]:
        pytest.skip("takes a TTL in the past for a lack of memory")
    assert compare(bench, bound(SETS, 1, timeout)) == []


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_values(bench: Bench, value: Any) -> None:
    assert compare(bench, bound(SETS, value, 100)) == []


# While the authority is away


@pytest.fixture
def away() -> Iterator[Any]:
    """A chain whose authority fails; called, it comes back."""
    settings = {
        "default": chain("near", "layer"),
        "near": {"BACKEND": MEMORY, "LOCATION": "near"},
        "layer": {
            "BACKEND": FAULTY,
            "LOCATION": "behind",
            "RESILIENCE": {"OPERATION_TIMEOUT": None, "MAX_FAILURES": 10**6, "FAILURE_RATE": None},
        },
        "behind": {"BACKEND": MEMORY, "LOCATION": "behind"},
    }
    with override_settings(CACHES=settings), faults("layer").fail():
        yield faults("layer").heal


HOSTILE = {f"key: {name}": (key, None) for name, key in KEYS.items()} | {
    f"version: {name}": ("key", version) for name, version in VERSIONS.items()
}


@pytest.mark.parametrize(("key", "version"), HOSTILE.values(), ids=HOSTILE)
def test_what_a_layer_missed_is_made_up_for(key: Any, version: Any, away: Any) -> None:
    cache, layer = caches["default"], registry.layer("layer")
    for name, call in bound(CALLS, key, version).items():
        result = attempt(call, cache)
        assert not isinstance(result, type) or issubclass(result, CLEAR), (name, result)
    layer.breaker.reset()
    away()
    for _ in range(3):
        registry.tend()
    assert layer.missed_changes.in_sync
    assert cache.set("key", 1) is None
    assert caches["layer"].get("key") == 1
