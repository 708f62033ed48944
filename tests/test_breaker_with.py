"""`with breaker:` around sync and async code, nested and in tasks; coroutines in `call`."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
from typing import TYPE_CHECKING, Any

import pytest

from django_resilient_cache.breaker import CircuitBreaker, State
from django_resilient_cache.breaker import circuit_breaker as breaker_module
from django_resilient_cache.exceptions import CircuitOpenError
from tests import breaker_kit
from tests.breaker_kit import (
    Broken,
    answers,
    close_by_trials,
    make_trial_due,
    open_it,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

clock, make = breaker_kit.clock, breaker_kit.make


def test_with_counts_as_call_does(make, clock):
    breaker = make(max_failures=2)
    for _ in range(2):
        with pytest.raises(Broken), breaker:
            raise Broken
    assert breaker.state is State.OPEN
    make_trial_due(breaker, clock)
    for _ in range(2):
        with breaker as entered:
            assert entered is breaker
    assert breaker.state is State.CLOSED


def test_with_blocks_of_several_breakers_nest(make):
    outer, inner = make(name="outer", max_failures=1), make(name="inner", max_failures=1)
    with outer:
        with contextlib.suppress(Broken), inner:
            raise Broken
        assert inner.state is State.OPEN
    assert outer.state is State.CLOSED


def test_with_blocks_of_one_breaker_nest(make):
    breaker = make(max_failures=2)
    with breaker:
        with contextlib.suppress(Broken), breaker:
            raise Broken
        with contextlib.suppress(Broken), breaker:
            raise Broken
    assert breaker.state is State.OPEN, "the outer success came after the failures had opened it"


def test_nested_trials_need_a_permit_each(make, clock):
    breaker = make(half_open_max_calls=1)
    open_it(breaker)
    make_trial_due(breaker, clock)
    with breaker:
        with pytest.raises(CircuitOpenError):
            breaker.call(answers)
        assert breaker.state is State.HALF_OPEN


def test_an_exit_stack_may_enter_and_leave_it(make, clock):
    breaker, other = make(max_failures=1), make(name="other")
    with pytest.raises(Broken), contextlib.ExitStack() as stack:
        stack.enter_context(breaker)
        stack.enter_context(other)
        raise Broken
    assert breaker.state is State.OPEN
    close_by_trials(breaker, clock)
    assert breaker_module._entered.get() == ()


def test_the_block_entered_last_is_left_first(make, clock):
    """Its permit is taken, whichever generator leaves: `acquire` is for blocks that run by turns."""
    breaker = make(max_failures=1, half_open_successes=1)

    def guarded() -> Iterator[None]:
        with breaker:
            yield
            raise Broken

    old = guarded()
    next(old)
    open_it(breaker)
    make_trial_due(breaker, clock)
    trial = guarded()
    next(trial)
    assert breaker.state is State.HALF_OPEN
    with pytest.raises(Broken):
        next(old)
    assert breaker.state is State.OPEN, "the failure of a trial"
    with pytest.raises(Broken):
        next(trial)
    assert breaker.state is State.OPEN
    assert breaker_module._entered.get() == ()


def test_permits_that_are_given_back_by_hand_may_end_in_any_order(make, clock):
    breaker = make(max_failures=1, half_open_successes=1)
    old = breaker.acquire()
    open_it(breaker)
    make_trial_due(breaker, clock)
    trial = breaker.acquire()
    old.failure()
    assert breaker.state is State.HALF_OPEN, "a failure from before the transition is ignored"
    trial.success()
    assert breaker.state is State.CLOSED


def test_generators_of_several_breakers_run_by_turns(make):
    first, second = make(name="first", max_failures=1), make(name="second", max_failures=1)

    def guarded(breaker: CircuitBreaker) -> Iterator[None]:
        with breaker:
            yield
        yield

    one, two = guarded(first), guarded(second)
    next(one)
    next(two)
    next(one)
    with pytest.raises(Broken):
        two.throw(Broken())  # type: ignore[attr-defined]  # a generator
    assert first.state is State.CLOSED
    assert second.state is State.OPEN
    assert breaker_module._entered.get() == ()


def test_a_generator_that_is_dropped_gives_its_trial_back(make, clock):
    breaker = make()
    open_it(breaker)
    make_trial_due(breaker, clock)

    def guarded() -> Iterator[None]:
        with breaker:
            yield

    generator = guarded()
    next(generator)
    assert breaker.try_acquire() is None
    del generator
    gc.collect()
    assert breaker.acquire().trial


def test_leaving_a_block_in_another_context_says_so(make):
    breaker = make()
    contextvars.copy_context().run(breaker.__enter__)
    with pytest.raises(RuntimeError, match="another context"):
        breaker.__exit__(None, None, None)


def test_with_works_around_async_code_and_in_tasks_side_by_side(make, clock):
    breaker = make(max_failures=2, half_open_successes=2, half_open_max_calls=2)

    async def answer(after: asyncio.Event) -> str:
        with breaker:
            await after.wait()
            return "answer"

    async def fail(after: asyncio.Event) -> None:
        with breaker:
            await after.wait()
            raise Broken

    async def both(one: Callable[..., Any], other: Callable[..., Any]) -> list[Any]:
        go = asyncio.Event()
        tasks = [asyncio.ensure_future(one(go)), asyncio.ensure_future(other(go))]
        await asyncio.sleep(0)
        go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert asyncio.run(both(answer, answer)) == ["answer", "answer"]
    asyncio.run(both(fail, fail))
    assert breaker.state is State.OPEN
    make_trial_due(breaker, clock)
    asyncio.run(both(answer, answer))
    assert breaker.state is State.CLOSED


def test_a_cancelled_task_gives_its_trial_back_uncounted(make, clock):
    breaker = make(max_failures=1)
    open_it(breaker)
    make_trial_due(breaker, clock)

    async def hang() -> None:
        with breaker:
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.ensure_future(hang())
        await asyncio.sleep(0)
        assert breaker.try_acquire() is None
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert breaker.state is State.HALF_OPEN
    assert breaker.acquire().trial


def test_a_task_that_begins_inside_a_block_leaves_its_own(make):
    """It has a copy of the context, and so the outer block on its stack."""
    breaker = make(max_failures=1)

    async def fail() -> None:
        with breaker:
            raise Broken

    async def main() -> None:
        with breaker:
            await asyncio.gather(asyncio.ensure_future(fail()), return_exceptions=True)
            assert breaker.state is State.OPEN
            assert len(breaker_module._entered.get()) == 1
        assert breaker_module._entered.get() == ()

    asyncio.run(main())


def test_call_refuses_a_coroutine_and_says_what_to_write(make, clock):
    breaker = make(max_failures=1, half_open_successes=1)

    async def work() -> None:
        """Never started."""

    with pytest.raises(TypeError, match=r"`with breaker: result = await \.\.\.` instead"):
        breaker.call(work)
    assert breaker.state is State.CLOSED
    open_it(breaker)
    make_trial_due(breaker, clock)
    with pytest.raises(TypeError):
        breaker.call(work)
    assert breaker.acquire().trial, "the trial came back uncounted"
