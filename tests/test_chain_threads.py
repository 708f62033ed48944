"""Threads that read and change one key at the same time: the layers agree when all is quiet."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import BaseCache, caches
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

from tests.contract.recorder import attempt
from tests.entries import MEMORY, chain

ROUNDS = 250


class Switching(LocMemCache):
    """Local memory that lets other threads in before and after it does something."""

    def get(self, *args: Any, **kwargs: Any) -> Any:
        return _between(super().get, *args, **kwargs)

    def get_many(self, *args: Any, **kwargs: Any) -> Any:
        return _between(super().get_many, *args, **kwargs)

    def set(self, *args: Any, **kwargs: Any) -> None:
        _between(super().set, *args, **kwargs)

    def add(self, *args: Any, **kwargs: Any) -> Any:
        return _between(super().add, *args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        return _between(super().delete, *args, **kwargs)

    def incr(self, *args: Any, **kwargs: Any) -> Any:
        return _between(super().incr, *args, **kwargs)


def _between(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    for _ in range(random.randrange(3)):
        time.sleep(0)
    result = call(*args, **kwargs)
    for _ in range(random.randrange(3)):
        time.sleep(0)
    return result


@pytest.fixture
def layers() -> Iterator[tuple[BaseCache, BaseCache]]:
    backend = f"{__name__}.Switching"
    settings = {
        "default": chain("near", "far"),
        "near": {"BACKEND": backend, "LOCATION": "near", "TIMEOUT": 1000},
        "far": {"BACKEND": backend, "LOCATION": "far", "TIMEOUT": 1000},
        # The same entries, without the turns.
        "quiet near": {"BACKEND": MEMORY, "LOCATION": "near"},
        "quiet far": {"BACKEND": MEMORY, "LOCATION": "far"},
    }
    with override_settings(CACHES=settings):
        yield caches["quiet near"], caches["quiet far"]


def together(*jobs: Callable[[], object]) -> None:
    errors: list[BaseException] = []

    def run(job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:  # whatever it is, the test looks at it
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def agree(near: BaseCache, far: BaseCache) -> bool:
    above = near.get("k", "nothing")
    return above in ("nothing", far.get("k", "gone"))


ThreadCall = Callable[[int], object]


def _cache() -> BaseCache:
    cache: BaseCache = caches["default"]  # each thread's own
    return cache


READS: dict[str, ThreadCall] = {
    "get": lambda n: _cache().get("k"),
    "get_many": lambda n: _cache().get_many(["k", "other"]),
    "get_or_set": lambda n: _cache().get_or_set("k", lambda: f"computed {n}"),
}
CHANGES: dict[str, ThreadCall] = {
    "set": lambda n: _cache().set("k", n),
    "set_many": lambda n: _cache().set_many({"k": n, "other": n}),
    "delete": lambda n: _cache().delete("k"),
    "delete_many": lambda n: _cache().delete_many(["k"]),
    "add": lambda n: _cache().add("k", f"added {n}"),
    "incr": lambda n: attempt(_cache().incr, "k"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("read", READS)
def test_a_reader_and_a_change(read: str, change: str, layers: tuple[BaseCache, BaseCache]) -> None:
    """A value read before the change is not left above after it."""
    near, far = layers
    for number in range(ROUNDS // 2):
        near.clear()
        far.set_many({"k": -1, "other": -1})
        if change == "add":
            far.delete("k")
        together(lambda: READS[read](number), lambda: CHANGES[change](number))  # noqa: B023  # called in this round
        assert agree(near, far)


@pytest.mark.parametrize("one", CHANGES)
@pytest.mark.parametrize("other", ["set", "delete", "set_many"])
def test_two_changes(one: str, other: str, layers: tuple[BaseCache, BaseCache]) -> None:
    """Above is what the authority has, whichever came last there, or nothing."""
    near, far = layers
    for number in range(ROUNDS // 2):
        far.set("k", -1)
        near.clear()
        together(
            lambda: CHANGES[one](number),  # noqa: B023  # called in this round
            lambda: CHANGES[other](number + 1000),  # noqa: B023  # called in this round
        )
        assert agree(near, far)


@pytest.mark.slow
def test_two_threads_change_one_key_thousands_of_times(
    layers: tuple[BaseCache, BaseCache],
) -> None:
    near, far = layers

    def changes(start: int) -> None:
        jobs = [CHANGES["set"], CHANGES["set"], CHANGES["delete"], READS["get"], CHANGES["add"]]
        for number in range(start, start + 2000):
            random.choice(jobs)(number)

    for start in (0, 10_000):
        together(lambda: changes(start), lambda: changes(start + 5000))  # noqa: B023  # called in this round
        assert agree(near, far)
