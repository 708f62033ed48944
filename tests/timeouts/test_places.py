"""Places, and the tasks that wait for one: in order while that serves anybody, and none is lost."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from django_resilient_cache.timeouts import bulkhead as places
from django_resilient_cache.timeouts.bulkhead import Bulkhead, WaitQueue
from tests.timeouts.event_loops import a_loop, begun, run


async def called(places, seconds=60.0):
    with places.queue(seconds) as turn:
        return await turn.comes(seconds)


def test_a_place_freed_where_nobody_waits():
    WaitQueue(int).freed()


def test_who_waits_longest_is_called_first():
    async def main():
        places, order = WaitQueue(int), []

        async def wait(name):
            await called(places)
            order.append(name)

        tasks = []
        for name in range(4):
            tasks.append(asyncio.create_task(wait(name)))
            await asyncio.sleep(0)
        for _ in range(4):
            places.freed()
            await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)
        return order

    assert run(main()) == [0, 1, 2, 3]


@pytest.mark.parametrize("end", ["cancelled", "out of time"])
def test_who_is_called_and_has_no_use_for_it_passes_it_on(end):
    async def main():
        places = WaitQueue(int)

        async def leave():
            with places.queue(60.0) as turn:
                if not await turn.comes(0.02 if end == "out of time" else 60.0):
                    places.freed()  # by another thread, before this one has left

        first = asyncio.create_task(leave())
        await asyncio.sleep(0)
        second = asyncio.create_task(called(places))
        await asyncio.sleep(0)
        if end == "cancelled":
            places.freed()
            first.cancel()
        return await second

    assert run(main())


def test_who_has_left_is_not_called():
    async def main():
        places = WaitQueue(int)
        assert not await called(places, 0.0)
        waits = asyncio.create_task(called(places))
        await asyncio.sleep(0)
        places.freed()
        return await waits

    assert run(main())


@pytest.mark.parametrize("closed", [False, True], ids=["stopped loop", "closed loop"])
def test_who_waits_in_a_loop_that_does_not_run_keeps_nobody_waiting(closed):
    places = WaitQueue(int)

    async def main():
        waits = asyncio.create_task(called(places))
        await asyncio.sleep(0)
        places.freed()
        return await waits

    with a_loop() as loop:
        task = begun(loop, called(places))
        if closed:
            loop.close()
        assert run(main())
        if not closed:
            loop.run_until_complete(task)
        else:
            task.get_coro().close()


def test_where_more_is_free_than_those_called_need_the_next_one_is_called():
    """Freed by another thread just before the second one queued up, for whom nobody was there."""

    async def main():
        free = ["a place", "another"]
        places = WaitQueue(free.__len__)

        async def take():
            with places.queue(60.0) as turn:
                await turn.comes(60.0)
                free.pop()

        tasks = [asyncio.create_task(take()) for _ in range(3)]
        await asyncio.sleep(0)
        places.freed()
        done, waiting = await asyncio.wait(tasks, timeout=0.05)
        for task in waiting:
            task.cancel()
        return len(done)

    assert run(main()) == 2


def test_one_who_has_left_as_it_was_about_to_be_called_is_forgotten():
    async def main():
        places = WaitQueue(int)
        with places.queue(60.0) as turn:
            places._waiting.popleft()  # by another thread
        assert not turn.call()
        return len(places._waiting), len(places._called)

    assert run(main()) == (0, 0)


def test_who_is_turned_away_goes_at_once_and_does_not_look():
    async def main():
        looked = []
        places = WaitQueue(int)
        waits = [
            asyncio.create_task(places.take(lambda: looked.append(None), 60.0)) for _ in range(5)
        ]
        await asyncio.sleep(0)
        looked.clear()
        places.reject_waiting()
        found = await asyncio.gather(*waits)
        return found, len(looked), len(places._waiting), len(places._called)

    assert run(main()) == ([None] * 5, 0, 0, 0)


@pytest.fixture
def clock(monkeypatch):
    """The time by which places are given, to be set."""
    now = [1000.0]
    monkeypatch.setattr(places, "monotonic", lambda: now[0])
    return now


def test_in_order_while_those_who_wait_longest_have_time_left(clock):
    assert run(order_of_turns(clock, passing=53.0)) == ["first", "second", "third", "came last"]


def test_last_come_first_served_where_those_who_wait_longest_have_none(clock):
    """Served in order, each would get its place too late."""
    assert run(order_of_turns(clock, passing=55.0)) == ["third", "came last", "second", "first"]


async def order_of_turns(clock, passing):
    room, order, tasks = Bulkhead(1), [], []
    await room.enter(60.0)

    async def visit(name):
        await room.enter(60.0)
        order.append(name)
        room.leave()

    for name in ("first", "second", "third"):
        tasks.append(asyncio.create_task(visit(name)))
        await asyncio.sleep(0)
    clock[0] += passing
    room.leave()
    tasks.append(asyncio.create_task(visit("came last")))
    await asyncio.gather(*tasks)
    return order


# Room


def test_there_are_never_more_inside_than_places():
    async def main():
        room, inside, most = Bulkhead(3), [], []

        async def visit(number):
            assert await room.enter(60.0)
            inside.append(number)
            most.append(len(inside))
            await asyncio.sleep(0.0005)
            inside.remove(number)
            room.leave()

        await asyncio.gather(*(visit(number) for number in range(200)))
        return max(most), len(room._waiting)

    assert run(main()) == (3, 0)


def test_who_comes_back_at_once_queues_up_behind_those_who_wait():
    """It would take each place that it has just freed, before the one called for it can look."""

    async def main():
        room, visits, most = Bulkhead(2), [0] * 20, 0

        async def visit(number):
            nonlocal most
            for _ in range(30):
                assert await room.enter(60.0)
                await asyncio.sleep(0)
                room.leave()
                visits[number] += 1
                most = max(most, max(visits) - min(visits))

        await asyncio.gather(*(visit(number) for number in range(20)))
        return most, len(room._waiting), len(room._called)

    assert run(main()) == (1, 0, 0)


@pytest.mark.parametrize("called", [False, True], ids=["waiting", "called"])
def test_a_task_whose_loop_has_stopped_keeps_no_newcomer_waiting(called):
    room = Bulkhead(1)
    assert run(room.enter(0.0))

    async def leave():
        room.leave()

    with a_loop() as loop:
        task = begun(loop, room.enter(60.0))
        if called:
            loop.run_until_complete(leave())
        else:
            room._free.append(None)  # freed as that loop stopped
        assert len(room._called) == called
        assert run(room.enter(60.0))
        room.leave()
        assert loop.run_until_complete(asyncio.wait_for(task, 5.0))


def test_who_was_called_just_before_all_are_turned_away_goes_too():
    async def main():
        room = Bulkhead(1)
        await room.enter(0.0)
        waits = asyncio.create_task(room.enter(60.0))
        await asyncio.sleep(0)
        room.leave()
        room.reject_waiting()
        return await waits, await room.enter(0.0), len(room._called)

    assert run(main()) == (False, True, 0)


def test_who_finds_no_place_in_time():
    async def main():
        room = Bulkhead(1)
        entered = [await room.enter(0.0), await room.enter(0.01), await room.enter(-1.0)]
        room.leave()
        return [*entered, await room.enter(0.0)], len(room._waiting)

    assert run(main()) == ([True, False, False, True], 0)


def test_a_place_freed_when_the_time_is_over_is_of_no_use():
    async def main():
        room = Bulkhead(1)
        await room.enter(0.0)
        waits = asyncio.create_task(room.enter(0.02))
        await asyncio.sleep(0)
        time.sleep(0.03)  # noqa: ASYNC251 - the loop is late
        room._free.append(None)  # and nobody is called for it
        return await waits, await room.enter(0.0)

    assert run(main()) == (False, True)


def test_who_comes_does_not_take_the_place_that_another_was_called_for():
    async def main():
        room = Bulkhead(1)
        await room.enter(0.0)
        waits = asyncio.create_task(room.enter(60.0))
        await asyncio.sleep(0)
        room.leave()
        assert not await room.enter(0.0)
        assert await waits
        room.leave()
        return await room.enter(0.0)

    assert run(main())


def test_no_place_is_lost_to_tasks_that_are_cancelled():
    async def main():
        room, done = Bulkhead(2), []

        async def visit(number):
            if not await room.enter(60.0):
                return
            try:
                await asyncio.sleep(0.0003 * (number % 3))
                done.append(number)
            finally:
                room.leave()

        tasks = [asyncio.create_task(visit(number)) for number in range(300)]
        for number in range(0, 300, 2):
            if number % 20 == 0:
                await asyncio.sleep(0.0005)
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        free = [await room.enter(0.0) for _ in range(3)]
        return len(done) >= 150, free, len(room._waiting)

    assert run(main()) == (True, [True, True, False], 0)


def test_loops_in_several_threads_share_the_places():
    room, inside, most, lock = Bulkhead(2), [], [], threading.Lock()

    async def visit():
        assert await room.enter(60.0)
        with lock:
            inside.append(None)
            most.append(len(inside))
        await asyncio.sleep(0.0005)
        with lock:
            inside.pop()
        room.leave()

    async def main():
        await asyncio.gather(*(visit() for _ in range(100)))

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)

    assert len(most) == 300
    assert max(most) <= 2
    assert run(room.enter(0.0))
