"""A breaker's settings, states and transitions as frozen data.  Standard library only."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum


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
            _check_count(name, getattr(self, name))
        for name in ("failure_window", "reset_timeout"):
            _check_seconds(name, getattr(self, name))
        for name in ("max_reset_timeout", "trial_timeout"):
            if getattr(self, name) is not None:
                _check_seconds(name, getattr(self, name))
        if self.failure_rate is not None:
            _check_seconds("failure_rate", self.failure_rate, unit="a share above 0 and up to 1")
            if self.failure_rate > 1:
                raise ValueError(
                    f"failure_rate must be a share above 0 and up to 1, got {self.failure_rate!r}"
                )
        if self.max_reset_timeout is not None and self.max_reset_timeout < self.reset_timeout:
            raise ValueError(
                f"max_reset_timeout ({self.max_reset_timeout!r}) must not be below "
                f"reset_timeout ({self.reset_timeout!r})"
            )

    @property
    def reset_cap(self) -> float:
        """The longest reset time in seconds, jitter left aside."""
        return (
            max(30.0, self.reset_timeout)
            if self.max_reset_timeout is None
            else self.max_reset_timeout
        )

    @property
    def trial_lease(self) -> float:
        """Seconds for which a trial holds its permit."""
        return self.reset_cap if self.trial_timeout is None else self.trial_timeout


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number of 1 or more, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be a whole number of 1 or more, got {value!r}")


def _check_seconds(name: str, value: object, unit: str = "a number of seconds above 0") -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be {unit}, got {value!r}")
    if not 0 < value <= sys.float_info.max:  # infinity, not-a-number and 10**400 neither
        raise ValueError(f"{name} must be {unit}, got {value!r}")


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
