"""What a caller asks of a chain, in the chain's terms: its keys, its version, its steps.

The sync methods and the async ones ask for the same; only who makes the calls differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django_resilient_cache.adapters.outcome import Kind, Outcome
from django_resilient_cache.backend.planned import Planned
from django_resilient_cache.chain.chain import Steps
from django_resilient_cache.chain.single_flight import Flight
from django_resilient_cache.exceptions import CounterUnavailable
from django_resilient_cache.layer.registry import registry


class Asking(Planned):
    """A backend that turns each of its operations into the steps of its chain."""

    def _having(self, key: Any, version: Any) -> Steps:
        plan = self._plan()
        return plan.chain.has_key(*plan.keys.resolve(key, version))

    def _getting_many(self, keys: Iterable[Any], version: Any) -> tuple[Steps | None, _Names]:
        plan = self._plan()
        names, version = plan.keys.resolve_many(keys, version)
        return plan.chain.get_many(list(names), version) if names else None, names

    def _found(self, names: _Names, outcome: Outcome) -> dict[Any, Any]:
        """Return what was found by the keys that the caller used."""
        found: dict[Any, Any] = outcome.value or {}
        if not self._plan().keys.composes:
            return found
        return {names[name]: value for name, value in found.items()}

    def _setting(self, key: Any, value: Any, timeout: Any, version: Any) -> Steps:
        plan = self._plan()
        key, version = self._changing(key, version)
        return plan.chain.set(key, value, plan.timeout(timeout), version)

    def _setting_many(
        self, data: Mapping[Any, Any], timeout: Any, version: Any
    ) -> tuple[Steps, _Names]:
        """Return the steps, and the keys as the layers are given them; `data` is not empty."""
        plan = self._plan()
        names, version = plan.keys.resolve_many(data, version)
        registry.flights.outdate(names, version)
        entries = {name: data[key] for name, key in names.items()}
        return plan.chain.set_many(entries, plan.timeout(timeout), version), names

    def _deleting(self, key: Any, version: Any) -> Steps:
        return self._plan().chain.delete(*self._changing(key, version))

    def _deleting_many(self, keys: Iterable[Any], version: Any) -> Steps | None:
        plan = self._plan()
        names, version = plan.keys.resolve_many(keys, version)
        if not names:
            return None
        registry.flights.outdate(names, version)
        return plan.chain.delete_many(list(names), version)

    def _clearing(self) -> Steps:
        registry.flights.outdate()
        return self._plan().chain.clear()

    def _adding(self, key: Any, value: Any, timeout: Any, version: Any) -> Steps:
        plan = self._plan()
        key, version = plan.keys.resolve(key, version)
        return plan.chain.add(key, value, plan.timeout(timeout), version)

    def _touching(self, key: Any, timeout: Any, version: Any) -> Steps:
        plan = self._plan()
        key, version = plan.keys.resolve(key, version)
        return plan.chain.touch(key, plan.timeout(timeout), version)

    def _increasing(self, key: Any, delta: Any, version: Any) -> Steps:
        plan = self._plan()
        key, version = self._changing(key, version)
        return plan.chain.incr(key, delta, version)

    def _decreasing(self, key: Any, delta: Any, version: Any) -> Steps:
        plan = self._plan()
        key, version = self._changing(key, version)
        return plan.chain.decr(key, delta, version)

    def _keeping(
        self,
        key: Any,
        value: Any,
        timeout: Any,
        version: Any,
        token: object,
        flight: Flight | None = None,
    ) -> Steps:
        """Add what was missing; HIT with what is there then.

        `token`: the key's from before the value was computed.  `flight`: in which it was; a change
        in this process meanwhile is not undone.  What was computed is the answer, whether or not a
        layer could keep it.
        """
        plan = self._plan()
        outcome, _ = yield from plan.chain.add(key, value, plan.timeout(timeout), version, token)
        if outcome.answered and not outcome.value:  # another process was quicker
            quicker, _ = yield from plan.chain.get(key, version)
            if quicker.kind is Kind.HIT:
                return quicker, []
        elif flight is not None and flight.outdated:
            registry.flights.outdate((key,), version)
            yield from plan.chain.delete(key, version)
        return Outcome(Kind.HIT, value), []

    def _counted(self, outcome: Outcome) -> Any:
        """Return the new value of a counter; there is none without the authority."""
        if not outcome.answered:
            plan = self._plan()
            plan.raise_unavailable([(plan.chain.authority, outcome)], CounterUnavailable)
        return outcome.value

    def _changing(self, key: Any, version: Any) -> tuple[Any, Any]:
        """Return key and version as the layers are given them; what computes it is outdated."""
        key, version = self._plan().keys.resolve(key, version)
        registry.flights.outdate((key,), version)
        return key, version


#: The keys as the layers are given them, mapped to the caller's.
_Names = dict[Any, Any]
