"""The async methods: the same steps as the sync ones, in the event loop.

Layers that wait for nothing are called in place; every other call is awaited by its limit's own
means, and never goes to the one thread that Django's async code shares, where one slow cache
would hold up all others.
"""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from inspect import GEN_SUSPENDED, getgeneratorstate
from typing import Any

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.exceptions import SynchronousOnlyOperation

from django_resilient_cache.adapters import operations
from django_resilient_cache.adapters.operations import MISSING
from django_resilient_cache.adapters.outcome import MISS, Kind, Outcome
from django_resilient_cache.backend.asking import Asking
from django_resilient_cache.chain.chain import Steps, Unanswered
from django_resilient_cache.chain.single_flight import Flight
from django_resilient_cache.concurrency.interruption import interrupts
from django_resilient_cache.exceptions import CacheUnavailable, CounterUnavailable
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.timeouts.deadline import remaining


class AsyncApi(Asking):
    """Django's async cache methods; each means what the sync one of its name does."""

    async def aget(self, key: Any, default: Any = None, version: Any = None) -> Any:
        found, first = self._nearest(key, version)
        return found if found is not MISSING else await self._aget(key, default, version, first)

    async def _aget(self, key: Any, default: Any, version: Any, first: Outcome | None) -> Any:
        plan = self._made_plan or self._plan()
        keys = plan.keys
        key, version = (keys.resolve if first is None else keys.name)(key, version)
        below = 1
        if first is MISS:
            below += plan.refused_below()
            if below == len(plan.layers):
                return default
        outcome = await self._arun(plan.chain.get(key, version, first, below))
        return outcome.value if outcome.kind is Kind.HIT else default

    async def ahas_key(self, key: Any, version: Any = None) -> bool:
        return (await self._arun(self._having(key, version))).kind is Kind.HIT

    async def aget_many(self, keys: Iterable[Any], version: Any = None) -> dict[Any, Any]:
        steps, names = self._getting_many(keys, version)
        return {} if steps is None else self._found(names, await self._arun(steps))

    async def aset(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> None:
        await self._akept(value, partial(self._setting, key, value, timeout, version))

    async def aset_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> list[Any]:
        values = dict(data.items())
        if not values:
            return []
        names: dict[Any, Any] = {}

        def steps() -> Steps:
            asked, own_keys = self._setting_many(values, timeout, version)
            names.update(own_keys)
            return asked

        refused = (await self._akept(list(values.values()), steps)).value
        return [names[name] for name in refused]

    async def adelete(self, key: Any, version: Any = None) -> bool:
        return bool((await self._arun(self._deleting(key, version))).value)

    async def adelete_many(self, keys: Iterable[Any], version: Any = None) -> None:
        steps = self._deleting_many(keys, version)
        if steps is not None:
            await self._arun(steps)

    async def aclear(self) -> None:
        await self._arun(self._clearing())

    async def aadd(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> bool:
        steps = partial(self._adding, key, value, timeout, version)
        return bool((await self._akept(value, steps)).value)

    async def atouch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        return bool((await self._arun(self._touching(key, timeout, version))).value)

    async def aincr(self, key: Any, delta: Any = 1, version: Any = None) -> Any:
        steps = self._increasing(key, delta, version)
        return self._counted(await self._arun(steps, CounterUnavailable))

    async def adecr(self, key: Any, delta: Any = 1, version: Any = None) -> Any:
        steps = self._decreasing(key, delta, version)
        return self._counted(await self._arun(steps, CounterUnavailable))

    async def aget_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> Any:
        """As `get_or_set`; what `default` returns is awaited if it can be."""
        flights = registry.flights
        landed = flights.landed
        value, first = self._nearest(key, version)
        if value is not MISSING:
            return value
        plan = self._plan()
        name, number = plan.keys.name(key, version)
        token = registry.generations.token
        given = token(name)  # as old as `default`, if that is the value
        value = await self._aget(key, MISSING, version, first)
        if value is not MISSING:
            return value
        if not callable(default):
            steps = partial(self._keeping, name, default, timeout, number, given)
            return (await self._akept(default, steps)).value

        async def compute(flight: Flight) -> Any:
            if flights.landed != landed:  # perhaps this very key: look again
                found = await self._arun(plan.chain.get(name, number))
                if found.kind is Kind.HIT:
                    return found.value
            before = token(name)
            value = default()
            if inspect.isawaitable(value):
                value = await value
            if flight.outdated:
                return value
            steps = partial(self._keeping, name, value, timeout, number, before, flight)
            return (await self._akept(value, steps)).value

        return await flights.arun((plan.config.layers, str(name), str(number)), compute, remaining)

    def _nearest(self, key: Any, version: Any) -> tuple[Any, Outcome | None]:
        """Return the nearest layer's hit, else MISSING and its outcome if it was asked, in place."""
        raise NotImplementedError

    async def _akept(self, value: object, steps: Callable[[], Steps]) -> Outcome:
        """Make the calls that keep `value`; return their outcome.

        One that queries the database when it is pickled (a QuerySet, a lazy user) cannot do so in
        an event loop.  It is made to where Django's async code has its connections, and has the
        result then.
        """
        try:
            return await self._arun(steps())
        except SynchronousOnlyOperation:
            await sync_to_async(pickle.dumps)(value)
        return await self._arun(steps())

    async def _arun(  # noqa: C901 - the sync driver, and how a task ends
        self,
        steps: Steps,
        unavailable: type[CacheUnavailable] = CacheUnavailable,
        ending: BaseException | None = None,
    ) -> Outcome:
        """Make the calls that `steps` ask for and return their outcome; the async driver.

        A task that is to end, by `ending`, waits for no layer any more: those that could keep it
        waiting take note of what they miss.
        """
        plan = self._made_plan or self._plan()
        layers, raws = plan.layers, plan.raws
        try:
            index, operation, args = next(steps)
            while True:
                layer = layers[index]
                try:
                    if layer.in_place:
                        outcome = layer.execute(raws[index], operation, args)
                    elif ending is None or operation is operations.missed:
                        outcome = await layer.aexecute(operation, args)
                    else:
                        outcome = await layer.aexecute(operations.missed, (operation, args))
                except BaseException as error:  # noqa: BLE001 - raised again by the steps
                    if interrupts(error):
                        ending = error
                    index, operation, args = steps.throw(_cancelled(error))
                else:
                    index, operation, args = steps.send(outcome)
        except StopIteration as end:
            result: tuple[Outcome, Unanswered] = end.value
        except BaseException as error:  # raised on, when the rest is done
            if getgeneratorstate(steps) == GEN_SUSPENDED:  # interrupted between two calls
                await self._arun(after(error, steps), ending=error)
            if isinstance(ending, GeneratorExit):
                raise ending from None
            raise
        outcome, unanswered = result  # type: ignore[possibly-undefined]  # no other way out
        if unanswered and plan.raises:
            plan.raise_unavailable(unanswered, unavailable)
        return outcome


def after(error: BaseException, steps: Steps) -> Steps:
    """Return what `steps` have left to do when `error` ends them; they raise it again."""
    call = steps.throw(error)
    while True:
        call = steps.send((yield call))


def _cancelled(error: BaseException) -> BaseException:
    """Return what ends the steps: a generator that is told to exit could do nothing more."""
    return asyncio.CancelledError() if isinstance(error, GeneratorExit) else error
