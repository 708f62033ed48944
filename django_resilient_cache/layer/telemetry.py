"""What a layer tells the world: log lines and signals, each change once, off the data path."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from django_resilient_cache.breaker.states import State, Transition
from django_resilient_cache.concurrency.background import background
from django_resilient_cache.signals import breaker_state_changed, layer_failed

logger = logging.getLogger("django_resilient_cache")

#: Seconds between two log lines about the same kind of trouble of one layer.
QUIET_SECONDS = 60.0

#: Transitions of one layer that are kept to be shown.
CHANGES = 20


class Telemetry:
    """Log lines and signals about one alias, handed to the background thread."""

    def __init__(self, alias: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._alias = alias
        self._clock = clock
        self._quiet_until: dict[str, float] = {}
        self._changes: deque[dict[str, Any]] = deque(maxlen=CHANGES)

    @property
    def changes(self) -> list[dict[str, Any]]:
        """The last transitions as plain values, the newest last; `at` in seconds since the epoch."""
        return list(self._changes)

    def failure(self, operation: str, error: BaseException | None) -> None:
        """Tell of a failed call, unless another one was told of within the last minute."""
        if self._is_first("failure"):
            background.send(lambda: self._tell_failure(operation, error))

    def no_place(self, operation: str, error: BaseException | None) -> None:
        """Tell of a call that could not be made for want of a place, once a minute."""
        if self._is_first("no place"):
            self._log_later(f"{operation} on %r was not made", error)

    def undecodable(self, error: BaseException) -> None:
        """Tell of an entry that cannot be read back, once a minute."""
        if self._is_first("unreadable"):
            self._log_later("An entry in %r cannot be read back: taken for a miss", error)

    def unrepaired(self, error: Exception) -> None:
        """Tell of a key that cannot be repaired because the layer does not take it at all."""
        if self._is_first("unrepaired"):
            self._log_later("A change that %r missed cannot be made up for there", error)

    def changed(self, change: Transition) -> None:
        """Tell of a breaker's transition."""
        if change.new is State.CLOSED:
            self._quiet_until.clear()
        at = time.time()
        background.send(lambda: self._tell_change(change, at))

    def _is_first(self, matter: str) -> bool:
        now = self._clock()
        if now < self._quiet_until.get(matter, 0.0):
            return False
        self._quiet_until[matter] = now + QUIET_SECONDS
        return True

    def _log_later(self, text: str, error: BaseException | None) -> None:
        background.send(
            lambda: logger.warning(f"{text} (%s: %s)", self._alias, type(error).__name__, error)  # noqa: G004 - a template
        )

    def _tell_failure(self, operation: str, error: BaseException | None) -> None:
        logger.warning(
            "%s on %r failed (%s: %s)", operation, self._alias, type(error).__name__, error
        )
        layer_failed.send_robust(sender=self._alias, operation=operation, error=error)

    def _tell_change(self, change: Transition, at: float) -> None:
        error = None if change.error is None else f"{type(change.error).__name__}: {change.error}"
        self._changes.append(
            {
                "at": at,
                "old": change.old.value,
                "new": change.new.value,
                "reason": change.reason,
                "error": error,
            }
        )
        opened = change.new in (State.OPEN, State.FORCED_OPEN)
        text = f"{change.name}: {change.old.value} -> {change.new.value} ({change.reason})"
        if change.retry_after:
            text += f"; next trial in {change.retry_after:.1f} s"
        if error is not None:
            text += f"; {error}"
        logger.log(logging.WARNING if opened else logging.INFO, text)
        breaker_state_changed.send_robust(
            sender=self._alias,
            old=change.old,
            new=change.new,
            reason=change.reason,
            error=change.error,
        )
