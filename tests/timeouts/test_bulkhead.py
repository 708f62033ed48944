"""Who waits for a place gets one in order, while that serves anybody, and none is lost."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from django_resilient_cache.timeouts import bulkhead as module
from django_resilient_cache.timeouts.bulkhead import Bulkhead, WaitingTask, WaitingThread, WaitQueue
from tests.services import wait_until
from tests.timeouts.event_loops import a_loop, begun, run


async def called(queue, seconds=60.0):
    with WaitingTask(queue, seconds) as waiter:
        return await waiter.is_called(seconds)


def test_a_place_freed_where_nobody_waits():
    WaitQueue(int).call_next()


def test_who_waits_longest_is_called_first():
    async def main():
        queue, order = WaitQueue(int), []

        async def wait(name):
            await called(queue)
            order.append(name)

        tasks = []
        for name in range(4):
            tasks.append(asyncio.create_task(wait(name)))
            await asyncio.sleep(0)
        for _ in range(4):
            queue.call_next()
            await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)
        return order

    assert run(main()) == [0, 1, 2, 3]


@pytest.mark.parametrize("end", ["cancelled", "out of time"])
def test_who_is_called_and_has_no_use_for_it_passes_it_on(end):
    async def main():
        queue = WaitQueue(int)

        async def leave():
            with WaitingTask(queue, 60.0) as waiter:
                if not await waiter.is_called(0.02 if end == "out of time" else 60.0):
                    queue.call_next()  # by another thread, before this one has left

        first = asyncio.create_task(leave())
        await asyncio.sleep(0)
        second = asyncio.create_task(called(queue))
        await asyncio.sleep(0)
        if end == "cancelled":
            queue.call_next()
            first.cancel()
        return await second

    assert run(main())


def test_who_has_left_is_not_called():
    async def main():
        queue = WaitQueue(int)
        assert not await called(queue, 0.0)
        waits = asyncio.create_task(called(queue))
        await asyncio.sleep(0)
        queue.call_next()
        return await waits

    assert run(main())


@pytest.mark.parametrize("closed", [False, True], ids=["stopped loop", "closed loop"])
def test_who_waits_in_a_loop_that_does_not_run_keeps_nobody_waiting(closed):
    queue = WaitQueue(int)

    async def main():
        waits = asyncio.create_task(called(queue))
        await asyncio.sleep(0)
        queue.call_next()
        return await waits

    with a_loop() as loop:
        task = begun(loop, called(queue))
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
        queue = WaitQueue(free.__len__)

        async def take():
            with WaitingTask(queue, 60.0) as waiter:
                await waiter.is_called(60.0)
                free.pop()

        tasks = [asyncio.create_task(take()) for _ in range(3)]
        await asyncio.sleep(0)
        queue.call_next()
        done, waiting = await asyncio.wait(tasks, timeout=0.05)
        for task in waiting:
            task.cancel()
        return len(done)

    assert run(main()) == 2


def test_one_who_has_left_as_it_was_about_to_be_called_is_forgotten():
    async def main():
        queue = WaitQueue(int)
        with WaitingTask(queue, 60.0) as waiter:
            queue.waiting.popleft()  # by another thread
        assert not waiter.call()
        return len(queue.waiting), len(queue.called)

    assert run(main()) == (0, 0)


def test_who_is_turned_away_goes_at_once_and_does_not_look():
    async def main():
        looked = []
        queue = WaitQueue(int)
        waits = [
            asyncio.create_task(queue.atake(lambda: looked.append(None), 60.0)) for _ in range(5)
        ]
        await asyncio.sleep(0)
        looked.clear()
        queue.reject_waiting()
        found = await asyncio.gather(*waits)
        return found, len(looked), len(queue.waiting), len(queue.called)

    assert run(main()) == ([None] * 5, 0, 0, 0)


@pytest.fixture
def clock(monkeypatch):
    """The time by which places are given, to be set."""
    now = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def test_in_order_while_those_who_wait_longest_have_time_left(clock):
    assert run(order_of_entry(clock, passing=53.0)) == ["first", "second", "third", "came last"]


def test_last_come_first_served_where_those_who_wait_longest_have_none(clock):
    """Served in order, each would get its place too late."""
    assert run(order_of_entry(clock, passing=55.0)) == ["third", "came last", "second", "first"]


async def order_of_entry(clock, passing):
    bulkhead, order, tasks = Bulkhead(1), [], []
    await bulkhead.aenter(60.0)

    async def visit(name):
        await bulkhead.aenter(60.0)
        order.append(name)
        bulkhead.leave()

    for name in ("first", "second", "third"):
        tasks.append(asyncio.create_task(visit(name)))
        await asyncio.sleep(0)
    clock[0] += passing
    bulkhead.leave()
    tasks.append(asyncio.create_task(visit("came last")))
    await asyncio.gather(*tasks)
    return order


# Bulkhead


def test_there_are_never_more_inside_than_places():
    async def main():
        bulkhead, inside, most = Bulkhead(3), [], []

        async def visit(number):
            assert await bulkhead.aenter(60.0)
            inside.append(number)
            most.append(len(inside))
            await asyncio.sleep(0.0005)
            inside.remove(number)
            bulkhead.leave()

        await asyncio.gather(*(visit(number) for number in range(200)))
        return max(most), len(bulkhead._waiting)

    assert run(main()) == (3, 0)


def test_who_comes_back_at_once_queues_up_behind_those_who_wait():
    """It would take each place that it has just freed, before the one called for it can look."""

    async def main():
        bulkhead, visits, most = Bulkhead(2), [0] * 20, 0

        async def visit(number):
            nonlocal most
            for _ in range(30):
                assert await bulkhead.aenter(60.0)
                await asyncio.sleep(0)
                bulkhead.leave()
                visits[number] += 1
                most = max(most, max(visits) - min(visits))

        await asyncio.gather(*(visit(number) for number in range(20)))
        return most, len(bulkhead._waiting), len(bulkhead._called)

    assert run(main()) == (1, 0, 0)


@pytest.mark.parametrize("called", [False, True], ids=["waiting", "called"])
def test_a_task_whose_loop_has_stopped_keeps_no_newcomer_waiting(called):
    bulkhead = Bulkhead(1)
    assert run(bulkhead.aenter(0.0))

    async def leave():
        bulkhead.leave()

    with a_loop() as loop:
        task = begun(loop, bulkhead.aenter(60.0))
        if called:
            loop.run_until_complete(leave())
        else:
            bulkhead._free.append(None)  # freed as that loop stopped
        assert len(bulkhead._called) == called
        assert run(bulkhead.aenter(60.0))
        bulkhead.leave()
        assert loop.run_until_complete(asyncio.wait_for(task, 5.0))


def test_who_was_called_just_before_all_are_turned_away_goes_too():
    async def main():
        bulkhead = Bulkhead(1)
        await bulkhead.aenter(0.0)
        waits = asyncio.create_task(bulkhead.aenter(60.0))
        await asyncio.sleep(0)
        bulkhead.leave()
        bulkhead.reject_waiting()
        return await waits, await bulkhead.aenter(0.0), len(bulkhead._called)

    assert run(main()) == (False, True, 0)


def test_who_finds_no_place_in_time():
    async def main():
        bulkhead = Bulkhead(1)
        entered = [
            await bulkhead.aenter(0.0),
            await bulkhead.aenter(0.01),
            await bulkhead.aenter(-1.0),
        ]
        bulkhead.leave()
        return [*entered, await bulkhead.aenter(0.0)], len(bulkhead._waiting)

    assert run(main()) == ([True, False, False, True], 0)


def test_a_place_freed_when_the_time_is_over_is_of_no_use():
    async def main():
        bulkhead = Bulkhead(1)
        await bulkhead.aenter(0.0)
        waits = asyncio.create_task(bulkhead.aenter(0.02))
        await asyncio.sleep(0)
        time.sleep(0.03)  # noqa: ASYNC251 - the loop is late
        bulkhead._free.append(None)  # and nobody is called for it
        return await waits, await bulkhead.aenter(0.0)

    assert run(main()) == (False, True)


def test_who_comes_does_not_take_the_place_that_another_was_called_for():
    async def main():
        bulkhead = Bulkhead(1)
        await bulkhead.aenter(0.0)
        waits = asyncio.create_task(bulkhead.aenter(60.0))
        await asyncio.sleep(0)
        bulkhead.leave()
        assert not await bulkhead.aenter(0.0)
        assert await waits
        bulkhead.leave()
        return await bulkhead.aenter(0.0)

    assert run(main())


def test_no_place_is_lost_to_tasks_that_are_cancelled():
    async def main():
        bulkhead, done = Bulkhead(2), []

        async def visit(number):
            if not await bulkhead.aenter(60.0):
                return
            try:
                await asyncio.sleep(0.0003 * (number % 3))
                done.append(number)
            finally:
                bulkhead.leave()

        tasks = [asyncio.create_task(visit(number)) for number in range(300)]
        for number in range(0, 300, 2):
            if number % 20 == 0:
                await asyncio.sleep(0.0005)
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        free = [await bulkhead.aenter(0.0) for _ in range(3)]
        return len(done) >= 150, free, len(bulkhead._waiting)

    assert run(main()) == (True, [True, True, False], 0)


def test_loops_in_several_threads_share_the_places():
    bulkhead, inside, most, lock = Bulkhead(2), [], [], threading.Lock()

    async def visit():
        assert await bulkhead.aenter(60.0)
        with lock:
            inside.append(None)
            most.append(len(inside))
        await asyncio.sleep(0.0005)
        with lock:
            inside.pop()
        bulkhead.leave()

    async def main():
        await asyncio.gather(*(visit() for _ in range(100)))

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)

    assert len(most) == 300
    assert max(most) <= 2
    assert run(bulkhead.aenter(0.0))


# Threads


def waits_for(bulkhead, seconds=60.0):
    """A thread that waits for a place, and what it will say of that."""
    entered = []
    thread = threading.Thread(target=lambda: entered.append(bulkhead.enter(seconds)))
    before = len(bulkhead._waiting)
    thread.start()
    assert wait_until(lambda: len(bulkhead._waiting) > before or not thread.is_alive())
    return thread, entered


def test_a_thread_gets_the_place_that_is_given_back():
    bulkhead = Bulkhead(1)
    assert bulkhead.enter(0.0)
    thread, entered = waits_for(bulkhead)
    bulkhead.leave()
    thread.join(10.0)
    assert entered == [True]
    assert not bulkhead.enter(0.0)
    assert not bulkhead.enter(0.01)


def test_a_thread_takes_what_is_free_when_it_comes():
    """Another one that was called for it waits on, as the next one."""
    bulkhead = Bulkhead(1)
    assert bulkhead.enter(0.0)
    with WaitingThread(bulkhead._queue, 60.0) as waiter:
        bulkhead.leave()
        assert len(bulkhead._called) == 1
        assert bulkhead.enter(0.0)
        assert waiter.is_called(0.0)
        assert bulkhead._try_enter() is None
        assert list(bulkhead._waiting) == [waiter]
        bulkhead.leave()
        assert waiter.is_called(0.0)


def test_a_place_that_comes_back_while_its_own_thread_looks_is_handed_on():
    """As garbage of a loop that was left behind, which is collected wherever that thread is."""
    bulkhead = Bulkhead(1)
    assert bulkhead.enter(0.0)
    thread, entered = waits_for(bulkhead)
    assert bulkhead._queue.take(bulkhead.leave, 0.0) is None
    thread.join(10.0)
    assert entered == [True]


def test_threads_and_tasks_wait_in_one_queue():
    bulkhead, order = Bulkhead(1), []
    assert bulkhead.enter(0.0)

    async def visit():
        assert await bulkhead.aenter(60.0)
        order.append("task")
        bulkhead.leave()

    with a_loop() as loop:
        task = begun(loop, visit())
        thread, entered = waits_for(bulkhead)
        bulkhead.leave()  # the task's loop is not running: the thread has it
        thread.join(10.0)
        assert entered == [True]
        bulkhead.leave()
        loop.run_until_complete(asyncio.wait_for(task, 5.0))
    assert order == ["task"]


def test_threads_that_wait_are_rejected_at_once():
    bulkhead = Bulkhead(1)
    assert bulkhead.enter(0.0)
    waiting = [waits_for(bulkhead, None) for _ in range(3)]
    bulkhead.reject_waiting()
    for thread, _ in waiting:
        thread.join(10.0)
    assert [entered for _, entered in waiting] == [[False]] * 3
    assert not bulkhead._waiting
    assert not bulkhead._called


def test_no_place_is_lost_among_threads():
    bulkhead, inside, most = Bulkhead(2), [], []

    def visit():
        for _ in range(100):
            if bulkhead.enter(60.0):
                inside.append(None)
                most.append(len(inside))
                inside.pop()
                bulkhead.leave()
            bulkhead.enter(0.0) and bulkhead.leave()

    threads = [threading.Thread(target=visit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)

    assert len(most) == 800
    assert max(most) <= 2
    assert [bulkhead.enter(0.0) for _ in range(3)] == [True, True, False]
