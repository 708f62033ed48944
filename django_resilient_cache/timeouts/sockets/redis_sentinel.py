"""Sentinel: who takes writes is asked for inside the budget of the attempt to connect.

The pools of redis-py and valkey-py ask while they connect, through clients of their own, one for
each Sentinel.
"""

from __future__ import annotations

from importlib import import_module
from time import monotonic
from typing import Any

from django_resilient_cache.timeouts.sockets.budget import BudgetEnded, current_budget
from django_resilient_cache.timeouts.sockets.connecting import Connectors
from django_resilient_cache.timeouts.sockets.redis import client_package, guarded_connection_class

#: What the classes below are mixed into: classes of a client that is not there for the types.
_Client: Any = object


class SharingClient(_Client):  # type: ignore[misc]  # a base that is Any
    """Mixed in before the client of one Sentinel: it leaves time for the others and the master."""

    #: How many Sentinels there are, and the client's exceptions; set by `guard_sentinels`.
    _sentinels: int
    _errors: Any

    def execute_command(self, *args: Any, **options: Any) -> Any:
        budget = current_budget.get()
        if budget is None:
            return super().execute_command(*args, **options)
        ends, now = budget.ends, monotonic()
        budget.ends = now + (ends - now) / (self._sentinels + 1)
        try:
            return super().execute_command(*args, **options)
        except BudgetEnded:
            # What the client takes for a reason to ask the next one.
            raise self._errors.TimeoutError("Timeout asking a sentinel") from None
        finally:
            budget.ends = ends


def guard_sentinels(manager: Any, connectors: Connectors) -> None:
    """Make the connections to the Sentinels of `manager`, which is fresh, keep to the budget."""
    errors = import_module(f"{client_package(type(manager))}.exceptions")
    own = {"_sentinels": len(manager.sentinels), "_errors": errors}
    for client in manager.sentinels:
        pool = client.connection_pool
        pool.connection_class = guarded_connection_class(pool.connection_class, connectors)
        kind = type(client)
        client.__class__ = type(kind.__name__, (SharingClient, kind), own)


def disconnect_sentinels(manager: Any) -> None:
    """Close the connections to the Sentinels."""
    for client in list(manager.sentinels):
        client.connection_pool.disconnect()
