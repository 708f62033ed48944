"""Chains in the event loop that uvicorn takes where it is installed."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from django_resilient_cache import breakers, deadline
from django_resilient_cache.layer.registry import registry
from tests.entries import DJANGO_REDIS, DJANGO_VALKEY, MEMORY, PYMEMCACHE, REDIS, chain
from tests.services import Proxy, wait_until

uvloop = pytest.importorskip("uvloop")
pytest.importorskip("greenlet")

LIMIT = 0.2


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


@pytest.fixture(params=[REDIS, DJANGO_REDIS, DJANGO_VALKEY, PYMEMCACHE])
def proxy(request: pytest.FixtureRequest) -> Any:
    """What stands before the authority of the chain "default"."""
    module = {REDIS: "redis", DJANGO_REDIS: "django_redis", DJANGO_VALKEY: "django_valkey"}
    pytest.importorskip(module.get(request.param, "pymemcache"))
    memcached = request.param == PYMEMCACHE
    server = request.getfixturevalue("memcached" if memcached else "valkey")
    with Proxy(server.address) as made:
        scheme = "valkey" if request.param == DJANGO_VALKEY else "redis"
        location = made.location if memcached else f"{scheme}://{made.location}/0"
        settings = {
            "default": chain("memory", "far"),
            "memory": {"BACKEND": MEMORY, "LOCATION": "uvloop"},
            "far": {
                "BACKEND": request.param,
                "LOCATION": location,
                "RESILIENCE": {
                    "OPERATION_TIMEOUT": 10,
                    "MAX_FAILURES": 10_000,
                    "FAILURE_RATE": None,
                },
            },
        }
        with override_settings(CACHES=settings):
            yield made
            made.answers = "pass"


async def reached(key: str) -> Any:
    """What the authority has."""
    caches["memory"].clear()
    return await caches["default"].aget(key)


async def eventually(key: str) -> Any:
    """The same, as soon as it can be had."""
    for _ in range(100):
        found = await reached(key)
        if found is not None:
            return found
        await asyncio.sleep(0.02)
    return None


def test_many_tasks(proxy: Proxy) -> None:
    async def main() -> Any:
        cache = caches["default"]
        await asyncio.gather(*(cache.aset(f"key{n}", "x" * n * 1000) for n in range(100)))
        caches["memory"].clear()
        found = await asyncio.gather(*(cache.aget(f"key{n}") for n in range(100)))
        return [len(each or "") for each in found]

    assert run(main()) == [n * 1000 for n in range(100)]
    assert proxy.connections <= 16


@pytest.mark.parametrize("answers", ["drop", "drip"])
def test_the_limit_holds(answers: str, proxy: Proxy) -> None:
    async def timed() -> float:
        start = time.monotonic()
        with deadline(LIMIT):
            await reached("key")
        return time.monotonic() - start

    async def main() -> float:
        await caches["default"].aset("key", "value" * 100)
        proxy.answers = answers
        seconds = min([max(await asyncio.gather(*(timed() for _ in range(20)))) for _ in range(3)])
        proxy.answers = "pass"
        proxy.cut()
        assert await eventually("key") == "value" * 100
        return seconds

    assert run(main()) < LIMIT + 0.1
    assert registry.layer("far").guard.counters.timeouts > 0


def test_a_cancelled_call_and_the_next_one(proxy: Proxy) -> None:
    async def main() -> None:
        cache = caches["default"]
        await cache.aset("one", "value of one")
        await cache.aset("two", "value of two")
        caches["memory"].clear()
        proxy.answers = "hold"
        task = asyncio.create_task(cache.aget("one"))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        proxy.answers = "pass"
        assert await eventually("two") == "value of two"

    run(main())
    assert breakers["far"].retry_after == 0


def test_loops_come_and_go(proxy: Proxy) -> None:
    run(caches["default"].aset("key", "value"))
    assert [run(reached("key")) for _ in range(20)] == ["value"] * 20
    assert proxy.connections == 1


def test_a_loop_that_is_closed_with_calls_under_way(proxy: Proxy) -> None:
    run(caches["default"].aset("key", "value"))
    proxy.answers = "hold"
    caches["memory"].clear()
    loop = uvloop.new_event_loop()
    task = loop.create_task(caches["default"].aget("key"))
    task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0.02))
    loop.close()
    left = weakref.ref(task)
    del task
    assert wait_until(lambda: gc.collect() >= 0 and left() is None)
    proxy.answers = "pass"
    assert run(eventually("key")) == "value"
