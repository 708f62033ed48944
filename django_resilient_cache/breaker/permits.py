"""Permits, and the trials of a half-open breaker.  Standard library only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django_resilient_cache.breaker.circuit_breaker import CircuitBreaker
    from django_resilient_cache.breaker.states import BreakerConfig


class Permit:
    """The right to make one call; give it back with exactly one of its methods.

    It belongs to the generation of the breaker in which it was given: after a transition, a
    reset or an order its result is ignored.
    """

    __slots__ = ("_breaker", "trial")

    def __init__(self, breaker: CircuitBreaker, *, trial: bool) -> None:
        self._breaker = breaker
        self.trial = trial

    def success(self) -> None:
        """The call was answered; a miss is an answer too."""
        self._breaker._succeeded(self)

    def failure(self, error: BaseException | None = None) -> None:
        """The call failed, and the other side is to blame."""
        self._breaker._failed(self, error)

    def release(self) -> None:
        """The call says nothing about the other side (cancelled, the caller's own mistake)."""
        self._breaker._released(self)

    def partial_timeout(
        self, waited: float, limit: float, error: BaseException | None = None
    ) -> None:
        """The caller stopped waiting after `waited` seconds, before `limit` seconds were over.

        One such wait is no failure, but they add up: when they reach `limit` with no success
        between, they are one failure.
        """
        self._breaker._partial_timeout(self, waited, limit, error)


class Trials:
    """The trials in flight in one half-open time, and how many have succeeded.

    A trial that does not return loses its permit when its lease ends.
    Not thread-safe: its breaker calls it under the breaker's lock.
    """

    def __init__(self, config: BreakerConfig) -> None:
        self._config = config
        self._lease_ends: dict[Permit, float] = {}
        self.successes = 0

    def restart(self) -> None:
        """Forget all trials: their results no longer count."""
        self._lease_ends.clear()
        self.successes = 0

    def admit(self, breaker: CircuitBreaker, now: float) -> Permit | None:
        """Return a permit for one trial; None: enough are in flight."""
        self._lease_ends = {trial: end for trial, end in self._lease_ends.items() if end > now}
        if self._full:
            return None
        permit = Permit(breaker, trial=True)
        self._lease_ends[permit] = now + self._config.trial_lease
        return permit

    def __contains__(self, permit: Permit) -> bool:
        """Whether this trial is in flight; the result of another does not count."""
        return permit in self._lease_ends

    def release(self, permit: Permit) -> None:
        """End a trial that says nothing."""
        self._lease_ends.pop(permit, None)

    def succeed(self, permit: Permit) -> bool:
        """End a trial that succeeded; return whether enough have, so that the breaker closes."""
        self.release(permit)
        self.successes += 1
        return self.successes >= self._config.half_open_successes

    def retry_after(self, now: float) -> float:
        """Seconds until another trial may be admitted."""
        return max(0.0, min(self._lease_ends.values()) - now) if self._full else 0.0

    @property
    def _full(self) -> bool:
        return len(self._lease_ends) >= self._config.half_open_max_calls
