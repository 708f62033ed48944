"""A bell, which a task waits for: from whatever thread it is rung, and whenever."""

from __future__ import annotations

import asyncio
import threading

from django_resilient_cache.concurrency.wakeup import ThreadsafeEvent
from tests.timeouts.event_loops import a_loop, run


def test_a_bell_that_was_rung_before():
    async def main():
        bell = ThreadsafeEvent()
        bell.ring()
        bell.ring()
        return [await bell.wait(60.0), await bell.wait(None), bell.rung]

    assert run(main()) == [True, True, True]


def test_a_bell_rung_by_another_thread():
    async def main():
        bell = ThreadsafeEvent()
        timer = threading.Timer(0.03, bell.ring)
        timer.start()
        rung = await bell.wait(60.0)
        timer.join()
        return rung

    assert run(main())


def test_a_bell_that_nobody_rings_in_time_can_be_waited_for_again():
    async def main():
        bell = ThreadsafeEvent()
        in_time = await bell.wait(0.01), await bell.wait(-1.0), await bell.wait(0.0)
        asyncio.get_running_loop().call_later(0.01, bell.ring)
        return in_time, await bell.wait(60.0)

    assert run(main()) == ((False, False, False), True)


def test_a_bell_rung_at_the_very_end_of_a_wait():
    """By another thread, at each point at which this one can lose the interpreter."""

    async def main():
        bell = ThreadsafeEvent()
        loop = asyncio.get_running_loop()
        create_future = loop.create_future

        def create_and_ring():
            made = create_future()
            bell.ring()
            return made

        loop.create_future = create_and_ring  # type: ignore[method-assign]  # for one test
        try:
            await bell.wait(0.0)
        finally:
            loop.create_future = create_future  # type: ignore[method-assign]  # for one test
        async with asyncio.timeout(5.0):
            return await bell.wait(None)

    assert run(main())


def test_a_bell_in_a_closed_loop():
    async def make():
        return ThreadsafeEvent()

    with a_loop() as loop:
        bell = loop.run_until_complete(make())
    bell.ring()
    assert bell.rung


def test_a_wait_that_is_cancelled_leaves_no_timer():
    async def main():
        loop = asyncio.get_running_loop()
        bell = ThreadsafeEvent()
        task = asyncio.create_task(bell.wait(60.0))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        bell.ring()
        await asyncio.sleep(0)
        return [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]  # asyncio's own

    assert [timer for timer in run(main()) if "end(" in repr(timer)] == []
