"""Looking at the board and giving orders, on one client for the whole process."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

from django.core.signals import setting_changed

from django_resilient_cache import conf
from django_resilient_cache.fleet.board.board import Board
from django_resilient_cache.fleet.board.order import Order
from django_resilient_cache.fleet.board.stores import CALL_SECONDS, open_board
from django_resilient_cache.fleet.console.control import BoardUnavailable, Control

#: Seconds for which an order that was given is followed before the page goes on, and between two
#: looks: most workers have applied it by then, and an order that was overwritten is given again.
SETTLING_SECONDS = 1.5
SETTLING_PAUSE = 0.15


def control() -> Control:
    """Return a control for one request; raises SharingOff or ImproperlyConfigured.

    How long its board may take is its own, the client is shared: a client for each request would
    leave a hung one behind each time that the board is away.
    """
    config = conf.control_config(CALL_SECONDS)
    return Control(None if config is None else copy.copy(_opened(config)))


def settle(giver: Control, orders: Sequence[Order]) -> None:
    """Wait until every worker has applied these orders, but not for long."""
    end = time.monotonic() + SETTLING_SECONDS
    with suppress(BoardUnavailable):  # the page that follows says so
        while not all(each.complete for each in giver.progress(orders)):
            if time.monotonic() > end:
                return
            time.sleep(SETTLING_PAUSE)


@lru_cache(maxsize=1)
def _opened(config: conf.ControlConfig) -> Board:
    return open_board(config)


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "CACHES":
        _opened.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_resilient_cache.admin.fleet_client")
