"""`ResilientCache`: Django's cache API over a chain of other aliases.

Here are keys, versions and defaults, the short way of a nearest-layer hit, and the driver that
makes the calls a chain asks for.  What the calls are is in chain.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import GEN_SUSPENDED, getgeneratorstate
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from django_resilient_cache.adapters import operations
from django_resilient_cache.adapters.operations import MISSING
from django_resilient_cache.adapters.outcome import MISS, Kind, Outcome
from django_resilient_cache.backend.async_api import AsyncApi, after
from django_resilient_cache.backend.bound_chain import Plan, Short
from django_resilient_cache.chain.chain import Steps, Unanswered
from django_resilient_cache.chain.single_flight import Flight
from django_resilient_cache.exceptions import CacheUnavailable, CounterUnavailable
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.timeouts.deadline import remaining


class ResilientCache(AsyncApi):
    """A chain of other configured aliases, nearest first, the authority last.

    Constructing one never raises: mistakes in the settings are reported by `manage.py check` and
    raised as ImproperlyConfigured at the first use.
    """

    def __init__(self, location: Any, params: dict[str, Any]) -> None:
        super().__init__(location, params)
        #: Where the nearest layer is called in place, what the short way of `get` needs.  In one
        #: attribute, because a class with `__getattr__` looks each one up the slow way.
        self._short: Short | None = None

    # Reading

    def get(self, key: Any, default: Any = None, version: Any = None) -> Any:
        """Return the value of the nearest layer that has it, else `default`."""
        found, first = self._nearest(key, version)
        return found if found is not MISSING else self._get(key, default, version, first)

    def _nearest(self, key: Any, version: Any) -> tuple[Any, Outcome | None]:
        first = None
        if (short := self._short) is not None:
            near, breaker, near_get, default_version, room = short
            if (permit := breaker.shared_permit) is not None and near.ledger.trusted:
                # `Keys.resolve`, `Layer.execute` and `Chain.get` written out for a hit in place.
                if version is None:
                    version = default_version
                if not (
                    type(key) is str
                    and len(key) <= room
                    and key.isprintable()
                    and " " not in key
                    and version is default_version
                ):
                    self._plan().keys.resolve(key, version)  # it may want to warn
                try:
                    value = near_get(key, MISSING, version)
                except Exception as error:  # noqa: BLE001 - judged: passed on or counted
                    first = near.classified(error, "get", permit)
                else:
                    if breaker.has_failures:
                        permit.success()
                    if value is not MISSING:
                        near.hits += 1
                        return value, None
                    near.misses += 1
                    first = MISS
        return MISSING, first

    def _get(self, key: Any, default: Any, version: Any, first: Outcome | None) -> Any:
        plan = self._made_plan or self._plan()
        keys = plan.keys
        key, version = (keys.resolve if first is None else keys.name)(key, version)
        below = 1
        if first is MISS:
            below += plan.refused_below()
            if below == len(plan.layers):
                return default
        if plan.only is None:
            outcome = self._run(plan.chain.get(key, version, first, below))
        else:
            outcome = first or plan.only.execute(plan.raws[0], operations.get, (key, version))
            if plan.raises and not outcome.answered:
                plan.raise_unavailable([(0, outcome)])
        return outcome.value if outcome.kind is Kind.HIT else default

    def has_key(self, key: Any, version: Any = None) -> bool:
        """Return whether the nearest layer that answers yes, or else the authority, has the key."""
        return self._run(self._having(key, version)).kind is Kind.HIT

    def get_many(self, keys: Iterable[Any], version: Any = None) -> dict[Any, Any]:
        """Return the entries found: one call per layer, for the keys still missing."""
        steps, names = self._getting_many(keys, version)
        return {} if steps is None else self._found(names, self._run(steps))

    # Writing

    def set(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> None:
        """Write the entry to every layer, authority first; `timeout` in seconds."""
        self._run(self._setting(key, value, timeout, version))

    def set_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> list[Any]:
        """Write the entries to every layer; return the keys that no layer took."""
        values = dict(data.items())
        if not values:
            return []
        steps, names = self._setting_many(values, timeout, version)
        return [names[name] for name in self._run(steps).value]

    def delete(self, key: Any, version: Any = None) -> bool:
        """Delete from every layer; return the authority's word, else the next one's."""
        return bool(self._run(self._deleting(key, version)).value)

    def delete_many(self, keys: Iterable[Any], version: Any = None) -> None:
        """Delete from every layer."""
        steps = self._deleting_many(keys, version)
        if steps is not None:
            self._run(steps)

    def clear(self) -> None:
        """Clear every layer."""
        self._run(self._clearing())

    # Decided by the authority

    def add(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> bool:
        """Write the entry if the authority does not have the key; False also without its answer."""
        return bool(self._run(self._adding(key, value, timeout, version)).value)

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        """Give the entry a new TTL; False if it is missing, also without the authority's answer."""
        return bool(self._run(self._touching(key, timeout, version)).value)

    def incr(self, key: Any, delta: Any = 1, version: Any = None) -> Any:
        """Return the value increased by `delta`.

        Raises ValueError if the key is missing, and CacheUnavailable, which is one too, without
        the authority's answer.
        """
        return self._counted(self._run(self._increasing(key, delta, version), CounterUnavailable))

    def decr(self, key: Any, delta: Any = 1, version: Any = None) -> Any:
        """Return the value decreased by `delta`; raises as `incr` does."""
        return self._counted(self._run(self._decreasing(key, delta, version), CounterUnavailable))

    def get_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> Any:
        """Return the entry, or `default` (called, if it can be) after writing it.

        One computation per key and process: others wait for it, no longer than their own
        `deadline()`, and get copies.  Without the authority the layers above keep the value.
        """
        flights = registry.flights
        landed = flights.landed
        value, first = self._nearest(key, version)
        if value is not MISSING:
            return value
        plan = self._plan()
        name, number = plan.keys.name(key, version)
        token = registry.generations.token
        given = token(name)  # as old as `default`, if that is the value
        value = self._get(key, MISSING, version, first)
        if value is not MISSING:
            return value
        if not callable(default):
            return self._run(self._keeping(name, default, timeout, number, given)).value

        def compute(flight: Flight) -> Any:
            if flights.landed != landed:  # perhaps this very key: look again
                found = self._run(plan.chain.get(name, number))
                if found.kind is Kind.HIT:
                    return found.value
            before = token(name)
            value = default()
            if flight.outdated:
                return value
            return self._run(self._keeping(name, value, timeout, number, before, flight)).value

        return flights.run((plan.config.layers, str(name), str(number)), compute, remaining)

    # Making the calls

    def _plan(self) -> Plan:
        plan = self._made_plan
        if plan is None:
            plan = super()._plan()
            self._short = plan.short
        return plan

    def _run(self, steps: Steps, unavailable: type[CacheUnavailable] = CacheUnavailable) -> Outcome:
        """Make the calls that `steps` ask for and return their outcome; the sync driver.

        `unavailable`: what is raised under "raise" where the authority did not answer.
        """
        plan = self._made_plan or self._plan()
        layers, raws = plan.layers, plan.raws
        try:
            index, operation, args = next(steps)
            while True:
                try:
                    outcome = layers[index].execute(raws[index], operation, args)
                except BaseException as error:  # noqa: BLE001 - raised again by the steps
                    index, operation, args = steps.throw(error)
                else:
                    index, operation, args = steps.send(outcome)
        except StopIteration as end:
            result: tuple[Outcome, Unanswered] = end.value
        except BaseException as error:  # raised on, when the rest is done
            if getgeneratorstate(steps) == GEN_SUSPENDED:  # interrupted between two calls
                self._run(after(error, steps))
            raise
        outcome, unanswered = result  # type: ignore[possibly-undefined]  # no other way out
        if unanswered and plan.raises:
            plan.raise_unavailable(unanswered, unavailable)
        return outcome
