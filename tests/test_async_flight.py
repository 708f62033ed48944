"""Single flight across tasks: one computation per key, and nobody is worse off for it."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import BaseCache, caches
from django.test import override_settings

from django_resilient_cache import deadline
from django_resilient_cache.backend.bound_chain import process
from django_resilient_cache.chain import single_flight as flight_module
from django_resilient_cache.chain.single_flight import Flight, SingleFlight
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.testing import faults
from tests.entries import FAULTY, MEMORY, chain

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def cache() -> Iterator[BaseCache]:
    settings = {
        "default": chain("near", "far"),
        "near": {"BACKEND": MEMORY, "LOCATION": "near"},
        "far": {"BACKEND": FAULTY, "LOCATION": "real", "RESILIENCE": {"OPERATION_TIMEOUT": 20}},
        "real": {"BACKEND": MEMORY, "LOCATION": "real"},
    }
    with override_settings(CACHES=settings):
        yield caches["default"]
        assert not process.single_flight.under_way


class Slow:
    """A computation, sync or async, that ends when it is told to."""

    def __init__(self, value: Any = "computed") -> None:
        self.value = value
        self.started = 0
        self.going = threading.Event()

    async def __call__(self) -> Any:
        self.started += 1
        await until(self.going.is_set)
        return self._end()

    def blocking(self) -> Any:
        self.started += 1
        self.going.wait(PATIENCE)
        return self._end()

    def _end(self) -> Any:
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


async def until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110 - changed by threads too
        await asyncio.sleep(0.001)


def run(coroutine: Any) -> Any:
    async def main() -> Any:
        async with asyncio.timeout(PATIENCE):
            return await coroutine

    return asyncio.run(main())


def waiters() -> int:
    return sum(flight.waiters for flight in list(process.single_flight.under_way.values()))


async def begun(compute: Slow, *calls: Any) -> list[asyncio.Task[Any]]:
    """The tasks of these calls, the first of which computes and the others wait for."""
    tasks = [asyncio.create_task(calls[0])]
    await until(lambda: compute.started)
    tasks += [asyncio.create_task(call) for call in calls[1:]]
    await until(lambda: waiters() >= len(calls) - 1)
    return tasks


async def outcomes(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_tasks_wait_for_one_computation(cache: BaseCache) -> None:
    async def main() -> list[Any]:
        compute = Slow([1, 2])
        tasks = await begun(compute, *(cache.aget_or_set("key", compute) for _ in range(20)))
        compute.going.set()
        found = await outcomes(tasks)
        assert compute.started == 1
        return found

    found = run(main())
    assert found == [[1, 2]] * 20
    assert len({id(each) for each in found}) == 20, "each has a copy of its own"


@pytest.mark.parametrize("leader", ["task", "thread"])
def test_tasks_and_threads_wait_for_each_other(cache: BaseCache, leader: str) -> None:
    async def main() -> Any:
        compute = Slow()
        found: list[Any] = []

        def ask() -> None:
            found.append(caches["default"].get_or_set("key", compute.blocking))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        if leader == "thread":
            threads[0].start()
            await until(lambda: compute.started)
        tasks = [asyncio.create_task(cache.aget_or_set("key", compute)) for _ in range(3)]
        await until(lambda: compute.started)
        for thread in threads[leader == "thread" :]:
            thread.start()
        await until(lambda: waiters() == 5)
        compute.going.set()
        found += await outcomes(tasks)
        for thread in threads:
            thread.join()
        return found, compute.started

    assert run(main()) == (["computed"] * 6, 1)


def test_when_the_leader_is_cancelled_another_computes(cache: BaseCache) -> None:
    async def main() -> Any:
        compute = Slow()
        tasks = await begun(compute, *(cache.aget_or_set("key", compute) for _ in range(5)))
        tasks[0].cancel()
        await until(lambda: compute.started == 2)
        compute.going.set()
        found = await outcomes(tasks)
        assert isinstance(found[0], asyncio.CancelledError)
        return found[1:], compute.started

    assert run(main()) == (["computed"] * 4, 2)


def test_the_leaders_error_is_its_own(cache: BaseCache) -> None:
    async def main() -> None:
        compute = Slow(LookupError("mine"))
        tasks = await begun(compute, *(cache.aget_or_set("key", compute) for _ in range(4)))
        compute.going.set()
        found = await outcomes(tasks)
        assert [type(each) for each in found] == [LookupError] * 4
        assert compute.started == 4, "one more for all, then each for itself"

    run(main())


def test_a_waiter_leaves_at_its_own_deadline(cache: BaseCache) -> None:
    async def main() -> Any:
        compute, own = Slow(), Slow("own")
        own.going.set()

        async def hasty() -> tuple[Any, float]:
            start = time.monotonic()
            with deadline(0.05):
                found = await cache.aget_or_set("key", own)
            return found, time.monotonic() - start

        (leader,) = await begun(compute, cache.aget_or_set("key", compute))
        found, seconds = await hasty()
        assert 0.04 < seconds < 2.0
        (flight,) = process.single_flight.under_way.values()
        assert not flight._events, "who has left is not called"
        compute.going.set()
        return found, await leader

    found, led = run(main())
    assert found == "own"
    assert led in ("computed", "own")


def test_a_waiter_that_is_cancelled_leaves_alone(cache: BaseCache) -> None:
    async def main() -> Any:
        compute = Slow()
        tasks = await begun(compute, *(cache.aget_or_set("key", compute) for _ in range(3)))
        tasks[1].cancel()
        await asyncio.wait((tasks[1],))
        (flight,) = process.single_flight.under_way.values()
        assert len(flight._events) == 1
        compute.going.set()
        found = await outcomes(tasks)
        assert isinstance(found[1], asyncio.CancelledError)
        return found[0], found[2], compute.started

    assert run(main()) == ("computed", "computed", 1)


def test_nobody_waits_for_ever(cache: BaseCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight_module, "_LONGEST_WAIT", 0.05)

    async def main() -> Any:
        hung, own = Slow(), Slow("own")
        own.going.set()
        (leader,) = await begun(hung, cache.aget_or_set("key", hung))
        found = await cache.aget_or_set("key", own)
        leader.cancel()
        await asyncio.wait((leader,))
        return found

    assert run(main()) == "own"


def test_the_leader_of_a_loop_that_has_gone_keeps_nobody(
    cache: BaseCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight_module, "_LONGEST_WAIT", 0.05)
    hung = Slow()
    loop = asyncio.new_event_loop()
    task = loop.create_task(cache.aget_or_set("key", hung))
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own
    while not hung.started:
        loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()

    async def main() -> Any:
        return await caches["default"].aget_or_set("key", lambda: "own")

    assert run(main()) == "own"
    del task
    gc.collect()
    assert not process.single_flight.under_way


@pytest.mark.parametrize("kind", ["sync", "async", "awaitable", "value"])
def test_what_a_default_may_be(cache: BaseCache, kind: str) -> None:
    async def compute() -> str:
        return "value"

    async def main() -> Any:
        def future() -> Any:
            made = asyncio.get_running_loop().create_future()
            made.set_result("value")
            return made

        default: Any = {
            "sync": lambda: "value",
            "async": compute,
            "awaitable": future,
            "value": "value",
        }[kind]
        return await cache.aget_or_set("key", default), await cache.aget("key")

    assert run(main()) == ("value", "value")


def test_a_default_that_uses_the_cache(cache: BaseCache) -> None:
    """Of the same key, and two that need each other's."""

    async def main() -> Any:
        async def same() -> Any:
            return await cache.aget_or_set("same", lambda: "inner")

        async def needs(other: str, mine: str) -> Any:
            await asyncio.sleep(0.01)
            return await cache.aget_or_set(other, lambda: f"for {mine}")

        return [
            await cache.aget_or_set("same", same),
            *await asyncio.gather(
                cache.aget_or_set("a", lambda: needs("b", "a")),
                cache.aget_or_set("b", lambda: needs("a", "b")),
            ),
        ]

    start = time.monotonic()
    found = run(main())
    assert found[0] == "inner"
    assert set(found[1:]) <= {"for a", "for b"}
    assert time.monotonic() - start < 2.0


def test_sync_code_in_a_running_loop_never_keeps_it_waiting(cache: BaseCache) -> None:
    """What computes may be another task of that very loop."""

    async def main() -> Any:
        compute = Slow()
        (leader,) = await begun(compute, cache.aget_or_set("key", compute))
        start = time.monotonic()
        found = caches["default"].get_or_set("key", lambda: "own")
        seconds = time.monotonic() - start
        compute.going.set()
        return found, await leader, seconds < 1.0

    found, led, at_once = run(main())
    assert found == "own"
    assert led in ("computed", "own")
    assert at_once


def test_sync_code_on_a_thread_waits_for_a_task(cache: BaseCache) -> None:
    async def main() -> Any:
        compute = Slow()
        (leader,) = await begun(compute, cache.aget_or_set("key", compute))
        waits = asyncio.create_task(
            sync_to_async(cache.get_or_set, thread_sensitive=False)("key", compute.blocking)
        )
        await until(lambda: waiters() == 1)
        compute.going.set()
        return await leader, await waits, compute.started

    assert run(main()) == ("computed", "computed", 1)


def test_two_loops_wait_for_one_computation(cache: BaseCache) -> None:
    compute, found = Slow(), []

    async def ask() -> None:
        found.extend(
            await asyncio.gather(*(caches["default"].aget_or_set("key", compute) for _ in range(5)))
        )

    loops = [threading.Thread(target=asyncio.run, args=(ask(),)) for _ in range(2)]
    for loop in loops:
        loop.start()
    run(until(lambda: waiters() == 9))
    compute.going.set()
    for loop in loops:
        loop.join(PATIENCE)

    assert found == ["computed"] * 10
    assert compute.started == 1


def test_what_was_changed_meanwhile_is_not_undone(cache: BaseCache) -> None:
    async def main() -> Any:
        compute = Slow("older")
        tasks = await begun(compute, *(cache.aget_or_set("key", compute) for _ in range(2)))
        await cache.aset("key", "newer")
        late = await cache.aget_or_set("key", lambda: "unused")
        compute.going.set()
        return await outcomes(tasks), late, await cache.aget("key")

    found, late, now = run(main())
    assert found == ["older", "older"]
    assert late == "newer"
    assert now == "newer"


def test_without_the_authority_the_value_is_kept_above(cache: BaseCache) -> None:
    async def main() -> Any:
        faults("far").fail()
        compute = Slow()
        compute.going.set()
        found = [await cache.aget_or_set("key", compute) for _ in range(5)]
        return found, compute.started

    assert run(main()) == (["computed"] * 5, 1)


def test_a_value_that_cannot_be_copied_is_computed_by_each() -> None:
    flights = SingleFlight()

    async def main() -> Any:
        go = asyncio.Event()
        made: list[Any] = []

        async def compute(flight: Flight) -> Any:
            await go.wait()
            made.append(lambda: None)
            return made[-1]

        def ask() -> Any:
            return asyncio.create_task(
                flights.arun((("chain",), "key", "1"), compute, lambda: None)
            )

        tasks = [ask() for _ in range(3)]
        await asyncio.sleep(0.01)
        go.set()
        return len(set(await asyncio.gather(*tasks))), len(made)

    assert run(main()) == (3, 3)


def test_one_that_was_computed_just_now_is_found(
    cache: BaseCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task whose miss is older than the computation looks again."""
    computed = []

    async def main() -> Any:
        below: Any = cache._aget_below  # type: ignore[attr-defined]  # a chain

        async def late(key: Any, *args: Any) -> Any:
            found = await below(key, *args)
            if len(computed) == 0:
                computed.append("first")
                assert await cache.aget_or_set("key", lambda: "first") == "first"
            return found

        monkeypatch.setattr(cache, "_aget_below", late)
        return await cache.aget_or_set("key", lambda: "second")

    assert run(main()) == "first"


def test_a_crowd_that_gives_up_leaves_nothing_behind(cache: BaseCache) -> None:
    async def main() -> None:
        hung = Slow()
        (leader,) = await begun(hung, cache.aget_or_set("key", hung))
        (flight,) = process.single_flight.under_way.values()

        async def hasty() -> None:
            with deadline(0.02):
                await cache.aget_or_set("key", lambda: "own")

        await asyncio.gather(*(hasty() for _ in range(200)))
        assert not flight._events
        hung.going.set()
        await leader

    run(main())


def test_where_another_process_was_quicker_its_value_is_the_answer(cache: BaseCache) -> None:
    def compute() -> str:
        caches["real"].set("key", "theirs")
        return "mine"

    assert run(cache.aget_or_set("key", compute)) == "theirs"


def test_a_change_while_the_value_is_written_is_not_undone(
    cache: BaseCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> Any:
        asked: list[Any] = []
        awaited: Any = type(registry.layer("far").guard.awaited)
        acall = awaited.acall

        async def noted(limit: Any, operation: Any, *args: Any, **kwargs: Any) -> Any:
            if operation.name == "add" and not asked:
                asked.append(operation)
                await cache.adelete("key")
            return await acall(limit, operation, *args, **kwargs)

        monkeypatch.setattr(awaited, "acall", noted)
        found = await cache.aget_or_set("key", lambda: "value")
        return found, await cache.aget("key")

    assert run(main()) == ("value", None)
