"""Tasks that are ended in the middle of a call: at once, blaming nobody, leaving nothing older."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from django_resilient_cache import State, breakers, deadline
from django_resilient_cache.backend.bound_chain import process
from django_resilient_cache.layer.layer import Layer
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.timeouts.sockets import greenlets
from tests.entries import DJANGO_REDIS, MEMORY, chain
from tests.services import Proxy, ValkeyServer, wait_until

pytestmark = pytest.mark.usefixtures("still_agent")
pytest.importorskip("django_redis")

#: What a call may take beyond its end, on a busy machine; the servers hold their answers for seconds.
GRACE = 1.0

Call = Callable[[Any], Coroutine[Any, Any, Any]]

REPLACING: dict[str, Call] = {
    "aset": lambda cache: cache.aset("key", "new"),
    "aset_many": lambda cache: cache.aset_many({"key": "new", "other": 1}),
    "adelete": lambda cache: cache.adelete("key"),
    "adelete_many": lambda cache: cache.adelete_many(["key"]),
    "aclear": lambda cache: cache.aclear(),
}
DECIDED: dict[str, Call] = {
    "aadd": lambda cache: cache.aadd("key", "new"),
    "atouch": lambda cache: cache.atouch("key", 30),
    "aincr": lambda cache: cache.aincr("key"),
    "adecr": lambda cache: cache.adecr("key"),
}
READING: dict[str, Call] = {
    "aget": lambda cache: cache.aget("missing"),
    "aget_many": lambda cache: cache.aget_many(["missing"]),
    "ahas_key": lambda cache: cache.ahas_key("missing"),
    "aget_or_set": lambda cache: cache.aget_or_set("missing", 1),
}


@pytest.fixture(params=["in the loop", "sockets on threads", "thread"])
def strategy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "in the loop" and not greenlets.AVAILABLE:
        pytest.skip("no greenlet")
    if request.param == "sockets on threads":
        monkeypatch.setattr(greenlets, "AVAILABLE", False)
    return "thread" if request.param == "thread" else "sockets"


@pytest.fixture
def proxy(valkey: ValkeyServer) -> Iterator[Proxy]:
    with Proxy(valkey.address) as made:
        yield made


@pytest.fixture
def layer(proxy: Proxy, strategy: str) -> Iterator[Layer]:
    """The authority of the chains "default" and "deep"; the others are memory."""
    resilience = {"OPERATION_TIMEOUT": 5, "TIMEOUT_STRATEGY": strategy, "RESET_TIMEOUT": 0.05}
    redis = {"BACKEND": DJANGO_REDIS, "RESILIENCE": resilience}
    settings = {
        "default": chain("memory", "redis"),
        "deep": chain("memory", "shared", "redis"),
        "memory": {"BACKEND": MEMORY, "LOCATION": "ended"},
        "redis": {**redis, "LOCATION": proxy.url},
        "shared": {**redis, "LOCATION": proxy.url.removesuffix("0") + "1"},
    }
    with override_settings(CACHES=settings):
        yield registry.layer("redis")
        proxy.answers = "pass"


async def ended(coroutine: Coroutine[Any, Any, Any], end: str, after: float = 0.03) -> float:
    """Begin the call, end it, and return how many seconds that took."""
    if end == "cancelled":
        task = asyncio.create_task(coroutine)
        await asyncio.sleep(after)
        start = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
    else:
        coroutine.send(None)
        await asyncio.sleep(after)
        start = time.monotonic()
        coroutine.close()
    return time.monotonic() - start


async def answering(proxy: Proxy, layer: Layer) -> None:
    """Let the server answer, and what was abandoned end."""
    proxy.answers = "pass"
    while not await asyncio.to_thread(wait_until, lambda: repaired(layer), 0.5):
        pass


def repaired(layer: Layer) -> bool:
    registry.tend()
    return layer.missed_changes.in_sync


def quiet(layer: Layer) -> bool:
    """Whether nobody was blamed and no permit is missing."""
    breaker = layer.breaker
    return (layer.guard.counters.failures, layer.guard.counters.timeouts, breaker.state) == (
        0,
        0,
        State.CLOSED,
    )


@pytest.mark.parametrize("end", ["cancelled", "closed"])
@pytest.mark.parametrize("name", REPLACING)
def test_a_change_that_was_not_confirmed_is_missed_and_its_copies_are_gone(
    name: str, end: str, layer: Layer, proxy: Proxy
) -> None:
    async def main() -> float:
        cache = caches["default"]
        await cache.aset("key", "old")
        proxy.answers = "hold"
        seconds = await ended(REPLACING[name](cache), end)
        assert caches["memory"].get("key") is None
        assert (
            layer.missed_changes.suspect
            if name == "aclear"
            else layer.missed_changes.is_stale(":1:key")
        )
        assert await cache.aget("key") is None
        await answering(proxy, layer)
        assert await cache.aget("key") is None
        await cache.aset("key", "newest")
        assert await cache.aget("key") == "newest"
        return seconds

    assert asyncio.run(main()) < GRACE
    assert quiet(layer)


@pytest.mark.parametrize("end", ["cancelled", "closed"])
@pytest.mark.parametrize("name", DECIDED)
def test_what_the_authority_decides_is_not_taken_back(
    name: str, end: str, layer: Layer, proxy: Proxy
) -> None:
    async def main() -> float:
        cache = caches["default"]
        await cache.aset("key", 5)
        proxy.answers = "hold"
        seconds = await ended(DECIDED[name](cache), end)
        assert caches["memory"].get("key") is None
        proxy.answers = "pass"
        # A call on a thread may still be under way, for as long as that is so nothing is decided.
        while not layer.missed_changes.in_sync:  # noqa: ASYNC110 - the thread's doing
            await asyncio.sleep(0.01)
        expected = {"aincr": (5, 6), "adecr": (5, 4)}.get(name, (5,))
        assert await cache.aget("key") in expected
        return seconds

    assert asyncio.run(main()) < GRACE
    assert quiet(layer)


@pytest.mark.parametrize("end", ["cancelled", "closed"])
@pytest.mark.parametrize("name", READING)
def test_a_read_leaves_nothing(name: str, end: str, layer: Layer, proxy: Proxy) -> None:
    async def main() -> float:
        cache = caches["default"]
        await cache.aset("key", "value")
        proxy.answers = "hold"
        seconds = await ended(READING[name](cache), end)
        assert layer.missed_changes.in_sync
        assert not process.single_flight.under_way
        proxy.answers = "pass"
        caches["memory"].clear()
        assert await cache.aget("key") == "value"
        return seconds

    assert asyncio.run(main()) < GRACE
    assert quiet(layer)


@pytest.mark.parametrize("end", ["cancelled", "closed"])
def test_layers_between_take_note_rather_than_keep_it_waiting(
    end: str, layer: Layer, proxy: Proxy
) -> None:
    async def main() -> float:
        cache = caches["deep"]
        await cache.aset("key", "old")
        proxy.answers = "hold"
        seconds = await ended(cache.aset("key", "new"), end)
        assert registry.layer("shared").missed_changes.is_stale(":1:key")
        assert layer.missed_changes.is_stale(":1:key")
        assert caches["memory"].get("key") is None
        await answering(proxy, layer)
        assert await cache.aget("key") is None
        return seconds

    assert asyncio.run(main()) < GRACE
    assert quiet(layer)
    assert quiet(registry.layer("shared"))


def test_a_trial_that_is_cancelled_gives_its_permit_back(layer: Layer, proxy: Proxy) -> None:
    async def main() -> None:
        cache = caches["default"]
        await cache.aset("key", "value")
        caches["memory"].clear()
        layer.breaker.force_open()
        layer.breaker.reset()
        proxy.cut()
        proxy.answers = "drop"
        for _ in range(5):
            with deadline(0.01):
                await cache.aget("key")
        for _ in range(layer.config.breaker.max_failures):
            permit = layer.breaker.try_acquire()
            assert permit is not None
            permit.failure(OSError())
        await asyncio.sleep(0.08)
        for _ in range(3):
            await ended(cache.aget("key"), "cancelled")
            assert layer.breaker.state is State.HALF_OPEN
        proxy.answers = "pass"
        for _ in range(2):
            assert await cache.aget("key") == "value"
            caches["memory"].clear()
        assert layer.breaker.state is State.CLOSED

    asyncio.run(main())


def test_a_timeout_around_it_holds_and_blames_nobody(layer: Layer, proxy: Proxy) -> None:
    async def main() -> float:
        cache = caches["default"]
        await cache.aset("key", "old")
        proxy.answers = "hold"
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await cache.aset("key", "new")
        seconds = time.monotonic() - start
        assert layer.missed_changes.is_stale(":1:key")
        await answering(proxy, layer)
        return seconds

    assert asyncio.run(main()) < 0.05 + GRACE
    assert quiet(layer)


def test_a_deadline_holds_and_blames_nobody(layer: Layer, proxy: Proxy) -> None:
    async def main() -> float:
        cache = caches["default"]
        await cache.aset("key", "old")
        caches["memory"].clear()
        proxy.answers = "hold"
        start = time.monotonic()
        with deadline(0.05):
            assert await cache.aget("key", "default") == "default"
            await cache.aset("key", "new")
        seconds = time.monotonic() - start
        assert layer.missed_changes.is_stale(":1:key")
        assert await cache.aget("key") in (None, "new")
        await answering(proxy, layer)
        return seconds

    assert asyncio.run(main()) < 0.05 + GRACE
    assert layer.guard.counters.failures == 0
    assert layer.breaker.state is State.CLOSED


def test_a_deadline_is_shared_by_the_tasks_inside(layer: Layer, proxy: Proxy) -> None:
    async def main() -> float:
        cache = caches["default"]
        await cache.aset("key", "old")
        caches["memory"].clear()
        proxy.answers = "hold"
        start = time.monotonic()
        with deadline(0.05):
            found = await asyncio.gather(*(cache.aget("key") for _ in range(30)))
        assert found == [None] * 30
        seconds = time.monotonic() - start
        proxy.answers = "pass"
        return seconds

    assert asyncio.run(main()) < 0.05 + 2 * GRACE
    assert layer.breaker.state is State.CLOSED


def test_a_sibling_that_fails_ends_the_others(layer: Layer, proxy: Proxy) -> None:
    async def fail() -> None:
        await asyncio.sleep(0.03)
        raise LookupError("a sibling's")

    async def main() -> float:
        cache = caches["default"]
        await cache.aset("key", "old")
        caches["memory"].clear()
        proxy.answers = "hold"
        start = time.monotonic()
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(cache.aset("key", "new"))
                group.create_task(cache.aget("key"))
                group.create_task(cache.aget_or_set("other", lambda: 1))
                group.create_task(fail())
        assert [type(each) for each in caught.value.exceptions] == [LookupError]
        seconds = time.monotonic() - start
        assert layer.missed_changes.is_stale(":1:key")
        await answering(proxy, layer)
        assert await cache.aget("key") is None
        return seconds

    assert asyncio.run(main()) < 0.03 + GRACE
    assert quiet(layer)


def test_a_call_cancelled_before_it_began_asks_nobody(layer: Layer, proxy: Proxy) -> None:
    async def main() -> None:
        task = asyncio.create_task(caches["default"].aset("key", "value"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert layer.missed_changes.in_sync
        assert proxy.connections == 0

    asyncio.run(main())


def test_the_breaker_of_a_frozen_layer_opens_and_closes_again(
    layer: Layer, proxy: Proxy, settings: Any
) -> None:
    async def main() -> None:
        cache = caches["default"]
        await cache.aset("key", "value")
        caches["memory"].clear()
        proxy.answers = "drop"
        while breakers["redis"].state is State.CLOSED:
            assert await asyncio.gather(*(cache.aget("key") for _ in range(3))) == [None] * 3
        assert registry.layer("redis").snapshot()["rejected"] == 0
        await cache.aget("key")
        proxy.answers = "pass"
        proxy.cut()
        while breakers["redis"].state is not State.CLOSED:
            await cache.aget("key")
            caches["memory"].clear()
            await asyncio.sleep(0.01)
        assert await cache.aget("key") == "value"

    resilience = {**settings.CACHES["redis"]["RESILIENCE"], "OPERATION_TIMEOUT": 0.05}
    redis = {**settings.CACHES["redis"], "RESILIENCE": resilience}
    with override_settings(CACHES={**settings.CACHES, "redis": redis}):
        asyncio.run(main())
