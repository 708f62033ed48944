"""How calls wait in an event loop, and that nobody is forgotten there."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import threading
import time
from contextvars import ContextVar

import pytest

pytest.importorskip("greenlet")

from django_resilient_cache.limits import loops
from django_resilient_cache.limits.loops import Bell, Places, Room, in_loop

variable = ContextVar("variable", default="unset")


def run(coroutine):
    """As asyncio.run, of what must not take long."""

    async def main():
        return await asyncio.wait_for(coroutine, 10.0)

    return asyncio.run(main())


def watched(loop):
    """The file descriptors that `loop` looks at, without those of its own."""
    own = {loop._ssock.fileno()}
    return {key.fd for key in loop._selector.get_map().values()} - own


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    one.setblocking(False)
    with one, other:
        yield one, other


@contextlib.contextmanager
def a_loop():
    """A loop that is closed with whatever is under way in it."""
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


def begun(loop, coroutine):
    """A task that has run to its first wait and nobody will complain about."""
    task = loop.create_task(coroutine)
    task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0.01))
    assert not task.done()
    return task


# in_loop


def test_the_result_of_code_that_never_waits():
    assert run(in_loop(lambda waits: 42)) == 42


def test_the_result_of_code_that_waits():
    async def answer():
        await asyncio.sleep(0)
        return 21

    def call(waits):
        waits.pause(0.0)
        return waits.result(answer) + waits.result(answer)

    assert run(in_loop(call)) == 42


@pytest.mark.parametrize("after", [0, 1, 2], ids="after {} waits".format)
@pytest.mark.parametrize("kind", [ValueError, SystemExit, StopIteration, GeneratorExit])
def test_the_exception_that_ends_the_code(kind, after):
    raised = kind("mine")
    seen = []

    def call(waits):
        for _ in range(after):
            waits.pause(0.0)
        raise raised

    async def main():
        try:
            await in_loop(call)
        except BaseException as error:
            seen.append(error)

    run(main())
    # A coroutine may not raise StopIteration: Python makes a RuntimeError of it.
    assert [getattr(each, "__cause__", None) or each for each in seen] == [raised]


def test_the_exception_of_what_is_waited_for_is_raised_inside():
    async def failing():
        await asyncio.sleep(0)
        raise ValueError("theirs")

    def call(waits):
        with pytest.raises(ValueError, match="theirs"):
            waits.result(failing)
        waits.pause(0.0)
        return "went on"

    assert run(in_loop(call)) == "went on"


def test_cancellation_is_raised_where_the_code_waits():
    seen: list[object] = []

    def call(waits):
        try:
            waits.pause(60.0)
        except BaseException as error:
            seen.append(type(error))
            raise
        finally:
            seen.append("cleaned up")

    async def main():
        task = asyncio.create_task(in_loop(call))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(main())
    assert seen == [asyncio.CancelledError, "cleaned up"]


def test_code_that_waits_once_more_when_it_is_cancelled():
    seen = []

    def call(waits):
        try:
            waits.pause(60.0)
        finally:
            waits.pause(0.01)
            seen.append("waited")

    async def main():
        task = asyncio.create_task(in_loop(call))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert seen == ["waited"]


def test_a_timeout_around_it_holds():
    async def main():
        async with asyncio.timeout(0.02):
            await in_loop(lambda waits: waits.pause(60.0))

    with pytest.raises(TimeoutError):
        run(main())


def test_a_coroutine_that_is_closed_ends_the_code_inside(pair):
    seen = []
    number = pair[0].fileno()

    def call(waits):
        try:
            waits.until_readable(number, 60.0)
        except BaseException as error:
            seen.append(type(error))
            raise

    with a_loop() as loop:
        task = begun(loop, in_loop(call))
        assert watched(loop) == {number}
        task.get_coro().close()
        assert watched(loop) == set()
    assert seen == [GeneratorExit]


@pytest.mark.parametrize("wait", ["until_readable", "pause", "result"])
def test_a_task_left_behind_in_a_closed_loop(pair, wait):
    seen = []
    args = {"until_readable": (pair[0].fileno(), 60.0), "pause": (60.0,), "result": (forever,)}

    def call(waits):
        try:
            getattr(waits, wait)(*args[wait])
        finally:
            seen.append("cleaned up")

    with a_loop() as loop:
        held = [begun(loop, in_loop(call))]
        loop.close()
        forget(held)
    assert seen == ["cleaned up"]


async def forever():
    await asyncio.sleep(60.0)


def test_a_task_that_another_thread_collects(pair):
    """The code inside can run in its own thread alone, and ends there as soon as it may."""
    seen: list[object] = []

    def call(waits):
        try:
            waits.until_readable(pair[0].fileno(), 60.0)
        finally:
            seen.append(threading.current_thread())

    async def awaits():
        try:
            await in_loop(call)
        except BaseException as error:
            seen.append(type(error))
            raise

    with a_loop() as loop:
        held = [begun(loop, awaits())]
        loop.close()
        in_thread(lambda: forget(held))
    run(in_loop(lambda waits: None))
    assert seen == [GeneratorExit, threading.current_thread()]


def test_a_task_whose_thread_has_ended(pair):
    """Its code can run nowhere any more."""
    seen = []

    def call(waits):
        waits.until_readable(pair[0].fileno(), 60.0)

    async def awaits():
        try:
            await in_loop(call)
        finally:
            seen.append("ended")

    held = []

    def leave_behind():
        with a_loop() as loop:
            held.append(begun(loop, awaits()))

    in_thread(leave_behind)
    forget(held)
    assert seen == ["ended"]


def in_thread(work):
    """Run `work` in a thread, to its end."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10.0)
    assert not thread.is_alive()


def forget(held):
    held.clear()
    gc.collect()


def test_many_wait_side_by_side():
    async def main():
        start = time.monotonic()
        await asyncio.gather(*(in_loop(lambda waits: waits.pause(0.1)) for _ in range(200)))
        return time.monotonic() - start

    assert run(main()) < 2.0


def test_the_code_is_part_of_its_task():
    async def main():
        here = asyncio.current_task()

        def call(waits):
            before = asyncio.current_task()
            waits.pause(0.0)
            return before is asyncio.current_task() is here

        return await in_loop(call)

    assert run(main())


def test_context_variables_are_the_callers():
    def call(waits):
        before = variable.get()
        waits.pause(0.0)
        return before, variable.get()

    async def ask(value):
        variable.set(value)
        return await in_loop(call)

    async def main():
        return await asyncio.gather(*(ask(number) for number in range(5)))

    assert run(main()) == [(number, number) for number in range(5)]


def test_what_the_code_sets_stays_inside():
    def call(waits):
        variable.set("inside")
        waits.pause(0.0)
        return variable.get()

    async def main():
        return await in_loop(call), variable.get()

    assert run(main()) == ("inside", "unset")


# Sockets


def test_until_there_is_something_to_read(pair):
    one, other = pair

    def call(waits):
        start = time.monotonic()
        waits.until_readable(one.fileno(), 60.0)
        return one.recv(10), time.monotonic() - start

    async def main():
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, other.send, b"answer")
        answer, seconds = await in_loop(call)
        assert watched(loop) == set()
        return answer, 0.04 < seconds < 5.0

    assert run(main()) == (b"answer", True)


def test_until_something_can_be_written(pair):
    one, other = pair
    with contextlib.suppress(BlockingIOError):
        while one.send(b"x" * 65536):
            pass

    def call(waits):
        waits.until_writable(one.fileno(), 60.0)
        return one.send(b"x") == 1

    async def main():
        loop = asyncio.get_running_loop()
        loop.call_later(0.02, other.recv, 10_000_000)
        sent = await in_loop(call)
        assert watched(loop) == set()
        return sent

    assert run(main())


@pytest.mark.parametrize("way", ["until_readable", "until_writable"])
def test_until_the_time_is_up(pair, way):
    one, _ = pair
    with contextlib.suppress(BlockingIOError):
        while one.send(b"x" * 65536):
            pass

    async def main():
        loop = asyncio.get_running_loop()
        start = time.monotonic()
        await in_loop(lambda waits: getattr(waits, way)(one.fileno(), 0.05))
        assert watched(loop) == set()
        return time.monotonic() - start

    assert 0.04 < run(main()) < 2.0


def test_a_socket_that_is_closed_already():
    """The client finds out as it goes on."""
    with socket.socket() as closed:
        number = closed.fileno()

    async def main():
        await in_loop(lambda waits: waits.until_readable(number, 60.0))
        await in_loop(lambda waits: waits.until_readable(-1, 60.0))

    run(main())


def test_no_reader_is_left_by_what_is_cancelled(pair):
    one, _ = pair

    async def main():
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(in_loop(lambda waits: waits.until_readable(one.fileno(), 60.0)))
        await asyncio.sleep(0)
        assert watched(loop) == {one.fileno()}
        task.cancel()
        await asyncio.wait((task,))
        assert watched(loop) == set()

    run(main())


# Bell


def test_a_bell_that_was_rung_before():
    async def main():
        bell = Bell()
        bell.ring()
        bell.ring()
        return [await bell.wait(60.0), await bell.wait(None), bell.rung]

    assert run(main()) == [True, True, True]


def test_a_bell_rung_by_another_thread():
    async def main():
        bell = Bell()
        timer = threading.Timer(0.03, bell.ring)
        timer.start()
        rung = await bell.wait(60.0)
        timer.join()
        return rung

    assert run(main())


def test_a_bell_that_nobody_rings_in_time_can_be_waited_for_again():
    async def main():
        bell = Bell()
        in_time = await bell.wait(0.01), await bell.wait(-1.0), await bell.wait(0.0)
        asyncio.get_running_loop().call_later(0.01, bell.ring)
        return in_time, await bell.wait(60.0)

    assert run(main()) == ((False, False, False), True)


def test_a_bell_rung_at_the_very_end_of_a_wait():
    """By another thread, at each point at which this one can lose the interpreter."""

    async def main():
        bell = Bell()
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
        return Bell()

    with a_loop() as loop:
        bell = loop.run_until_complete(make())
    bell.ring()
    assert bell.rung


def test_a_wait_that_is_cancelled_leaves_no_timer():
    async def main():
        loop = asyncio.get_running_loop()
        bell = Bell()
        task = asyncio.create_task(bell.wait(60.0))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        bell.ring()
        await asyncio.sleep(0)
        return [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]  # asyncio's own

    assert [timer for timer in run(main()) if "_end" in repr(timer)] == []


# Places


async def called(places, seconds=60.0):
    with places.queue() as turn:
        return await turn.comes(seconds)


def test_a_place_freed_where_nobody_waits():
    Places().freed()


def test_who_waits_longest_is_called_first():
    async def main():
        places, order = Places(), []

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
        places = Places()

        async def leave():
            with places.queue() as turn:
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
        places = Places()
        assert not await called(places, 0.0)
        waits = asyncio.create_task(called(places))
        await asyncio.sleep(0)
        places.freed()
        return await waits

    assert run(main())


@pytest.mark.parametrize("closed", [False, True], ids=["stopped loop", "closed loop"])
def test_who_waits_in_a_loop_that_does_not_run_keeps_nobody_waiting(closed):
    places = Places()

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


# Room


def test_there_are_never_more_inside_than_places():
    async def main():
        room, inside, most = Room(3), [], []

        async def visit(number):
            assert await room.enter(60.0)
            inside.append(number)
            most.append(len(inside))
            await asyncio.sleep(0.0005)
            inside.remove(number)
            room.leave()

        await asyncio.gather(*(visit(number) for number in range(200)))
        return max(most), len(room._places._waiting)

    assert run(main()) == (3, 0)


def test_who_finds_no_place_in_time():
    async def main():
        room = Room(1)
        entered = [await room.enter(0.0), await room.enter(0.01), await room.enter(-1.0)]
        room.leave()
        return [*entered, await room.enter(0.0)], len(room._places._waiting)

    assert run(main()) == ([True, False, False, True], 0)


def test_a_place_freed_at_the_last_moment_is_taken():
    async def main():
        room = Room(1)
        await room.enter(0.0)
        waits = asyncio.create_task(room.enter(0.02))
        await asyncio.sleep(0)
        time.sleep(0.03)  # noqa: ASYNC251 - the loop is late
        room._free.append(None)  # and nobody is called for it
        return await waits

    assert run(main())


def test_who_comes_first_takes_the_place_of_one_that_was_called():
    """That one waits on."""

    async def main():
        room = Room(1)
        await room.enter(0.0)
        waits = asyncio.create_task(room.enter(60.0))
        await asyncio.sleep(0)
        room.leave()
        assert await room.enter(0.0)
        await asyncio.sleep(0.01)
        assert not waits.done()
        room.leave()
        return await waits

    assert run(main())


def test_no_place_is_lost_to_tasks_that_are_cancelled():
    async def main():
        room, done = Room(2), []

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
        return len(done) >= 150, free, len(room._places._waiting)

    assert run(main()) == (True, [True, True, False], 0)


def test_loops_in_several_threads_share_the_places():
    room, inside, most, lock = Room(2), [], [], threading.Lock()

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


def test_without_greenlet_the_rest_is_there():
    """asyncio is enough for what waits for threads."""
    assert loops.AVAILABLE
    code = (
        "import sys; sys.modules['greenlet'] = None\n"
        "from django_resilient_cache.limits import loops\n"
        "import asyncio\n"
        "assert not loops.AVAILABLE\n"
        "assert asyncio.run(loops.Room(1).enter(0.0))\n"
    )
    child = os.spawnv(os.P_WAIT, __import__("sys").executable, ["python", "-c", code])
    assert child == 0
