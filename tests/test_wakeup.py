"""An event that a task waits for: any thread sets it, at any time."""

from __future__ import annotations

import asyncio
import threading

from django_resilient_cache.concurrency.wakeup import ThreadsafeEvent
from tests.timeouts.event_loops import a_loop, run


def test_an_event_that_was_set_before():
    async def main():
        event = ThreadsafeEvent()
        event.set()
        event.set()
        return [await event.wait(60.0), await event.wait(None), event.is_set()]

    assert run(main()) == [True, True, True]


def test_an_event_set_by_another_thread():
    async def main():
        event = ThreadsafeEvent()
        timer = threading.Timer(0.03, event.set)
        timer.start()
        was_set = await event.wait(60.0)
        timer.join()
        return was_set

    assert run(main())


def test_an_event_that_nobody_sets_in_time_can_be_waited_for_again():
    async def main():
        event = ThreadsafeEvent()
        in_time = await event.wait(0.01), await event.wait(-1.0), await event.wait(0.0)
        asyncio.get_running_loop().call_later(0.01, event.set)
        return in_time, await event.wait(60.0)

    assert run(main()) == ((False, False, False), True)


def test_an_event_set_at_the_very_end_of_a_wait():
    """By another thread, at each point at which this one can lose the interpreter."""

    async def main():
        event = ThreadsafeEvent()
        loop = asyncio.get_running_loop()
        create_future = loop.create_future

        def create_and_set():
            made = create_future()
            event.set()
            return made

        loop.create_future = create_and_set  # type: ignore[method-assign]  # for one test
        try:
            await event.wait(0.0)
        finally:
            loop.create_future = create_future  # type: ignore[method-assign]  # for one test
        async with asyncio.timeout(5.0):
            return await event.wait(None)

    assert run(main())


def test_an_event_in_a_closed_loop():
    async def make():
        return ThreadsafeEvent()

    with a_loop() as loop:
        event = loop.run_until_complete(make())
    event.set()
    assert event.is_set()


def test_a_wait_that_is_cancelled_leaves_no_timer():
    async def main():
        loop = asyncio.get_running_loop()
        event = ThreadsafeEvent()
        task = asyncio.create_task(event.wait(60.0))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        event.set()
        await asyncio.sleep(0)
        return [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]  # asyncio's own

    assert [timer for timer in run(main()) if "wake(" in repr(timer)] == []
