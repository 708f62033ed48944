"""Every worker seen and steered: a board that processes share, and what is said on it.

Decisions are local, control is shared: no cache call waits for anything in here.
"""

from __future__ import annotations

import atexit
import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_resilient_cache.fleet.board.board import Board
    from django_resilient_cache.fleet.worker.heartbeat import Heartbeat

logger = logging.getLogger("django_resilient_cache")

_heartbeat: Heartbeat | None = None


def install() -> Heartbeat:
    """Make this process a worker, once it uses a chain.  Nothing is started by that."""
    global _heartbeat  # noqa: PLW0603 - one process is one worker
    if _heartbeat is not None:
        return _heartbeat
    from django.core.signals import setting_changed

    from django_resilient_cache.concurrency.background import background
    from django_resilient_cache.fleet.board.host import this_clock, this_process
    from django_resilient_cache.fleet.board_checks import register_checks
    from django_resilient_cache.fleet.worker.exits import on_other_ends
    from django_resilient_cache.fleet.worker.heartbeat import Heartbeat
    from django_resilient_cache.fleet.worker.local_layers import LocalLayers
    from django_resilient_cache.layer.registry import registry
    from django_resilient_cache.signals import breaker_state_changed

    heartbeat = _heartbeat = Heartbeat(
        LocalLayers(),
        _board_of_settings,
        this_clock(),
        this_process,
        silent=_under_test,
        on_join=lambda: on_other_ends(lambda: _end(heartbeat)),
    )

    def changed(**kwargs: Any) -> None:
        heartbeat.changed()

    def setting(*, setting: str, **kwargs: Any) -> None:
        if setting in ("CACHES", "RESILIENT_CACHE_CONTROL_ALIAS"):
            heartbeat.forget_board()

    uid = "django_resilient_cache.fleet"
    breaker_state_changed.connect(changed, weak=False, dispatch_uid=uid)
    setting_changed.connect(setting, weak=False, dispatch_uid=uid)
    background.add_tick(heartbeat.tick)
    registry.background_from_first_use = True
    atexit.register(_leave, heartbeat)  # after the background thread's own, and so run before it
    register_checks()
    return heartbeat


def _board_of_settings() -> Board | None:
    from django.core.exceptions import ImproperlyConfigured

    from django_resilient_cache import conf
    from django_resilient_cache.fleet.board.stores import CALL_SECONDS, open_board

    try:
        config = conf.control_config(CALL_SECONDS)
    except ImproperlyConfigured as error:
        logger.warning("Workers share nothing: %s", error)
        return None
    return None if config is None else open_board(config)


def _leave(heartbeat: Heartbeat) -> None:
    from django_resilient_cache.concurrency.background import background

    if heartbeat.joined:
        background.send(heartbeat.leave)


def _end(heartbeat: Heartbeat) -> None:
    from django_resilient_cache.concurrency.background import background

    _leave(heartbeat)
    background.stop()


def _under_test() -> bool:
    """Whether Django's test environment is set up: a test run is no worker.

    Not by `mail.outbox`: a site that mails to memory has one too.
    """
    utils = sys.modules.get("django.test.utils")
    return hasattr(getattr(utils, "_TestState", None), "saved_data")
