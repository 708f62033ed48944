"""The one place where a forked child begins anew."""

from __future__ import annotations

import ctypes
import gc
import weakref
from pathlib import Path

import pytest

import django_resilient_cache
from django_resilient_cache.concurrency import forks
from tests.forked import in_child, needs_fork, with_threads


class Owner:
    """Resets by noting its name."""

    def __init__(self, name: str, done: list[str]) -> None:
        self.name = name
        self._done = done
        forks.reset_in_child(self.reset)

    def reset(self) -> None:
        self._done.append(self.name)


class Broken(Owner):
    """Cannot be reset."""

    def reset(self) -> None:
        raise LookupError(self.name)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No owners but the test's: this process is no child."""
    monkeypatch.setattr(forks, "_resets", weakref.WeakKeyDictionary())


def test_nothing_else_in_the_package_asks_python_to_be_told_of_forks():
    files = Path(django_resilient_cache.__file__).parent.rglob("*.py")
    asking = [file.name for file in files if "register_at_fork" in file.read_text("utf-8")]
    assert asking == ["forks.py"]


def test_owners_are_reset_in_the_order_of_registration():
    done: list[str] = []
    owners = [Owner(str(number), done) for number in range(20)]
    forks.reset_all()
    assert done == [owner.name for owner in owners]


def test_an_owner_that_nobody_uses_is_dropped():
    done: list[str] = []
    kept, dropped = Owner("kept", done), Owner("dropped", done)
    del dropped
    gc.collect()
    forks.reset_all()
    assert done == [kept.name]


def test_a_subclass_resets_in_its_own_way(caplog):
    done: list[str] = []
    owners = [Owner("first", done), Broken("broken", done), Owner("last", done)]
    forks.reset_all()
    assert done == ["first", "last"], "one that fails does not keep the others from it"
    (record,) = caplog.records
    assert repr(owners[1]) in record.getMessage()


def test_an_owner_made_by_a_reset_is_registered_for_the_next_fork():
    done: list[str] = []
    made: list[Owner] = []

    class Maker(Owner):
        def reset(self) -> None:
            made.append(Owner("made", done))

    maker = Maker("maker", done)
    forks.reset_all()
    assert done == []
    forks.reset_all()
    assert done == ["made"]
    assert maker.name == "maker"


@needs_fork
@with_threads
def test_a_child_is_reset_by_the_fork_itself():
    done: list[str] = []
    owner = Owner("owner", done)
    assert in_child(lambda: done == [owner.name] and not forks.is_child()) == 0
    assert done == []


@needs_fork
def test_a_child_that_python_was_not_told_of_can_tell():
    done: list[str] = []
    owner = Owner("owner", done)

    def check() -> bool:
        noticed = done == [] and forks.is_child()
        forks.reset_all()
        return noticed and done == [owner.name] and not forks.is_child()

    assert not forks.is_child()
    assert in_child(check, ctypes.CDLL(None).fork) == 0
