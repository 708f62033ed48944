"""One call of one alias: its breaker decides, its limit waits, its end is judged and counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Any

from django.core.cache import BaseCache

from django_resilient_cache import conf
from django_resilient_cache.adapters.error_classification import ErrorClass, classify
from django_resilient_cache.adapters.outcome import MISS, REJECTED, Kind, NotAttempted, Outcome
from django_resilient_cache.adapters.transactions import Transactions
from django_resilient_cache.breaker import CircuitBreaker, Permit
from django_resilient_cache.breaker.states import State, Transition
from django_resilient_cache.conf import LayerConfig
from django_resilient_cache.exceptions import CircuitOpenError, OperationTimeout
from django_resilient_cache.layer.telemetry import Telemetry
from django_resilient_cache.timeouts.deadline import remaining
from django_resilient_cache.timeouts.from_event_loop import AwaitedLimit
from django_resilient_cache.timeouts.time_limit import BulkheadFull, Limit, TimedOut, abandoned_by

#: A layer that was given this share of its limit has used it up; the rest went to other things
#: in this process.
_USED_UP = 0.5

#: Looking up a member costs as much as the rest of a comparison.
_HIT, _MISS, _DONE = Kind.HIT, Kind.MISS, Kind.DONE


class Guard:
    """The breaker, the limit and the counters of one alias in this process.

    The counters are statistics: kept without a lock, exact under the GIL, nearly so without it.
    """

    __slots__ = (
        "_awaited",
        "_clock",
        "_limit",
        "_seconds",
        "_telemetry",
        "_transactions",
        "alias",
        "breaker",
        "config",
        "direct",
        "done",
        "failures",
        "hits",
        "in_place",
        "misses",
        "nearest",
        "rejected",
        "timeouts",
    )

    def __init__(
        self,
        config: LayerConfig,
        limit: Limit,
        *,
        awaited: AwaitedLimit | None = None,
        transactions: Transactions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.alias = config.alias
        self.config = config
        #: Whether there is no limit to keep: the caller's own instance is called in place.
        self.direct = limit.strategy == "direct"
        #: Whether it is called in place from an event loop too.
        self.in_place = self.direct and awaited is None
        #: Whether it is the nearest layer of some chain, and so speaks to callers of their keys.
        self.nearest = conf.is_nearest(config.alias)
        self._clock = clock
        self._limit = limit
        self._awaited = awaited
        self._seconds = config.operation_timeout
        self._transactions = transactions
        self._telemetry = Telemetry(config.alias, clock)
        self.hits = self.misses = self.done = 0
        self.failures = self.timeouts = self.rejected = 0
        self.breaker = CircuitBreaker(
            config.alias,
            config.breaker,
            clock,
            on_change=self._changed,
            successes=lambda: self.hits + self.misses + self.done,
        )
        limit.refused = self._refused
        if awaited is not None:
            awaited.refused = self._refused

    @property
    def strategy(self) -> str:
        """How the limit is kept: "direct", "sockets" or "thread"."""
        return self._limit.strategy

    def attempt(
        self, backend: BaseCache | None, operation: Callable[..., Outcome], args: tuple[Any, ...]
    ) -> Outcome:
        """Make one call under a permit and within the limit.

        `backend` is the instance to call in place; None: the limit has its own.  Raises what is the
        caller's own matter; everything else becomes an `Outcome`.
        """
        breaker = self.breaker
        permit = breaker.shared_permit or breaker.try_acquire()
        if permit is None:
            self.rejected += 1
            return REJECTED
        try:
            if backend is not None:
                outcome = operation(backend, *args)
            else:
                outcome = self._within_limit(operation, args, permit)
        except BaseException as error:  # noqa: BLE001 - judged: passed on or counted
            return self._raised(error, operation, permit)
        if self._counts(outcome) and (breaker.has_failures or permit.trial):
            permit.success()
        return outcome

    async def aattempt(self, operation: Callable[..., Outcome], args: tuple[Any, ...]) -> Outcome:
        """As `attempt`, while the event loop goes on; for a layer that is not called in place."""
        breaker = self.breaker
        permit = breaker.shared_permit or breaker.try_acquire()
        if permit is None:
            self.rejected += 1
            return REJECTED
        try:
            outcome = await self._awaited_within_limit(operation, args, permit)
        except BaseException as error:  # noqa: BLE001 - judged: passed on or counted
            return self._raised(error, operation, permit)
        if self._counts(outcome) and (breaker.has_failures or permit.trial):
            permit.success()
        return outcome

    def _raised(
        self, error: BaseException, operation: Callable[..., Outcome], permit: Permit
    ) -> Outcome:
        """Return what the exception that ended a call means; raise it again if it is the caller's."""
        if not isinstance(error, Exception):
            permit.release()
            raise error
        outcome = self.classified(error, operation.__name__, permit)
        if outcome.kind is Kind.FAILED:
            outcome.abandoned = abandoned_by(error)
        return outcome

    def _counts(self, outcome: Outcome) -> bool:
        """Count an answer; return whether it is one."""
        kind = outcome.kind
        if kind is _HIT:
            self.hits += 1
        elif kind is _MISS:
            self.misses += 1
        elif kind is _DONE:
            self.done += 1
            if outcome.error is not None:
                self._telemetry.unreadable(outcome.error)
        else:
            return False
        return True

    def classified(self, error: Exception, operation: str, permit: Permit) -> Outcome:
        """Return what an exception of the layer means; raise it again if it is the caller's.

        Or if it has ended the caller's transaction, which then cannot go on.
        """
        verdict = classify(error, operation)
        if verdict is ErrorClass.CALLER_ERROR or verdict is ErrorClass.INTERRUPTED:
            permit.release()
            raise error
        if verdict is ErrorClass.LAYER_FAILURE:
            self.failures += 1
            permit.failure(error)
            self._telemetry.failure(operation, error)
            if self._transactions is not None and self._transactions.spoilt():
                raise error
            return Outcome(Kind.FAILED, error=error)
        permit.success()
        if verdict is ErrorClass.SERVER_REPLY:
            self.done += 1
            raise error
        self.misses += 1
        self._telemetry.unreadable(error)
        if operation in ("incr", "decr"):
            raise ValueError("the entry cannot be read back and counts as missing") from error
        return MISS

    def refusal(self) -> CircuitOpenError:
        """Return the error that stands for a rejected call."""
        return CircuitOpenError(self.alias, self.breaker.retry_after)

    def after_fork(self) -> None:
        """Keep what is known, let go of what belongs to the parent."""
        self._limit.after_fork()
        if self._awaited is not None:
            self._awaited.after_fork()

    def close(self) -> None:
        """Let go of connections and threads."""
        self._limit.close()
        if self._awaited is not None:
            self._awaited.close()

    def snapshot(self) -> dict[str, Any]:
        """Return the state and the counters as plain values; times in seconds."""
        seconds = self.breaker.seconds_in_state
        return {
            "state": self.breaker.state.value,
            "strategy": self.strategy,
            "limit": self._seconds,
            "seconds_in_state": seconds,
            "since": time.time() - seconds,
            "retry_after": self._until_trial(),
            "last_error": self.breaker.last_error,
            "hits": self.hits,
            "misses": self.misses,
            "done": self.done,
            "failures": self.failures,
            "timeouts": self.timeouts,
            "rejected": self.rejected,
            "changes": self._telemetry.changes,
        }

    def _until_trial(self) -> float | None:
        """Return the seconds until a trial may be made; None: none is to come."""
        seconds = self.breaker.retry_after
        waits = self.breaker.state in (State.OPEN, State.HALF_OPEN)
        return seconds if waits and seconds != inf else None

    def _within_limit(
        self, operation: Callable[..., Outcome], args: tuple[Any, ...], permit: Permit
    ) -> Outcome:
        if self._transactions is not None:
            backend = self._transactions.in_place()
            if backend is not None:
                return operation(backend, *args)
        budget = self._budget()
        if budget is not None and budget <= 0:
            return self._exhausted(operation, permit)
        try:
            return self._limit.call(operation, args, budget, trial=permit.trial)
        except TimedOut as expired:
            return self._expired(operation, permit, budget, expired)
        except BulkheadFull as none:
            return self._no_place(operation, permit, budget, none)

    async def _awaited_within_limit(
        self, operation: Callable[..., Outcome], args: tuple[Any, ...], permit: Permit
    ) -> Outcome:
        assert self._awaited is not None  # noqa: S101 - else it is called in place
        # Without a limit it is asked however little the caller has left, as in sync code.
        budget = None if self.direct else self._budget()
        if budget is not None and budget <= 0:
            return self._exhausted(operation, permit)
        try:
            return await self._awaited.acall(operation, args, budget, trial=permit.trial)
        except TimedOut as expired:
            return self._expired(operation, permit, budget, expired)
        except BulkheadFull as none:
            return self._no_place(operation, permit, budget, none)

    def _budget(self) -> float | None:
        """Return the seconds that a call may take; None: as many as it needs."""
        budget = self._seconds
        left = remaining()
        return left if left is not None and (budget is None or left < budget) else budget

    def _exhausted(self, operation: Callable[..., Outcome], permit: Permit) -> Outcome:
        permit.release()
        return self._timed_out(operation, "nothing was left of the caller's deadline", NotAttempted)

    def _changed(self, change: Transition) -> None:
        self._telemetry.changed(change)
        if change.new in (State.OPEN, State.FORCED_OPEN):
            self._limit.reject_waiting()
            if self._awaited is not None:
                self._awaited.reject_waiting()

    def _refused(self) -> bool:
        """Whether the breaker has opened, and lets through trials at most."""
        return self.breaker.shared_permit is None

    def _no_place(
        self,
        operation: Callable[..., Outcome],
        permit: Permit,
        budget: float | None,
        none: BulkheadFull,
    ) -> Outcome:
        if not permit.trial and self._refused():
            self.rejected += 1
            return REJECTED
        outcome = self._timed_out(operation, str(none), NotAttempted)
        self._telemetry.no_place(operation.__name__, outcome.error)
        if permit.trial:
            permit.failure(outcome.error)
        else:
            self._blame(permit, budget, none.given, outcome)
        return outcome

    def _blame(self, permit: Permit, budget: float | None, given: float, outcome: Outcome) -> None:
        """Count a time-out against the layer by how much of the limit it was `given`, in seconds."""
        limit = self._seconds
        if limit is None or not given:
            permit.release()
        elif budget is None or budget < limit or given < _USED_UP * limit:
            permit.partial_timeout(given, limit, outcome.error)
        else:
            permit.failure(outcome.error)

    def _expired(
        self,
        operation: Callable[..., Outcome],
        permit: Permit,
        budget: float | None,
        expired: TimedOut,
    ) -> Outcome:
        assert budget is not None  # noqa: S101 - without a budget nothing expires
        limit = self._seconds
        cut = limit is None or budget < limit
        outcome = self._timed_out(
            operation,
            f"no answer within the {budget:.3g} s left of the caller's deadline"
            if cut
            else f"no answer within {limit:.3g} s (OPERATION_TIMEOUT)",
        )
        self._blame(permit, budget, expired.given, outcome)
        if not cut:
            self._telemetry.failure(operation.__name__, outcome.error)
        outcome.abandoned = expired.abandoned
        return outcome

    def _timed_out(
        self, operation: Callable[..., Outcome], why: str, outcome: type[Outcome] = Outcome
    ) -> Outcome:
        self.timeouts += 1
        error = OperationTimeout(f"{operation.__name__} on {self.alias!r}: {why}")
        return outcome(Kind.TIMED_OUT, error=error)
