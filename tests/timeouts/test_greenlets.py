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

from django_resilient_cache.timeouts.sockets import greenlets
from django_resilient_cache.timeouts.sockets.greenlets import run_in_greenlet
from tests.timeouts.event_loops import a_loop, begun, run

variable = ContextVar("variable", default="unset")


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


# run_in_greenlet


def test_the_result_of_code_that_never_waits():
    assert run(run_in_greenlet(lambda event_loop: 42)) == 42


def test_the_result_of_code_that_waits():
    async def answer():
        await asyncio.sleep(0)
        return 21

    def call(event_loop):
        event_loop.pause(0.0)
        return event_loop.result(answer) + event_loop.result(answer)

    assert run(run_in_greenlet(call)) == 42


@pytest.mark.parametrize("after", [0, 1, 2], ids="after {} waits".format)
@pytest.mark.parametrize("kind", [ValueError, SystemExit, StopIteration, GeneratorExit])
def test_the_exception_that_ends_the_code(kind, after):
    raised = kind("mine")
    seen = []

    def call(event_loop):
        for _ in range(after):
            event_loop.pause(0.0)
        raise raised

    async def main():
        try:
            await run_in_greenlet(call)
        except BaseException as error:  # whatever it is, the test looks at it
            seen.append(error)

    run(main())
    # A coroutine may not raise StopIteration: Python makes a RuntimeError of it.
    assert [getattr(each, "__cause__", None) or each for each in seen] == [raised]


def test_the_exception_of_what_is_waited_for_is_raised_inside():
    async def failing():
        await asyncio.sleep(0)
        raise ValueError("theirs")

    def call(event_loop):
        with pytest.raises(ValueError, match="theirs"):
            event_loop.result(failing)
        event_loop.pause(0.0)
        return "went on"

    assert run(run_in_greenlet(call)) == "went on"


def test_cancellation_is_raised_where_the_code_waits():
    seen: list[object] = []

    def call(event_loop):
        try:
            event_loop.pause(60.0)
        except BaseException as error:  # noted, and raised on
            seen.append(type(error))
            raise
        finally:
            seen.append("cleaned up")

    async def main():
        task = asyncio.create_task(run_in_greenlet(call))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(main())
    assert seen == [asyncio.CancelledError, "cleaned up"]


def test_code_that_waits_once_more_when_it_is_cancelled():
    seen = []

    def call(event_loop):
        try:
            event_loop.pause(60.0)
        finally:
            event_loop.pause(0.01)
            seen.append("waited")

    async def main():
        task = asyncio.create_task(run_in_greenlet(call))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert seen == ["waited"]


def test_a_timeout_around_it_holds():
    async def main():
        async with asyncio.timeout(0.02):
            await run_in_greenlet(lambda event_loop: event_loop.pause(60.0))

    with pytest.raises(TimeoutError):
        run(main())


def test_a_coroutine_that_is_closed_ends_the_code_inside(pair):
    seen = []
    number = pair[0].fileno()

    def call(event_loop):
        try:
            event_loop.until_readable(number, 60.0)
        except BaseException as error:  # noted, and raised on
            seen.append(type(error))
            raise

    with a_loop() as loop:
        task = begun(loop, run_in_greenlet(call))
        assert watched(loop) == {number}
        task.get_coro().close()
        assert watched(loop) == set()
    assert seen == [GeneratorExit]


@pytest.mark.parametrize("wait", ["until_readable", "pause", "result"])
def test_a_task_left_behind_in_a_closed_loop(pair, wait):
    seen = []
    args = {"until_readable": (pair[0].fileno(), 60.0), "pause": (60.0,), "result": (forever,)}

    def call(event_loop):
        try:
            getattr(event_loop, wait)(*args[wait])
        finally:
            seen.append("cleaned up")

    with a_loop() as loop:
        held = [begun(loop, run_in_greenlet(call))]
        loop.close()
        forget(held)
    assert seen == ["cleaned up"]


async def forever():
    await asyncio.sleep(60.0)


def test_a_task_that_another_thread_collects(pair):
    """The code inside can run in its own thread alone, and ends there as soon as it may."""
    seen: list[object] = []

    def call(event_loop):
        try:
            event_loop.until_readable(pair[0].fileno(), 60.0)
        finally:
            seen.append(threading.current_thread())

    async def awaits():
        try:
            await run_in_greenlet(call)
        except BaseException as error:  # noted, and raised on
            seen.append(type(error))
            raise

    with a_loop() as loop:
        held = [begun(loop, awaits())]
        loop.close()
        in_thread(lambda: forget(held))
    run(run_in_greenlet(lambda event_loop: None))
    assert seen == [GeneratorExit, threading.current_thread()]


def test_a_task_whose_thread_has_ended(pair):
    """Its code can run nowhere any more."""
    seen = []

    def call(event_loop):
        event_loop.until_readable(pair[0].fileno(), 60.0)

    async def awaits():
        try:
            await run_in_greenlet(call)
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
        await asyncio.gather(
            *(run_in_greenlet(lambda event_loop: event_loop.pause(0.1)) for _ in range(200))
        )
        return time.monotonic() - start

    assert run(main()) < 2.0


def test_the_code_is_part_of_its_task():
    async def main():
        here = asyncio.current_task()

        def call(event_loop):
            before = asyncio.current_task()
            event_loop.pause(0.0)
            return before is asyncio.current_task() is here

        return await run_in_greenlet(call)

    assert run(main())


def test_context_variables_are_the_callers():
    def call(event_loop):
        before = variable.get()
        event_loop.pause(0.0)
        return before, variable.get()

    async def ask(value):
        variable.set(value)
        return await run_in_greenlet(call)

    async def main():
        return await asyncio.gather(*(ask(number) for number in range(5)))

    assert run(main()) == [(number, number) for number in range(5)]


def test_what_the_code_sets_stays_inside():
    def call(event_loop):
        variable.set("inside")
        event_loop.pause(0.0)
        return variable.get()

    async def main():
        return await run_in_greenlet(call), variable.get()

    assert run(main()) == ("inside", "unset")


# Sockets


def test_until_there_is_something_to_read(pair):
    one, other = pair

    def call(event_loop):
        start = time.monotonic()
        event_loop.until_readable(one.fileno(), 60.0)
        return one.recv(10), time.monotonic() - start

    async def main():
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, other.send, b"answer")
        answer, seconds = await run_in_greenlet(call)
        assert watched(loop) == set()
        return answer, 0.04 < seconds < 5.0

    assert run(main()) == (b"answer", True)


def test_until_something_can_be_written(pair):
    one, other = pair
    with contextlib.suppress(BlockingIOError):
        while one.send(b"x" * 65536):
            pass

    def call(event_loop):
        event_loop.until_writable(one.fileno(), 60.0)
        return one.send(b"x") == 1

    async def main():
        loop = asyncio.get_running_loop()
        loop.call_later(0.02, other.recv, 10_000_000)
        sent = await run_in_greenlet(call)
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
        await run_in_greenlet(lambda event_loop: getattr(event_loop, way)(one.fileno(), 0.05))
        assert watched(loop) == set()
        return time.monotonic() - start

    assert 0.04 < run(main()) < 2.0


def test_a_socket_that_is_closed_already():
    """The client finds out as it goes on."""
    with socket.socket() as closed:
        number = closed.fileno()

    async def main():
        await run_in_greenlet(lambda event_loop: event_loop.until_readable(number, 60.0))
        await run_in_greenlet(lambda event_loop: event_loop.until_readable(-1, 60.0))

    run(main())


def test_no_reader_is_left_by_what_is_cancelled(pair):
    one, _ = pair

    async def main():
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(
            run_in_greenlet(lambda event_loop: event_loop.until_readable(one.fileno(), 60.0))
        )
        await asyncio.sleep(0)
        assert watched(loop) == {one.fileno()}
        task.cancel()
        await asyncio.wait((task,))
        assert watched(loop) == set()

    run(main())


def test_without_greenlet_the_rest_is_there():
    """asyncio is enough for what waits for threads."""
    assert greenlets.AVAILABLE
    code = (
        "import sys; sys.modules['greenlet'] = None\n"
        "from django_resilient_cache.timeouts.sockets import greenlets\n"
        "from django_resilient_cache.timeouts.bulkhead import Bulkhead\n"
        "import asyncio\n"
        "assert not greenlets.AVAILABLE\n"
        "assert asyncio.run(Bulkhead(1).aenter(0.0))\n"
    )
    child = os.spawnv(os.P_WAIT, __import__("sys").executable, ["python", "-c", code])
    assert child == 0
