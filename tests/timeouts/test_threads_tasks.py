"""The thread limit from tasks: the loop goes on, whatever the client does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from django_resilient_cache.concurrency.wakeup import ThreadsafeEvent
from django_resilient_cache.timeouts.threads import worker as workers
from django_resilient_cache.timeouts.threads.thread_limit import ThreadLimit
from django_resilient_cache.timeouts.time_limit import BulkheadFull, TimedOut
from tests.calls import FunctionCall
from tests.entries import MEMORY
from tests.services import wait_until

from .in_loop import watching

SHORT = 0.03
#: Longer than any test takes.
LONG = 60.0


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    entry = {"BACKEND": MEMORY, "LOCATION": "layer"}
    with override_settings(CACHES={"default": entry, "layer": entry}):
        yield


class Hang:
    """An operation that does not end before it is told to."""

    def __init__(self) -> None:
        self._released = threading.Event()
        self.started = 0
        self.ended = 0

    def __call__(self, raw: Any) -> str:
        self.started += 1
        self._released.wait(LONG)
        self.ended += 1
        return "late"

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def hang() -> Iterator[Hang]:
    made = Hang()
    yield made
    made.release()
    wait_until(lambda: made.ended == made.started)


def own_threads() -> int:
    return sum(thread.name == "resilient-cache-layer" for thread in threading.enumerate())


@pytest.fixture
def limit(hang: Hang) -> Iterator[ThreadLimit]:
    made = ThreadLimit("layer", 3)
    yield made
    hang.release()
    made.close()
    assert wait_until(lambda: not own_threads())


async def acall(limit, operation, *args, budget: float | None = LONG, trial: bool = False) -> Any:
    return await limit.acall(FunctionCall(operation, *args), budget, trial=trial)


def run(coroutine):
    async def main():
        async with asyncio.timeout(20.0):
            return await coroutine

    return asyncio.run(main())


async def until(condition):
    while not condition():  # noqa: ASYNC110 - changed by other threads
        await asyncio.sleep(0.001)


def answer(raw, value="answer"):
    return value


async def begun(limit, hang, count=1):
    """So many tasks whose calls are under way."""
    before = hang.started
    tasks = [asyncio.create_task(acall(limit, hang)) for _ in range(count)]
    await until(lambda: hang.started == before + count)
    return tasks


async def ended(*tasks):
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_results_and_exceptions_are_the_callers(limit):
    def fail(raw):
        raise ZeroDivisionError("theirs")

    async def main():
        assert await acall(limit, answer, "value") == "value"
        assert await acall(limit, answer, "value", budget=None) == "value"
        with pytest.raises(ZeroDivisionError, match="theirs"):
            await acall(limit, fail)

    run(main())
    assert own_threads() == 1


def test_the_loop_goes_on_meanwhile(limit):
    async def main():
        with watching() as beats:
            await asyncio.gather(*(acall(limit, lambda raw: time.sleep(0.2)) for _ in range(3)))
            return beats.longest()

    assert min(run(main()) for _ in range(3)) < 0.1


def test_no_more_threads_than_places(limit):
    async def main():
        return await asyncio.gather(*(acall(limit, answer, number) for number in range(500)))

    assert run(main()) == list(range(500))
    assert own_threads() <= 3


def test_a_call_that_hangs_is_given_up_in_time(limit, hang):
    async def main():
        start = time.monotonic()
        with pytest.raises(TimedOut) as caught:
            await acall(limit, hang, budget=SHORT)
        return time.monotonic() - start, caught.value.server_seconds

    seconds, given = min(run(main()) for _ in range(3))
    assert SHORT <= seconds < SHORT + 0.05
    assert 0.0 < given <= SHORT


def test_an_abandoned_call_keeps_its_place_until_it_ends(limit, hang):
    async def main():
        calls = [FunctionCall(hang) for _ in range(3)]
        outcomes = await ended(*(limit.acall(each, SHORT, trial=False) for each in calls))
        assert {type(each) for each in outcomes} == {TimedOut}
        told = []
        for each in calls:
            each.abandoned.when_ended(lambda: told.append(1))
        with pytest.raises(BulkheadFull) as none:
            await acall(limit, answer, budget=SHORT)
        assert none.value.server_seconds <= SHORT
        assert limit._all_hang() == 0
        assert not told
        hang.release()
        assert await acall(limit, answer) == "answer"
        await until(lambda: len(told) == 3)

    run(main())
    assert own_threads() <= 3


def test_a_cancelled_call_goes_on_and_can_be_told_of(limit, hang):
    async def main():
        call = FunctionCall(hang)
        task = asyncio.create_task(limit.acall(call, LONG, trial=False))
        await until(lambda: hang.started)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert call.abandoned is not None
        told = threading.Event()
        call.abandoned.when_ended(told.set)
        assert not told.is_set()
        hang.release()
        await until(told.is_set)
        late = threading.Event()
        call.abandoned.when_ended(late.set)
        assert late.is_set()

    run(main())


def test_a_task_that_is_closed_leaves_its_call_as_well(limit, hang):
    async def main():
        call = FunctionCall(hang)
        coroutine = limit.acall(call, LONG, trial=False)
        coroutine.send(None)
        await until(lambda: hang.started)
        coroutine.close()
        assert call.abandoned is not None
        told = threading.Event()
        call.abandoned.when_ended(told.set)
        hang.release()
        await until(told.is_set)

    run(main())


def test_one_that_is_cancelled_as_its_result_comes_has_nothing_abandoned(limit):
    """The result is dropped, the thread is free."""

    async def main():
        call = FunctionCall(answer)
        task = asyncio.create_task(limit.acall(call, LONG, trial=False))
        await asyncio.sleep(0)
        wait_until(lambda: bool(limit._idle))  # it has ended, and the task does not know yet
        task.cancel()
        (error,) = await ended(task)
        assert isinstance(error, asyncio.CancelledError)
        assert call.abandoned is None
        return await acall(limit, answer, "next")

    assert run(main()) == "next"


def test_a_result_that_comes_as_the_time_is_up_is_taken(limit, monkeypatch):
    """By a thread that has claimed the call and sets the event just then."""
    waits = ThreadsafeEvent.wait

    async def wait(event, seconds):
        if seconds is not None:
            wait_until(event.is_set)
            event._is_set = False
            return False
        event.set()
        return await waits(event, None)

    monkeypatch.setattr(ThreadsafeEvent, "wait", wait)
    assert run(acall(limit, answer)) == "answer"


def test_a_trial_does_not_wait_for_a_place(limit, hang):
    async def main():
        tasks = await begun(limit, hang, 3)
        start = time.monotonic()
        with pytest.raises(BulkheadFull):
            await acall(limit, answer, trial=True)
        seconds = time.monotonic() - start
        hang.release()
        assert await ended(*tasks) == ["late"] * 3
        assert await acall(limit, answer, trial=True) == "answer"
        return seconds

    assert run(main()) < 1.0


def test_tasks_and_threads_queue_for_the_same_places(limit, hang):
    results = []

    def thread(number):
        results.append(limit.call(FunctionCall(answer, number), LONG, trial=False))

    async def main():
        tasks = await begun(limit, hang, 3)
        waiting = [asyncio.create_task(acall(limit, answer, number)) for number in range(20)]
        callers = [threading.Thread(target=thread, args=(number,)) for number in range(20)]
        for caller in callers:
            caller.start()
        await until(lambda: len(limit._queue.waiting) == 40)
        hang.release()
        await ended(*tasks)
        assert await asyncio.gather(*waiting) == list(range(20))
        await until(lambda: len(results) == 20)
        for caller in callers:
            caller.join()

    run(main())
    assert sorted(results) == list(range(20))
    assert own_threads() <= 3


def test_waiting_for_a_place_is_cancelled_at_once(limit, hang):
    async def main():
        tasks = await begun(limit, hang, 3)
        calls = [FunctionCall(hang) for _ in range(5)]
        waiting = [asyncio.create_task(limit.acall(each, LONG, trial=False)) for each in calls]
        await asyncio.sleep(0.01)
        for task in waiting[:4]:
            task.cancel()
        outcomes = await ended(*waiting[:4])
        assert {type(each) for each in outcomes} == {asyncio.CancelledError}
        assert [each.abandoned for each in calls] == [None] * 5
        hang.release()
        assert await ended(*tasks, waiting[4]) == ["late"] * 4

    run(main())
    assert hang.started == 4


def test_no_place_within_the_budget(limit, hang):
    async def main():
        tasks = await begun(limit, hang, 3)
        outcomes = await ended(*(acall(limit, answer, budget=SHORT) for _ in range(50)))
        assert {type(each) for each in outcomes} == {BulkheadFull}
        hang.release()
        await ended(*tasks)

    run(main())


def test_waiting_without_end_for_a_place(limit, hang):
    async def main():
        tasks = await begun(limit, hang, 3)
        waits = asyncio.create_task(acall(limit, answer, budget=None))
        await asyncio.sleep(0.02)
        hang.release()
        await ended(*tasks)
        return await waits

    assert run(main()) == "answer"


@pytest.mark.parametrize("caller", ["task", "thread"])
def test_a_limit_that_is_closed_meanwhile_has_places_for_those_who_wait(limit, hang, caller):
    """Its busy threads end with their calls; who waits gets new ones then."""
    results = []

    def thread():
        results.append(limit.call(FunctionCall(answer), LONG, trial=False))

    async def main():
        tasks = await begun(limit, hang, 3)
        waits = asyncio.create_task(acall(limit, answer)) if caller == "task" else None
        waiting = threading.Thread(target=thread)
        if waits is None:
            waiting.start()
            await until(lambda: len(limit._queue.waiting) == 1)
        await asyncio.sleep(0.01)
        limit.close()
        hang.release()
        assert await ended(*tasks) == ["late"] * 3
        if waits is not None:
            results.append(await waits)
        else:
            await until(lambda: results)
            waiting.join()

    run(main())
    assert results == ["answer"]


def test_a_loop_that_was_closed_with_a_call_under_way(limit, hang):
    loop = asyncio.new_event_loop()
    task = loop.create_task(acall(limit, hang))
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own
    loop.run_until_complete(asyncio.sleep(0.02))
    loop.close()
    hang.release()
    assert run(acall(limit, answer)) == "answer"
    assert wait_until(lambda: len(limit._idle) == limit._started)
    task.get_coro().close()


def test_two_loops_at_once(limit):
    async def main():
        found = await asyncio.gather(*(acall(limit, answer, number) for number in range(200)))
        results.append(found == list(range(200)))

    results: list[bool] = []
    loops = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for each in loops:
        each.start()
    for each in loops:
        each.join()

    assert results == [True] * 3
    assert own_threads() <= 3


def test_an_interrupt_before_the_call_was_sent_frees_the_thread(limit, monkeypatch):
    def interrupted(worker, job):
        monkeypatch.undo()
        raise KeyboardInterrupt

    async def main():
        monkeypatch.setattr(workers.Worker, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            await acall(limit, answer)
        return await acall(limit, answer)

    assert run(main()) == "answer"
    assert own_threads() == 1
