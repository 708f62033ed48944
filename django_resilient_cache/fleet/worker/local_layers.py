"""This process's layers, as a worker of the fleet reports them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from django_resilient_cache import conf
from django_resilient_cache.breaker import CircuitBreaker
from django_resilient_cache.fleet.board.order import Action, Order
from django_resilient_cache.layer.registry import breakers, registry

logger = logging.getLogger("django_resilient_cache")


class LocalLayers:
    """The layers, breakers and ledgers of this process."""

    def __init__(self) -> None:
        self._refused: set[str] = set()

    def aliases(self) -> Iterable[str]:
        """Return the aliases that are layers."""
        return conf.layer_aliases()

    def layers(self) -> Mapping[str, Mapping[str, Any]]:
        """Return what is to be reported of each layer in use."""
        return registry.snapshot()

    def act(self, order: Order) -> bool:
        """Carry out an order; return whether that could be done.

        Not, where the layer's settings are wrong: that is no reason to keep others waiting.
        """
        try:
            _carry_out(order, breakers[order.alias])
        except (ImproperlyConfigured, KeyError) as error:
            if order.id not in self._refused:
                self._refused.add(order.id)
                logger.warning("%s: cannot %s: %s", order.alias, order.action.value, error)
            return False
        return True

    def end(self, order: Order) -> None:
        """End the forced state that an order has brought about."""
        try:
            breakers[order.alias].auto(f'"{order.action.value}" by {order.actor} has ended')
        except (ImproperlyConfigured, KeyError):
            return  # it is a layer no more


def _carry_out(order: Order, breaker: CircuitBreaker) -> None:
    why = reason_of(order)
    match order.action:
        case Action.RESET:
            breaker.reset(why)
        case Action.AUTO:
            breaker.auto(why)
        case Action.FORCE_OPEN:
            breaker.force_open(why)
        case Action.FORCE_CLOSED:
            breaker.force_closed(why)
        case Action.FORGET:
            missed_changes = registry.layer(order.alias).missed_changes
            missed = len(missed_changes)
            missed_changes.forget()
            logger.warning("%s: %d missed keys forgotten, %s", order.alias, missed, why)


def reason_of(order: Order) -> str:
    """Return what log lines and transitions say of an order."""
    by = f"{order.action.value} by {order.actor}"
    return f"{by}: {order.reason}" if order.reason else by
