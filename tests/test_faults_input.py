"""A mistake in what is asked for names the argument, the value and what to write instead."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_resilient_cache.testing import Effect, Fault, FaultyCache, SharedFaults, faults
from django_resilient_cache.testing.fault_file import dump, load
from tests.entries import CHAIN, MEMORY
from tests.simulated_chain import FAULTY


class NeedsTwoError(Exception):
    """Cannot be made from a text alone."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__()


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"effect": "hang"}, r"effect is 'hang'; write a member of Effect: Effect.HANG"),
    ({"seconds": 0}, r"seconds is 0; write a number of seconds above 0"),
    ({"seconds": "1"}, r"seconds is '1'; write a number"),
    ({"seconds": True}, r"seconds is True; write a number"),
    ({"seconds": float("nan")}, r"seconds is nan; write a number"),
    ({"seconds": float("inf")}, r"seconds is inf; write a number"),
    ({"effect": Effect.FAIL, "seconds": 1}, r"seconds is 1; write none: FAIL does not wait"),
    ({"error": OSError}, r"error is <class 'OSError'>; write none: HANG raises nothing"),
    ({"effect": Effect.FAIL, "error": "gone"}, r"error is 'gone'; write an exception"),
    ({"effect": Effect.FAIL, "error": int}, r"error is <class 'int'>; write an exception"),
    ({"effect": Effect.FAIL, "error": NeedsTwoError}, r"made again from its own args \(.*two"),
    ({"operations": []}, r"operations is \[\]; write at least one, or None for all"),
    ({"operations": ["gets"]}, r"operations is 'gets'; write 'get'"),
    ({"operations": "get_or_set"}, r"operations is 'get_or_set'; write "),
    ({"operations": [3]}, r"operations is 3; write some of get, get_many"),
    (
        {"effect": Effect.CORRUPT, "operations": ["set"]},
        r"operations is 'set'; write some of get, get_many, incr, decr$",
    ),
    ({"keys": ["menu"]}, r"keys is \['menu'\]; write one pattern"),
    ({"probability": 1.5}, r"probability is 1.5; write a number from 0 to 1"),
    ({"probability": "0.5"}, r"probability is '0.5'; write a number from 0 to 1"),
    ({"seed": 0.5}, r"seed is 0.5; write a whole number"),
]


@pytest.mark.parametrize(("arguments", "told"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_fault_that_makes_no_sense_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Fault(**{"effect": Effect.HANG, **arguments})


def test_one_operation_may_be_named_without_a_list() -> None:
    assert Fault(effect=Effect.FAIL, operations="get") == Fault(
        effect=Effect.FAIL, operations=["get"]
    )


def test_a_misspelt_narrowing_is_refused() -> None:
    with override_settings(CACHES=caches_with({})), pytest.raises(TypeError, match="key"):
        faults("redis").fail(key="menu:*")  # type: ignore[call-arg]  # a mistake on purpose


def caches_with(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "default": {"BACKEND": CHAIN, "LOCATION": ["redis"]},
        "redis": {"BACKEND": FAULTY, "LOCATION": "real redis", **entry},
        "real redis": {"BACKEND": MEMORY, "LOCATION": "input"},
    }


ALIASES = {
    "default": r'CACHES\["default"\] is not a FaultyCache.*did you mean "redis"\?',
    "rediss": r'CACHES\["rediss"\] is not configured.*did you mean "redis"\?',
    "real redis": r'CACHES\["real redis"\] is not a FaultyCache',
}


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_that_cannot_be_told_to_fail_is_refused(alias: str) -> None:
    with (
        override_settings(CACHES=caches_with({})),
        pytest.raises(ImproperlyConfigured, match=ALIASES[alias]),
    ):
        faults(alias)


def test_where_there_is_none_it_says_how_to_write_one() -> None:
    with pytest.raises(
        ImproperlyConfigured, match=r'"BACKEND": "django_resilient_cache\.testing\.'
    ):
        faults("default")


SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "no alias": ({"LOCATION": "reall redis"}, r'LOCATION .* is "reall redis".*"real redis"'),
    "an address": ({"LOCATION": "redis://:pass@host/0"}, r'is "redis://\*\*\*"; write the alias'),
    "a list": ({"LOCATION": ["real redis"]}, r"LOCATION of a FaultyCache is \['real redis'\]"),
    "itself": ({"LOCATION": "redis"}, r"leads back to itself"),
    "an option": ({"OPTIONS": {"SHARE": "/x"}}, r"has 'SHARE'; it takes SHARED only"),
    "a relative path": (
        {"OPTIONS": {"SHARED": "faults"}},
        r'SHARED is "faults"; write an absolute',
    ),
}


@pytest.mark.parametrize("mistake", SETTINGS)
def test_a_mistake_in_its_settings_is_told_at_the_first_use(mistake: str) -> None:
    entry, told = SETTINGS[mistake]
    with override_settings(CACHES=caches_with(entry)):
        cache = caches["redis"]
        assert isinstance(cache, FaultyCache), "constructing a backend never raises"
        for use in (lambda: faults("redis"), lambda: cache.get("k"), lambda: cache.set("k", 1)):
            with pytest.raises(ImproperlyConfigured, match=told):
                use()


def test_two_that_stand_before_each_other_are_refused() -> None:
    entries = caches_with({"LOCATION": "other"}) | {
        "other": {"BACKEND": FAULTY, "LOCATION": "redis"}
    }
    with (
        override_settings(CACHES=entries),
        pytest.raises(ImproperlyConfigured, match="leads back"),
    ):
        faults("redis")


RECORDS = [
    Fault(effect=Effect.HANG),
    Fault(effect=Effect.HANG, seconds=0.5, operations=["get", "set"], keys="menu:*"),
    Fault(effect=Effect.FAIL, error=LookupError, probability=0.5, seed=7),
    Fault(effect=Effect.LATE, error=TimeoutError, seconds=3),
    Fault(effect=Effect.CORRUPT),
]


@pytest.mark.parametrize("fault", RECORDS, ids=str)
def test_a_fault_can_be_told_to_another_process(fault: Fault) -> None:
    assert load(dump(fault)) == fault


def test_so_can_its_error_with_arguments() -> None:
    told = load(dump(Fault(effect=Effect.FAIL, error=OSError(111, "refused"))))
    assert isinstance(told.error, OSError)
    assert told.error.args == (111, "refused")
    client_error = pytest.importorskip("redis").exceptions.ConnectionError
    assert load(dump(Fault(effect=Effect.FAIL, error=client_error))).error is client_error


class LocalError(Exception):
    """Can be imported, as long as it is not defined in a function."""


def test_an_error_that_no_other_process_could_make_is_refused(tmp_path: Path) -> None:
    class NowhereError(Exception):
        pass

    shared = SharedFaults(tmp_path)
    for error in (NowhereError, NowhereError("text"), LocalError(object()), LocalError({1})):
        with pytest.raises(ValueError, match="error is "):
            shared.fail(error)
    assert list(tmp_path.iterdir()) == []
    shared.fail(LocalError("text"))
    shared.heal()


BROKEN = {
    "": "Expecting value",
    "{": "Expecting",
    "[]": "effect is none; write",
    "{}": r'effect is none; write \{"effect": \.\.\.\} with one of fail, lose, hang, late, corrupt',
    '{"effect": "explode"}': "effect is explode; write",
    '{"effect": "hang", "key": "x"}': "it holds 'key'; write some of error, seconds",
    '{"effect": "fail", "error": "no.such.Error"}': "error is 'no.such.Error'; write the dotted",
    '{"effect": "fail", "error": "os.system"}': "error is 'os.system'",
    '{"effect": "fail", "error": []}': "error is ",
    '{"effect": "hang", "seconds": -1}': "seconds is -1; write",
}


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_fault_is_logged_once_and_hurts_nobody(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match=BROKEN[text]):
        load(text)
    file = tmp_path / "by hand.json"
    file.write_text(text)
    os.utime(tmp_path, (1, 1))  # long ago
    entry = {"OPTIONS": {"SHARED": str(tmp_path)}}
    with override_settings(CACHES=caches_with(entry)):
        for _ in range(3):
            caches["redis"].set("k", 1)
        assert [str(file) in record.getMessage() for record in caplog.records] == [True]
        file.write_text('{"effect": "fail"}')  # of which the directory's time tells nothing
        with pytest.raises(ConnectionError):
            caches["redis"].get("k")
        faults("redis").heal()
        assert list(tmp_path.iterdir()) == []
        assert caches["redis"].get("k") == 1


def test_a_directory_that_is_none_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    entry = {"OPTIONS": {"SHARED": str(file)}}
    with override_settings(CACHES=caches_with(entry)):
        for use in (lambda: caches["redis"].get("k"), lambda: faults("redis").in_force):
            with pytest.raises(ImproperlyConfigured, match=r'SHARED is ".*/file", which cannot be'):
                use()
