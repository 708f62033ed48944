"""`deadline(seconds)`: nesting, isolation of threads and tasks, bad input."""

from __future__ import annotations

import asyncio
import contextvars
import math
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from django_resilient_cache.timeouts.deadline import deadline, remaining
from tests.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator


class FrozenTime:
    """Stands in for the `time` module, in the one place that is under test."""

    def __init__(self, monotonic: Clock) -> None:
        self.monotonic = monotonic


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The module's own view of time; the event loop keeps the real one."""

    clock = Clock(0.0)
    # The package's attribute of this name is the class.
    monkeypatch.setattr(
        sys.modules["django_resilient_cache.timeouts.deadline"], "time", FrozenTime(clock)
    )
    return clock


@pytest.fixture(autouse=True)
def _leaves_nothing() -> Iterator[None]:
    assert remaining() is None
    yield
    assert remaining() is None


def test_without_a_deadline_there_is_nothing_to_keep():
    assert remaining() is None


def test_it_counts_down_and_ends_with_the_block(clock):
    with deadline(2.0):
        assert remaining() == 2.0
        clock.forward(0.5)
        assert remaining() == 1.5
        clock.forward(2.0)
        assert remaining() == -0.5
    assert remaining() is None


def test_nothing_left_from_the_start_is_allowed():
    with deadline(0):
        assert remaining() == 0.0


def test_an_earlier_end_inside_wins_and_the_outer_one_comes_back(clock):
    with deadline(5.0):
        clock.forward(1.0)
        with deadline(2.0):
            assert remaining() == 2.0
            clock.forward(1.0)
        assert remaining() == 3.0


def test_a_later_end_inside_does_not_stretch_the_outer_one(clock):
    with deadline(1.0), deadline(10.0):
        assert remaining() == 1.0


def test_it_ends_when_the_block_raises():
    with pytest.raises(KeyError), deadline(1.0):
        raise KeyError
    assert remaining() is None


def test_one_object_may_be_used_again_and_inside_itself(clock):
    budget = deadline(2.0)
    with budget:
        clock.forward(1.0)
        with budget:
            assert remaining() == 1.0
        assert remaining() == 1.0
    with budget:
        assert remaining() == 2.0


def test_other_threads_are_not_bound():
    seen: list[float | None] = []
    with deadline(1.0):
        thread = threading.Thread(target=lambda: seen.append(remaining()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_one_object_shared_by_threads_leaves_each_without_a_deadline():
    """In whatever order they leave."""
    budget, seen = deadline(1.0), []
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with budget:
            first_in.set()
            second_in.wait(10)
        seen.append(remaining())
        first_out.set()

    def second() -> None:
        first_in.wait(10)
        with budget:
            second_in.set()
            first_out.wait(10)
            seen.append(remaining())
        seen.append(remaining())

    threads = [threading.Thread(target=run) for run in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen == [None, 1.0, None]


def test_generators_that_run_by_turns_leave_no_deadline_behind(clock):
    def bound(seconds: float) -> Iterator[None]:
        with deadline(seconds):
            yield
        yield

    first, second = bound(1.0), bound(2.0)
    next(first)
    next(second)
    assert remaining() == 1.0
    next(first)
    assert remaining() == 2.0
    next(second)
    assert remaining() is None


def test_tasks_do_not_see_each_others_deadlines():
    async def bound(seconds: float, entered: asyncio.Event, go: asyncio.Event) -> float | None:
        with deadline(seconds):
            entered.set()
            await go.wait()
            return remaining()

    async def main() -> list[float | None]:
        go = asyncio.Event()
        ins = [asyncio.Event(), asyncio.Event()]
        tasks = [asyncio.ensure_future(bound(number + 1.0, ins[number], go)) for number in range(2)]
        for entered in ins:
            await entered.wait()
        assert remaining() is None
        go.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [1.0, 2.0]


def test_tasks_started_inside_are_bound_until_the_block_is_left(clock):
    """What runs on in the background afterwards is free of it."""

    async def main() -> list[float | None]:
        seen: list[float | None] = []
        look, seen_once = asyncio.Event(), asyncio.Event()

        async def background() -> None:
            seen.append(remaining())
            seen_once.set()
            await look.wait()
            seen.append(remaining())

        with deadline(1.0):
            task = asyncio.ensure_future(background())
            await seen_once.wait()
        clock.forward(60.0)
        look.set()
        await task
        return seen

    assert asyncio.run(main()) == [1.0, None]


def test_leaving_in_another_context_does_no_harm():
    """As a framework does that enters and leaves a dependency in two pool threads."""
    budget = deadline(1.0)
    contextvars.copy_context().run(budget.__enter__)
    assert remaining() is None
    budget.__exit__(None, None, None)
    assert remaining() is None
    with deadline(3.0):
        budget.__exit__(None, None, None)
        assert remaining() == 3.0


@pytest.mark.parametrize("seconds", [math.inf, 1e300, 10**400], ids=["inf", "1e300", "10**400"])
def test_one_that_is_very_far_away_is_a_number_that_locks_and_sockets_accept(seconds):
    with deadline(seconds):
        left = remaining()
    assert left == 1e6
    assert threading.Lock().acquire(timeout=left)


@pytest.mark.parametrize("seconds", [-0.1, -1, math.nan, -math.inf])
def test_less_than_nothing_is_refused_with_the_value(seconds):
    with pytest.raises(ValueError, match="must be 0 or more, got ") as caught:
        deadline(seconds)
    assert str(caught.value).endswith(repr(seconds))


@pytest.mark.parametrize("seconds", [None, "0.2", True, [1], 1j])
def test_what_is_no_number_is_refused_with_an_example(seconds):
    with pytest.raises(TypeError) as caught:
        deadline(seconds)
    assert str(caught.value) == (
        f"deadline(seconds) takes a number of seconds, for example 0.2; got {seconds!r}"
    )
