"""Chains in event loops: many of them, none of them held up, and none needed for a near hit."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.core.cache import caches
from django.core.cache.backends.base import CacheKeyWarning
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

from django_resilient_cache import CacheUnavailable, CircuitOpenError, breakers
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.testing import faults
from django_resilient_cache.timeouts.sockets import greenlets as loops
from tests.entries import DJANGO_REDIS, FAULTY, FILE, MEMORY, PYLIBMC, chain
from tests.services import Proxy, ValkeyServer, wait_until
from tests.timeouts.in_loop import exit_code_of, watching

tenant = ContextVar("tenant", default="nobody")


def tenants_key(key: str, prefix: str, version: Any) -> str:
    return f"{tenant.get()}:{prefix}:{version}:{key}"


@pytest.fixture
def proxy(valkey: ValkeyServer) -> Iterator[Proxy]:
    with Proxy(valkey.address) as made:
        yield made


@pytest.fixture
def redis(proxy: Proxy) -> Iterator[Proxy]:
    """What the chain "default", with memory above, and the chain "alone" have as their authority."""
    pytest.importorskip("django_redis")
    settings = {
        "default": chain("memory", "redis"),
        "alone": chain("redis"),
        "memory": {"BACKEND": MEMORY, "LOCATION": "loops"},
        "redis": {
            "BACKEND": DJANGO_REDIS,
            "LOCATION": proxy.url,
            "RESILIENCE": {"OPERATION_TIMEOUT": 5},
        },
    }
    with override_settings(CACHES=settings):
        yield proxy
        proxy.answers = "pass"


@pytest.fixture
def faulty() -> Iterator[None]:
    """Memory above a layer that fails on demand; the chain "strict" raises where that is away."""
    settings = {
        "default": chain("near", "far"),
        "strict": chain("near", "far", OPTIONS={"ON_UNAVAILABLE": "raise"}),
        "prefixed": chain("near", "far", KEY_PREFIX="mine", VERSION=3),
        "tenants": chain("near", "far", KEY_FUNCTION=f"{__name__}.tenants_key"),
        "two": chain("middle", "far"),
        "flaky": chain("near flaky", "far"),
        "near": {"BACKEND": MEMORY, "LOCATION": "near"},
        "near flaky": {"BACKEND": f"{__name__}.Flaky", "LOCATION": "flaky"},
        "middle": {"BACKEND": FAULTY, "LOCATION": "near"},
        "far": {"BACKEND": FAULTY, "LOCATION": "real"},
        "real": {"BACKEND": MEMORY, "LOCATION": "real"},
    }
    with override_settings(CACHES=settings):
        yield


def threads() -> set[threading.Thread]:
    """Those that wait for layers."""
    return {
        thread
        for thread in threading.enumerate()
        if thread.name.startswith(("resilient-cache-", "asyncio_", "ThreadPoolExecutor"))
        and thread.name != "resilient-cache-background"
    }


# Many loops


def test_a_hundred_loops_one_after_the_other(redis: Proxy) -> None:
    async def main(number: int) -> Any:
        cache = caches["alone"]
        await cache.aset("key", number)
        return await cache.aget("key")

    assert [asyncio.run(main(number)) for number in range(100)] == list(range(100))
    assert redis.connections <= 2
    assert registry.layer("redis").guard.counters.failures == 0


def test_two_loops_at_once(redis: Proxy) -> None:
    found: list[Any] = []

    async def main(name: str) -> None:
        cache = caches["alone"]
        for number in range(50):
            await asyncio.gather(*(cache.aset(f"{name}{n}", number) for n in range(5)))
            found.append(await cache.aget_many([f"{name}{n}" for n in range(5)]))

    loops = [threading.Thread(target=asyncio.run, args=(main(name),)) for name in "ab"]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join(20.0)

    assert len(found) == 100
    assert all(len(set(each.values())) == 1 and len(each) == 5 for each in found)
    assert registry.layer("redis").guard.counters.failures == 0


@pytest.mark.slow
@pytest.mark.parametrize("available", [True, False], ids=["in the loop", "on threads"])
@pytest.mark.usefixtures("still_agent")
def test_loops_closed_with_calls_under_way(
    redis: Proxy, available: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their changes are missed, their places are free, and the next loop finds all in order."""
    monkeypatch.setattr(loops, "AVAILABLE", available and loops.AVAILABLE)
    asyncio.run(caches["default"].aset("key", "old"))
    redis.answers = "hold"
    left: list[Any] = []
    for _ in range(3):
        loop = asyncio.new_event_loop()
        tasks = [loop.create_task(caches["default"].aset("key", "new")) for _ in range(10)]
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own
        loop.run_until_complete(asyncio.sleep(0.02))
        left += map(weakref.ref, tasks)
        loop.close()
        del tasks, task
    redis.answers = "pass"
    layer = registry.layer("redis")

    def collected() -> bool:
        gc.collect()
        return not any(task() for task in left)

    def repaired() -> bool:
        registry.tend()
        return layer.missed_changes.in_sync

    assert wait_until(collected)
    assert layer.missed_changes.is_stale(":1:key")
    assert wait_until(repaired)
    assert asyncio.run(caches["default"].aget("key")) is None
    asyncio.run(caches["default"].aset("key", "newest"))
    assert asyncio.run(caches["alone"].aget("key")) == "newest"
    assert layer.guard.counters.failures == 0


def test_a_forked_child_has_loops_of_its_own(redis: Proxy) -> None:
    async def ask() -> Any:
        return await caches["alone"].aget("key")

    async def main() -> int:
        await caches["alone"].aset("key", "value")
        waits = [asyncio.create_task(ask()) for _ in range(20)]
        await asyncio.sleep(0)
        child = os.fork()
        if not child:
            code = 1
            try:
                threading.Thread(target=lambda: found.append(asyncio.run(ask()))).start()
                code = 0 if wait_until(lambda: found == ["value"], 10.0) else 2
            finally:
                os._exit(code)
        code = await exit_code_of(child)
        assert await asyncio.gather(*waits) == ["value"] * 20
        return code

    found: list[Any] = []
    assert asyncio.run(main()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("installed", [True, False], ids=["with greenlet", "without greenlet"])
def test_a_process_with_and_without_greenlet(installed: bool, own_valkey: ValkeyServer) -> None:
    """The same answers, and nobody waits longer than the limit; what differs is who waits."""
    pytest.importorskip("django_redis")
    if installed:
        pytest.importorskip("greenlet")
    code = """
        import asyncio, os, signal, sys, threading, time
        from django.conf import settings
        url, pid = sys.argv[1], int(sys.argv[2])
        settings.configure(CACHES={
            "default": {
                "BACKEND": "django_resilient_cache.backend.ResilientCache",
                "LOCATION": ["redis"],
            },
            "redis": {
                "BACKEND": "django_redis.cache.RedisCache",
                "LOCATION": url,
                "RESILIENCE": {"OPERATION_TIMEOUT": 1.0},
            },
        })
        import django
        django.setup()
        from django.core.cache import cache

        async def timed():
            start = time.monotonic()
            found = await cache.aget("key", "default")
            return found, time.monotonic() - start

        async def main():
            await asyncio.gather(*(cache.aset(f"key{n}", n) for n in range(8)))
            await cache.aset("key", "value")
            assert await cache.aget("key") == "value"
            os.kill(pid, signal.SIGSTOP)
            outcomes = await asyncio.gather(*(timed() for _ in range(50)))
            os.kill(pid, signal.SIGCONT)
            assert {found for found, _ in outcomes} == {"default"}, outcomes
            print(max(seconds for _, seconds in outcomes))
            names = {thread.name for thread in threading.enumerate()}
            print("resilient-cache-redis" in names)

        asyncio.run(main())
    """
    block = "" if installed else "import sys; sys.modules['greenlet'] = None\n"
    process = subprocess.run(
        [sys.executable, "-c", block + textwrap.dedent(code), own_valkey.url, str(own_valkey.pid)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path.cwd(),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        check=False,
    )
    own_valkey.thaw()
    assert process.returncode == 0, process.stderr
    seconds, on_threads = process.stdout.split()
    assert float(seconds) < 1.0 + 0.3  # a process that does this for the first time
    assert on_threads == str(not installed)


# A hit in a near layer


def test_a_near_hit_needs_no_thread_and_no_future(redis: Proxy) -> None:
    async def main() -> Any:
        cache = caches["default"]
        caches["memory"].set("key", "value")
        before = threads()
        loop = asyncio.get_running_loop()
        with mock.patch.object(loop, "create_future", side_effect=AssertionError):
            coroutine = cache.aget("key")
            with pytest.raises(StopIteration) as stop:
                coroutine.send(None)  # it never waits
            many = cache.aget_many(["key"])
            with pytest.raises(StopIteration) as stop_many:
                many.send(None)
        assert threads() <= before
        return stop.value.value, stop_many.value.value

    assert asyncio.run(main()) == ("value", {"key": "value"})
    assert redis.connections == 0


def test_files_are_read_in_place(tmp_path: Path) -> None:
    settings = {
        "default": chain("file"),
        "file": {"BACKEND": FILE, "LOCATION": str(tmp_path)},
    }

    async def main() -> Any:
        before = threads()
        await caches["default"].aset("key", "value")
        found = await caches["default"].aget("key")
        return found, threads() <= before

    with override_settings(CACHES=settings):
        assert asyncio.run(main()) == ("value", True)


# Layers without a limit, which the loop does not wait for either


@pytest.mark.parametrize("backend", [DJANGO_REDIS, PYLIBMC])
def test_a_hung_layer_without_a_limit_holds_up_none_but_its_callers(
    backend: str, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip("pylibmc" if backend == PYLIBMC else "django_redis")
    server = request.getfixturevalue("own_memcached" if backend == PYLIBMC else "own_valkey")
    location = server.location if backend == PYLIBMC else server.url
    settings = {
        "default": chain("memory", "far"),
        "near": chain("memory"),
        "memory": {"BACKEND": MEMORY, "LOCATION": "hung"},
        "far": {
            "BACKEND": backend,
            "LOCATION": location,
            "RESILIENCE": {"OPERATION_TIMEOUT": None},
        },
    }

    async def main() -> float:
        cache = caches["default"]
        await cache.aset("key", "value")
        caches["memory"].clear()
        assert await cache.aget("key") == "value"
        caches["memory"].clear()
        server.freeze()
        with watching() as beats:
            waits = [asyncio.create_task(cache.aget("key")) for _ in range(20)]
            await caches["near"].aset("other", 1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await cache.aget("key")
            assert await caches["near"].aget("other") == 1
        server.thaw()
        await asyncio.gather(*waits)
        return beats.longest()

    with override_settings(CACHES=settings):
        assert min(asyncio.run(main()) for _ in range(3)) < 0.1
        assert registry.layer("far").guard.counters.failures == 0
        registry.reset()
        assert wait_until(lambda: "resilient-cache-far" not in {each.name for each in threads()})


# Meaning


@pytest.mark.usefixtures("faulty")
def test_the_authority_is_written_first_and_read_last() -> None:
    made: list[tuple[str, str]] = []

    async def main() -> None:
        cache = caches["two"]
        for alias in ("middle", "far"):
            note_calls(registry.layer(alias), made)
        await cache.aset("key", 1)
        await cache.adelete("key")
        await cache.aget("key")

    asyncio.run(main())
    assert made == [
        *(("far", "set"), ("middle", "set"), ("far", "delete"), ("middle", "delete")),
        *(("middle", "get"), ("far", "get")),
    ]


def note_calls(layer: Any, made: list[tuple[str, str]]) -> None:
    acall = layer.guard.awaited.acall

    async def noted(operation: Any, *args: Any, **kwargs: Any) -> Any:
        made.append((layer.alias, operation.name.removesuffix("_with_ttl")))
        return await acall(operation, *args, **kwargs)

    layer.guard.awaited.acall = noted


@pytest.mark.usefixtures("faulty")
def test_unavailable_raises_where_it_is_to() -> None:
    async def main() -> None:
        cache = caches["strict"]
        await cache.aset("key", 1)
        faults("far").fail()
        assert await cache.aget("key") == 1
        for call in (
            cache.aget("missing"),
            cache.ahas_key("missing"),
            cache.aget_many(["missing"]),
            cache.aadd("key", 1),
            cache.atouch("key"),
            cache.aincr("key"),
            cache.aset("key", 2),
        ):
            with pytest.raises(CacheUnavailable) as caught:
                await call
            assert set(caught.value.errors) == {"far"}
        for _ in range(3):
            assert await caches["default"].aget("missing", "default") == "default"
        with pytest.raises(CacheUnavailable) as caught:
            await cache.aget("missing")
        assert isinstance(caught.value.errors["far"], CircuitOpenError)

    asyncio.run(main())


@pytest.mark.usefixtures("faulty")
def test_keys_versions_and_prefixes_are_those_of_the_sync_methods() -> None:
    async def main() -> Any:
        cache = caches["prefixed"]
        await cache.aset("key", 1)
        await cache.aset("key", 2, version=5)
        found = [
            cache.get("key"),
            cache.get("key", version=5),
            await cache.aget("key"),
            await cache.aget("key", version=5),
            await cache.aincr_version("key"),
            await cache.aget("key"),
            await cache.aget("key", version=4),
            await cache.adecr_version("key", version=4),
            await cache.aget_many(["key", "missing"]),
            await cache.ahas_key("key"),
        ]
        with pytest.raises(ValueError, match="missing"):
            await cache.aincr_version("missing")
        with pytest.raises(ValueError, match="missing"):
            await cache.adecr("missing")
        return found

    assert asyncio.run(main()) == [1, 2, 1, 2, 4, None, 1, 3, {"key": 1}, True]


@pytest.mark.usefixtures("faulty")
def test_a_key_function_sees_the_tasks_context_variables() -> None:
    async def visit(name: str) -> Any:
        tenant.set(name)
        cache = caches["tenants"]
        await cache.aset("key", name)
        await asyncio.sleep(0)
        caches["near"].clear()
        return await cache.aget("key")

    async def main() -> Any:
        return await asyncio.gather(*(visit(f"tenant{n}") for n in range(4)))

    assert asyncio.run(main()) == [f"tenant{n}" for n in range(4)]


@pytest.mark.usefixtures("redis")
def test_a_strange_key_is_warned_of_once() -> None:
    async def main() -> int:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            await caches["default"].aget("a key with spaces")
        return sum(each.category is CacheKeyWarning for each in seen)

    assert asyncio.run(main()) == 1


@pytest.mark.usefixtures("faulty")
def test_nothing_to_ask_for() -> None:
    async def main() -> Any:
        cache = caches["default"]
        return [
            await cache.aget_many([]),
            await cache.aset_many({}),
            await cache.adelete_many([]),
            await cache.aclose(),
        ]

    assert asyncio.run(main()) == [{}, [], None, None]


@pytest.mark.usefixtures("faulty")
def test_a_miss_that_nobody_below_could_answer_asks_nobody() -> None:
    async def main() -> Any:
        breakers["far"].force_open()
        cache = caches["default"]
        before = threads()
        start = time.monotonic()
        found = [await cache.aget("key", "default") for _ in range(100)]
        return set(found), threads() <= before, time.monotonic() - start < 1.0

    assert asyncio.run(main()) == ({"default"}, True, True)


@pytest.mark.usefixtures("faulty")
def test_a_near_layer_that_fails_in_place_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Any:
        cache = caches["flaky"]
        await cache.aset("key", "value")
        monkeypatch.setattr(Flaky, "fails", True)
        found = [await cache.aget("key", "default") for _ in range(8)]
        return found, registry.layer("near flaky").guard.counters.failures

    found, failures = asyncio.run(main())
    assert found == ["value"] * 8
    assert failures == 5, "then its breaker is open"


class Flaky(LocMemCache):
    fails = False

    def get(self, *args: Any, **kwargs: Any) -> Any:
        if self.fails:
            raise ConnectionError
        return super().get(*args, **kwargs)
