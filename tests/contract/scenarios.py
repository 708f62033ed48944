"""What is done to a cache to see whether it answers as another one does."""

from __future__ import annotations

import uuid
from datetime import date
from typing import Any

from tests.contract.recorder import Recorder, Scenario

SCENARIOS: dict[str, Scenario] = {}

KEYS = (
    "",
    " ",
    "with space",
    "schlüssel-日本語-🔑",
    "control\x01\n\x7f",
    "a:b:c",
    "100%s %d %(x)s",
    "{curly}",
    "*?[a]",
    "../../up",
    0,
    7,
    -1,
    1.5,
    None,
    True,
    b"bytes",
    ("tu", "ple"),
)
VALUES = (
    *(None, 0, 1, -1, 2**62, 2**70, True, False, 1.5, float("inf")),
    *("", "text", "ü" * 1000, "12", b"", b"\x00\xff", b"12"),
    *([], {}, (1, [2, {"three": {4}}]), date(2026, 1, 2), uuid.UUID(int=5)),
)
MONTH, DECADE = 60 * 60 * 24 * 31, 60 * 60 * 24 * 365 * 10
TIMEOUTS = (None, 0, -1, 1, 3600, MONTH, DECADE, 0.0, -0.5, 1.9, 3600.5)
ODD_TIMEOUTS = (10**18, float("inf"), float("nan"), "60", "soon", b"", [])


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


@scenario
def missing_entries(c: Recorder) -> None:
    c.get("k")
    c.get("k", "default")
    c.get("k", default=0)
    assert "k" not in c
    c.has_key("k")
    c.get_many(["k", "l"])
    c.delete("k")
    c.touch("k")
    c.touch("k", 5)
    c.incr("k")
    c.decr("k")
    c.incr("k", 5)
    c.incr_version("k")
    c.decr_version("k")
    c.get_many([])
    c.set_many({})


@scenario
def values(c: Recorder) -> None:
    for number, value in enumerate(VALUES):
        key = f"v{number}"
        c.set(key, value)
        c.get(key, "default")
        c.has_key(key)
    many = {f"m{number}": value for number, value in enumerate(VALUES)}
    c.set_many(many)
    c.get_many(list(many))
    c.get_many(many)


@scenario
def a_cached_none_is_not_a_missing_entry(c: Recorder) -> None:
    c.set("none", None)
    c.get("none", "default")
    c.has_key("none")
    c.get_many(["none", "other"])
    c.add("none", 1)
    c.get_or_set("none", "default")
    c.get_or_set("none", lambda: "default")
    c.touch("none")
    c.delete("none")
    c.get("none", "default")
    c.get_or_set("fresh", None)
    c.get_or_set("fresh2", lambda: None)
    c.get("fresh", "default")
    c.get("fresh2", "default")


@scenario
def add_and_touch(c: Recorder) -> None:
    c.add("k", 1)
    c.add("k", 2)
    c.get("k")
    for timeout in (100, None, 0):
        c.touch("k", timeout)
        c.get("k")
    c.add("k", 3)
    c.add("z", 1, timeout=0)
    c.get("z")
    c.add("z", 2)
    c.get("z")


@scenario
def counters(c: Recorder) -> None:
    c.set("n", 41)
    for delta in (1, 10, -2, 0):
        c.incr("n", delta)
        c.get("n")
    for delta in (1, 10, -3):
        c.decr("n", delta)
        c.get("n")
    c.set("n", 1)
    c.decr("n")
    c.decr("n")
    c.get("n")
    for number, value in enumerate(("abc", [1], 1.5, None, "12", True)):
        c.set(f"t{number}", value)
        c.incr(f"t{number}")
        c.decr(f"t{number}")
        c.get(f"t{number}")
    c.set("n", 1)
    for no_delta in ("x", None, 1.5, []):
        c.incr("n", no_delta)
        c.decr("n", no_delta)
        c.get("n")
    c.set("big", 2**63 - 1)
    c.incr("big")


@scenario
def get_or_set(c: Recorder) -> None:
    calls: list[int] = []

    def default() -> str:
        calls.append(1)
        return f"computed {len(calls)}"

    c.get_or_set("k", default)
    c.get_or_set("k", default)
    c.get("k")
    c.get_or_set("l", "plain")
    c.get_or_set("l", "other")
    c.get("l")
    c.get_or_set("m", default, timeout=0)
    c.get("m")
    c.get_or_set("n", default, 100, 2)
    c.get("n")
    c.get("n", version=2)

    def fails() -> None:
        raise LookupError

    c.get_or_set("f", fails)
    c.get("f")
    c.get_or_set("f", default)
    c.note("computations", len(calls))


@scenario
def versions(c: Recorder) -> None:
    _versions(c, 1, 2, -1, "text", 10**30, 1.5)
    c.set("k", "one")
    c.incr_version("k")
    c.get("k")
    c.get("k", version=2)
    c.decr_version("k", version=2)
    c.get("k")
    c.incr_version("k", 5)
    c.get("k", version=6)


@scenario
def versions_that_are_false(c: Recorder) -> None:
    _versions(c, 0, "", False)


def _versions(c: Recorder, *versions: Any) -> None:
    for version in versions:
        c.set("k", f"value of {version!r}", version=version)
        c.get("k", version=version)
        c.has_key("k", version=version)
        c.get_many(["k"], version=version)
        c.add("k", 1, version=version)
        c.touch("k", version=version)
        c.delete("k", version=version)
        c.set_many({"k": 5}, version=version)
        c.incr("k", version=version)
        c.get("k", version=version)
        c.get("k")
        c.delete_many(["k"], version=version)
        c.get("k", version=version)


@scenario
def keys(c: Recorder) -> None:
    _keys(c, *KEYS)


def _keys(c: Recorder, *keys: Any) -> None:
    for key in keys:
        c.set(key, "value")
        c.get(key)
        c.has_key(key)
        c.add(key, 1)
        c.touch(key)
        c.get_many([key, "other"])
        c.set_many({key: 7})
        c.incr(key)
        c.get_or_set(key, 1)
        c.get_or_set(key, lambda: 1)
        c.delete(key)
        c.delete_many([key])
        c.get(key)


@scenario
def a_long_key(c: Recorder) -> None:
    _keys(c, "k" * 300)


@scenario
def one_and_the_text_one_are_one_key(c: Recorder) -> None:
    c.set(1, "number")
    c.get("1")
    c.set("1", "text")
    c.get(1)
    c.delete("1")
    c.get(1)


@scenario
def arguments_of_wrong_types(c: Recorder) -> None:
    c.get_many(5)
    c.get([])
    c.set({}, 1)
    c.delete({})
    c.get("k", version=[1])


@scenario
def batches_of_wrong_types(c: Recorder) -> None:
    c.set_many([1, 2])
    c.set_many(5)


@scenario
def batches(c: Recorder) -> None:
    c.set("a", 1)
    c.get_many(["a", "b"])
    c.get_many({"b": 1, "a": 2})
    c.get_many(["a", "a"])
    c.set_many({"b": 2, "c": 3})
    c.get_many(["a", "b", "c", "d"])
    c.set_many({"a": 10, "e": 5}, timeout=0)
    c.get_many(["a", "b", "e"])
    c.set_many({"a": 1}, 100, 2)
    c.get_many(["a", "b"], version=2)
    c.delete_many(["a", "b"])
    c.delete_many(["c"], 2)
    c.get_many(["a", "b", "c"])
    c.clear()
    c.get_many(["a", "b", "c"])
    c.get("a", version=2)


@scenario
def timeouts(c: Recorder) -> None:
    for timeout in TIMEOUTS:
        c.set("k", "value", timeout)
        c.get("k")
        c.delete("k")
        c.add("k", "value", timeout)
        c.get("k")
        c.set_many({"k": 1, "l": 2}, timeout)
        c.get_many(["k", "l"])
        c.delete_many(["k", "l"])
        c.get_or_set("k", "value", timeout)
        c.get("k")
        c.delete("k")


@scenario
def touches(c: Recorder) -> None:
    for timeout in TIMEOUTS:
        c.set("k", "value")
        c.touch("k", timeout)
        c.get("k")


@scenario
def odd_timeouts(c: Recorder) -> None:
    for timeout in ODD_TIMEOUTS:
        c.clear()
        c.set("k", "value", timeout)


@scenario
def values_that_cannot_be_pickled(c: Recorder) -> None:
    c.set("k", "before")
    c.set("k", lambda: None)
    c.add("new", lambda: None)
    c.set_many({"k": lambda: None})
    c.get("new")
    c.get("k")
    c.get_or_set("new", lambda: lambda: None)
    c.get("new")


@scenario
def values_that_refuse_to_be_pickled(c: Recorder) -> None:
    c.set("k", "before")
    c.set("k", Hostile())
    c.get("k")


class Hostile:
    def __reduce__(self) -> Any:
        raise LookupError("raised by the caller's own value")


@scenario
def what_is_returned_is_a_copy(c: Recorder) -> None:
    value = {"list": [1]}
    c.set("k", value)
    value["list"].append(2)
    c._cache.get("k")["list"].append(3)
    c._cache.get_many(["k"])["k"]["list"].append(4)
    c.get("k")
    c.get_many(["k"])


@scenario
def what_it_says_of_itself(c: Recorder) -> None:
    for name in ("version", "key_prefix", "default_timeout"):
        c.note(name, getattr(c._cache, name))
    c.make_key("k")
    c.make_key("k", version=5)
    c.make_key("k", 0)
    c.key_func("k", "p", 1)
    c.close()
