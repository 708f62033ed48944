"""What comes and goes by the thousand leaves nothing behind: keys, tasks, threads, event loops."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import BaseCache, caches

from django_resilient_cache import State, breakers
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.timeouts.sockets import greenlets
from tests import services
from tests.entries import CHAIN, DJANGO_REDIS, MEMORY

pytestmark = [pytest.mark.slow, pytest.mark.exclusive]

PLACES = 4

#: How the layer is called from an event loop, and the strategy of its limit.
WAYS = {
    "by the loop": "sockets",
    "sockets, on threads": "sockets",
    "thread": "thread",
    "in place": "direct",
}


@pytest.fixture(params=WAYS)
def cache(
    request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BaseCache]:
    way = request.param
    if way == "by the loop" and not greenlets.AVAILABLE:
        services.unavailable("no greenlet")
    if way == "sockets, on threads":
        monkeypatch.setattr(greenlets, "AVAILABLE", False)
    layer: dict[str, Any] = {"BACKEND": MEMORY, "LOCATION": "layer"}
    if way != "in place":
        valkey: services.ValkeyServer = request.getfixturevalue("valkey")
        layer = {
            "BACKEND": DJANGO_REDIS,
            "LOCATION": valkey.url,
            "RESILIENCE": {
                "OPERATION_TIMEOUT": 10,
                "MAX_CONCURRENCY": PLACES,
                "TIMEOUT_STRATEGY": "thread" if way == "thread" else "auto",
            },
        }
    settings.CACHES = {"default": {"BACKEND": CHAIN, "LOCATION": ["layer"]}, "layer": layer}
    made: BaseCache = caches["default"]
    made.set("key", "value")
    assert registry.snapshot()["layer"]["strategy"] == WAYS[way]
    yield made
    assert breakers["layer"].state is State.CLOSED
    assert not registry.snapshot()["layer"]["timeouts"]


async def use(number: int) -> None:
    """What a request does: get an instance of its own, and use it."""
    cache = caches["default"]
    assert await cache.aget("key") == "value"
    await cache.aset(f"key-{number % 10}", number)
    assert await cache.aget_or_set(f"computed-{number % 10}", lambda: number) is not None


@pytest.fixture(autouse=True)
def _untraced() -> Iterator[None]:
    """Coverage keeps something of every thread that it traces."""
    trace = threading.gettrace()
    threading.settrace(None)
    yield
    threading.settrace(trace)


def held() -> dict[str, int]:
    """What the process has, by kind."""
    gc.collect()
    return {
        "objects": len(gc.get_objects()),
        "blocks": sys.getallocatedblocks(),
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": threading.active_count(),
    }


def at_rest() -> None:
    assert services.wait_until(lambda: not registry.snapshot()["layer"]["missed"], 10)


def flat(work: Callable[[], object]) -> None:
    """Once all that it needs is there, it leaves nothing more than the time before.

    What cancelled changes have left to be repaired is repaired first.
    """
    work()
    work()
    at_rest()
    before = held()
    work()
    at_rest()
    after = held()
    assert after["objects"] - before["objects"] < 300, (before, after)
    assert after["blocks"] - before["blocks"] < 1000, (before, after)
    # What the pools keep warm: no more than there are places.
    assert after["descriptors"] - before["descriptors"] <= PLACES, (before, after)
    assert after["threads"] - before["threads"] <= PLACES, (before, after)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run it in a loop of its own; no task of it is left."""

    async def watched() -> None:
        await main
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(watched())


def test_a_thousand_tasks(cache: BaseCache) -> None:
    async def tasks() -> None:
        for start in range(0, 1000, 100):
            await asyncio.gather(*(use(number) for number in range(start, start + 100)))

    flat(lambda: run(tasks()))


def test_a_thousand_tasks_that_are_cancelled(cache: BaseCache) -> None:
    async def tasks() -> None:
        for start in range(0, 1000, 100):
            made = [asyncio.create_task(use(number)) for number in range(start, start + 100)]
            await asyncio.sleep(0.001 * (start % 7))
            for task in made:
                task.cancel()
            await asyncio.gather(*made, return_exceptions=True)

    flat(lambda: run(tasks()))


def test_a_thousand_threads(cache: BaseCache) -> None:
    errors: list[BaseException] = []

    def used(number: int) -> None:
        try:
            if number % 2:
                asyncio.run(use(number))
            else:
                assert caches["default"].get("key") == "value"
        except BaseException as error:  # whatever it is, the test looks at it
            errors.append(error)

    def threads() -> None:
        for start in range(0, 1000, 20):
            started = [threading.Thread(target=used, args=(start + n,)) for n in range(20)]
            for thread in started:
                thread.start()
            for thread in started:
                thread.join()
        assert errors == []

    flat(threads)


def test_a_hundred_loops(cache: BaseCache) -> None:
    def loops_made() -> None:
        for number in range(100):
            run(use(number))

    flat(loops_made)


def test_a_hundred_loops_left_in_the_middle(cache: BaseCache) -> None:
    """Closed with calls under way, as by an exception in the main task."""

    async def left() -> None:
        for number in range(8):
            asyncio.create_task(use(number))  # noqa: RUF006 - it is to be left
        await asyncio.sleep(0)

    def loops_left() -> None:
        for _ in range(100):
            asyncio.run(left())

    flat(loops_left)


def test_a_hundred_thousand_keys(cache: BaseCache) -> None:
    """In and out, in batches: less than a block of memory is left of twenty keys."""

    async def in_and_out(start: int, stop: int) -> None:
        for first in range(start, stop, 1000):
            keys = [f"distinct-{number}" for number in range(first, first + 1000)]
            assert await cache.aset_many(dict.fromkeys(keys, 1)) == []
            await cache.aget_many(keys)
            await cache.aget_or_set(keys[0], 1)
            await cache.adelete_many(keys)

    run(in_and_out(0, 5000))
    before = held()
    run(in_and_out(5000, 105_000))
    after = held()
    assert after["blocks"] - before["blocks"] < 5000, (before, after)
