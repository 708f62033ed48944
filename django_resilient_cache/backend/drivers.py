"""The two drivers: they make the layer calls that the steps of a chain ask for.

Each returns what the steps return.  An error of a call is raised inside the steps, which may ask for
more calls before they raise it again.  So does an interruption between two calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from inspect import GEN_SUSPENDED, getgeneratorstate

from django.core.cache import BaseCache

from django_resilient_cache.adapters.outcome import DONE, Outcome
from django_resilient_cache.chain.chain import Steps, Unanswered
from django_resilient_cache.concurrency.interruption import interrupts
from django_resilient_cache.layer.layer import Layer


def run(
    steps: Steps,
    layers: Sequence[Layer],
    backends: Sequence[BaseCache | None],
    error: BaseException | None = None,
) -> tuple[Outcome, Unanswered]:
    """Make the calls in this thread; `error` is what ends the steps, where they were begun before."""
    try:
        index, command = next(steps) if error is None else steps.throw(error)
        while True:
            try:
                outcome = layers[index].execute(backends[index], command)
            except BaseException as raised:  # noqa: BLE001 - raised again by the steps
                index, command = steps.throw(raised)
            else:
                index, command = steps.send(outcome)
    except StopIteration as end:
        result: tuple[Outcome, Unanswered] = end.value
        return result
    except BaseException as interruption:
        if _has_more_to_do(steps):
            run(steps, layers, backends, interruption)
        raise


async def arun(  # noqa: C901 - the sync driver, and how a task ends
    steps: Steps,
    layers: Sequence[Layer],
    backends: Sequence[BaseCache | None],
    error: BaseException | None = None,
) -> tuple[Outcome, Unanswered]:
    """Make the calls in the event loop.

    Layers that wait for nothing are called in place, all others are awaited.  A task that is to end
    waits for no layer any more: those note what they miss.
    """
    ending = error
    try:
        index, command = next(steps) if error is None else steps.throw(error)
        while True:
            layer = layers[index]
            try:
                if layer.guard.in_place:
                    outcome = layer.execute(backends[index], command)
                elif ending is None:
                    outcome = await layer.aexecute(command)
                else:
                    layer.miss(command)
                    outcome = DONE
            except BaseException as raised:  # noqa: BLE001 - raised again by the steps
                if interrupts(raised):
                    ending = raised
                index, command = steps.throw(_for_steps(raised))
            else:
                index, command = steps.send(outcome)
    except StopIteration as end:
        result: tuple[Outcome, Unanswered] = end.value
        return result
    except BaseException as interruption:
        if _has_more_to_do(steps):
            await arun(steps, layers, backends, interruption)
        if isinstance(ending, GeneratorExit):
            raise ending from None
        raise


def _has_more_to_do(steps: Steps) -> bool:
    """Whether the steps were left between two calls."""
    return getgeneratorstate(steps) == GEN_SUSPENDED


def _for_steps(error: BaseException) -> BaseException:
    """Return what ends the steps: a generator that is told to exit could ask for nothing more."""
    return asyncio.CancelledError() if isinstance(error, GeneratorExit) else error
