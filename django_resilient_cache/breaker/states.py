"""A breaker's settings, states and transitions as frozen data.  Standard library only."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum
from typing import Any

_SECONDS = "a number of seconds above 0"


class State(Enum):
    """What a breaker does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"
    FORCED_OPEN = "forced open"
    FORCED_CLOSED = "forced closed"


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerConfig:
    """When a breaker opens, for how long, and what closes it again.  Times are seconds.

    Raises TypeError or ValueError naming the field, the value and what to write instead.
    """

    max_failures: int = 5
    """Failures in a row that open the breaker; a success resets the count."""
    failure_rate: float | None = None
    """Share of the recent calls (0 < share <= 1) whose failure opens it; None: rule off."""
    failure_window: float = 10.0
    """Seconds that count as recent for `failure_rate`."""
    min_calls: int = 20
    """Calls within `failure_window` before `failure_rate` decides anything."""
    reset_timeout: float = 5.0
    """Seconds open before the first trial; doubled by each failed trial, jittered by 20 %."""
    max_reset_timeout: float | None = None
    """Upper end of the doubling; None: 30 seconds, or `reset_timeout` if that is longer."""
    half_open_successes: int = 2
    """Successful trials in a row that close it."""
    half_open_max_calls: int = 1
    """Trials in flight at one time."""
    trial_timeout: float | None = None
    """Seconds after which the permit of a trial that did not return is given back; None: the
    upper end of the doubling."""

    def __post_init__(self) -> None:
        for name in ("max_failures", "min_calls", "half_open_successes", "half_open_max_calls"):
            _check(name, getattr(self, name), "a whole number of 1 or more", int)
        for name in ("failure_window", "reset_timeout"):
            _check(name, getattr(self, name), _SECONDS)
        for name in ("max_reset_timeout", "trial_timeout"):
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), _SECONDS)
        if self.failure_rate is not None:
            _check("failure_rate", self.failure_rate, "a share above 0 and up to 1", most=1)
        if self.reset_cap < self.reset_timeout:
            raise ValueError(
                f"max_reset_timeout ({self.max_reset_timeout!r}) must not be below "
                f"reset_timeout ({self.reset_timeout!r})"
            )

    @property
    def reset_cap(self) -> float:
        """The longest reset time in seconds, jitter left aside."""
        longest = self.max_reset_timeout
        return max(30.0, self.reset_timeout) if longest is None else longest

    @property
    def trial_lease(self) -> float:
        """Seconds for which a trial holds its permit."""
        return self.reset_cap if self.trial_timeout is None else self.trial_timeout


def _check(
    name: str, value: Any, what: str, kind: Any = (int, float), most: float = sys.float_info.max
) -> None:
    fits = isinstance(value, kind) and not isinstance(value, bool)
    if not fits or not 0 < value <= most:  # infinity, not-a-number and 10**400 neither
        raise (ValueError if fits else TypeError)(f"{name} must be {what}, got {value!r}")


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of a breaker's state."""

    name: str
    old: State
    new: State
    reason: str
    error: BaseException | None
    retry_after: float
    """Seconds until the next trial; 0.0 unless open."""
