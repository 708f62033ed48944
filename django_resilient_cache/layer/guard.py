"""One call of one alias: its breaker admits it, its limit bounds it, its end is classified and counted."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.core.cache import BaseCache

from django_resilient_cache.adapters.commands import Command, Count
from django_resilient_cache.adapters.error_classification import ErrorClass, classify
from django_resilient_cache.adapters.outcome import MISS, REJECTED, Kind, NotAttempted, Outcome
from django_resilient_cache.adapters.transactions import Transactions
from django_resilient_cache.breaker import CircuitBreaker, Permit
from django_resilient_cache.breaker.states import State, Transition
from django_resilient_cache.conf import LayerConfig
from django_resilient_cache.exceptions import CircuitOpenError, OperationTimeout
from django_resilient_cache.layer.counters import Counters
from django_resilient_cache.layer.telemetry import Telemetry
from django_resilient_cache.timeouts.blame import Blame, blame
from django_resilient_cache.timeouts.deadline import remaining
from django_resilient_cache.timeouts.direct import DirectLimit
from django_resilient_cache.timeouts.time_limit import (
    AwaitedLimit,
    BulkheadFull,
    TimedOut,
    TimeLimit,
)

#: Looking up a member costs as much as the rest of a comparison.
_HIT, _MISS, _DONE = Kind.HIT, Kind.MISS, Kind.DONE


class Guard:
    """The breaker, the limit and the counters of one alias in this process."""

    __slots__ = (
        "_limit",
        "_seconds",
        "_telemetry",
        "_transactions",
        "alias",
        "awaited",
        "breaker",
        "counters",
        "direct",
        "in_place",
    )

    def __init__(
        self,
        config: LayerConfig,
        limit: TimeLimit,
        telemetry: Telemetry,
        *,
        awaited: AwaitedLimit | None = None,
        transactions: Transactions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.alias = config.alias
        #: Whether there is no limit to keep: the caller's own instance is called in place.
        self.direct = isinstance(limit, DirectLimit)
        #: Whether it is called in place from an event loop too.
        self.in_place = self.direct and awaited is None
        self._limit = limit
        #: How it is called from an event loop; None: in place.
        self.awaited = awaited
        self._seconds = config.operation_timeout
        self._transactions = transactions
        self._telemetry = telemetry
        self.counters = Counters()
        self.breaker = CircuitBreaker(
            config.alias,
            config.breaker,
            clock,
            on_change=self._changed,
            successes=self.counters.answers,
        )
        limit.is_rejecting = self._is_not_closed
        if awaited is not None:
            awaited.is_rejecting = self._is_not_closed

    @property
    def strategy(self) -> str:
        """How the limit is kept: "direct", "sockets" or "thread"."""
        return self._limit.strategy

    # Calls

    def attempt(self, backend: BaseCache | None, command: Command) -> Outcome:
        """Make one call under a permit and within the limit.

        `backend` is the instance to call in place; None: the limit has its own.  Raises what is the
        caller's own matter; everything else becomes an `Outcome`.
        """
        breaker = self.breaker
        permit = breaker.shared_permit or breaker.try_acquire()
        if permit is None:
            self.counters.rejected += 1
            return REJECTED
        try:
            if backend is not None:
                outcome = command.run(backend)
            else:
                outcome = self._within_limit(command, permit)
        except BaseException as error:  # noqa: BLE001 - classified: passed on or counted
            return self._raised(error, command, permit)
        if self._counts(outcome) and (breaker.has_failures or permit.trial):
            permit.success()
        return outcome

    async def aattempt(self, command: Command) -> Outcome:
        """As `attempt`, while the event loop goes on; for a layer that is not called in place."""
        breaker = self.breaker
        permit = breaker.shared_permit or breaker.try_acquire()
        if permit is None:
            self.counters.rejected += 1
            return REJECTED
        try:
            outcome = await self._awaited_within_limit(command, permit)
        except BaseException as error:  # noqa: BLE001 - classified: passed on or counted
            return self._raised(error, command, permit)
        if self._counts(outcome) and (breaker.has_failures or permit.trial):
            permit.success()
        return outcome

    def _within_limit(self, command: Command, permit: Permit) -> Outcome:
        if self._transactions is not None:
            backend = self._transactions.in_place()
            if backend is not None:
                return command.run(backend)
        budget = self._budget()
        if budget is not None and budget <= 0:
            return self._nothing_left(command, permit)
        try:
            return self._limit.call(command, budget, trial=permit.trial)
        except TimedOut as end:
            return self._timed_out(command, permit, budget, end)
        except BulkheadFull as full:
            return self._found_no_place(command, permit, budget, full)

    async def _awaited_within_limit(self, command: Command, permit: Permit) -> Outcome:
        assert self.awaited is not None  # noqa: S101 - else it is called in place
        # Without a limit it is asked however little the caller has left, as in sync code.
        budget = None if self.direct else self._budget()
        if budget is not None and budget <= 0:
            return self._nothing_left(command, permit)
        try:
            return await self.awaited.acall(command, budget, trial=permit.trial)
        except TimedOut as end:
            return self._timed_out(command, permit, budget, end)
        except BulkheadFull as full:
            return self._found_no_place(command, permit, budget, full)

    def _budget(self) -> float | None:
        """Return the seconds that a call may take; None: as many as it needs."""
        budget = self._seconds
        left = remaining()
        return left if left is not None and (budget is None or left < budget) else budget

    # How a call ended

    def _counts(self, outcome: Outcome) -> bool:
        """Count an answer; return whether it is one."""
        kind = outcome.kind
        if kind is _HIT:
            self.counters.hits += 1
        elif kind is _MISS:
            self.counters.misses += 1
        elif kind is _DONE:
            self.counters.done += 1
            if outcome.error is not None:
                self._telemetry.undecodable(outcome.error)
        else:
            return False
        return True

    def _raised(self, error: BaseException, command: Command, permit: Permit) -> Outcome:
        """Return what the exception that ended a call means; raise it again if it is the caller's."""
        if not isinstance(error, Exception):
            permit.release()
            raise error
        return self.classified(error, command, permit)

    def classified(self, error: Exception, command: Command, permit: Permit) -> Outcome:
        """Return what an exception of the layer means; raise it again if it is the caller's.

        Or if it has ended the caller's transaction, which then cannot go on.
        """
        kind = classify(error, command.name)
        if kind is ErrorClass.CALLER_ERROR or kind is ErrorClass.INTERRUPTED:
            permit.release()
            raise error
        if kind is ErrorClass.LAYER_FAILURE:
            self.counters.failures += 1
            permit.failure(error)
            self._telemetry.failure(command.name, error)
            if self._transactions is not None and self._transactions.spoilt():
                raise error
            return Outcome(Kind.FAILED, error=error)
        permit.success()
        if kind is ErrorClass.SERVER_REPLY:
            self.counters.done += 1
            raise error
        self.counters.misses += 1
        self._telemetry.undecodable(error)
        if not isinstance(command, Count):
            return MISS
        raise ValueError("the entry cannot be read back and counts as missing") from error

    def _nothing_left(self, command: Command, permit: Permit) -> Outcome:
        permit.release()
        return self._timeout(command, "nothing was left of the caller's deadline", NotAttempted)

    def _found_no_place(
        self, command: Command, permit: Permit, budget: float | None, full: BulkheadFull
    ) -> Outcome:
        if not permit.trial and self._is_not_closed():
            self.counters.rejected += 1
            return REJECTED
        outcome = self._timeout(command, str(full), NotAttempted)
        self._telemetry.no_place(command.name, outcome.error)
        if permit.trial:
            permit.failure(outcome.error)
        else:
            self._blame(permit, budget, full.server_seconds, outcome)
        return outcome

    def _timed_out(
        self, command: Command, permit: Permit, budget: float | None, end: TimedOut
    ) -> Outcome:
        assert budget is not None  # noqa: S101 - without a budget nothing times out
        limit = self._seconds
        if limit is None or budget < limit:
            why = f"no answer within the {budget:.3g} s left of the caller's deadline"
            outcome = self._timeout(command, why)
        else:
            outcome = self._timeout(command, f"no answer within {limit:.3g} s (OPERATION_TIMEOUT)")
            self._telemetry.failure(command.name, outcome.error)
        self._blame(permit, budget, end.server_seconds, outcome)
        return outcome

    def _blame(
        self, permit: Permit, budget: float | None, server_seconds: float, outcome: Outcome
    ) -> None:
        limit = self._seconds
        verdict = blame(limit, budget, server_seconds)
        if limit is None or verdict is Blame.NONE:
            permit.release()
        elif verdict is Blame.PARTIAL:
            permit.partial_timeout(server_seconds, limit, outcome.error)
        else:
            permit.failure(outcome.error)

    def _timeout(self, command: Command, why: str, outcome: type[Outcome] = Outcome) -> Outcome:
        self.counters.timeouts += 1
        error = OperationTimeout(f"{command.name} on {self.alias!r}: {why}")
        return outcome(Kind.TIMED_OUT, error=error)

    # Around calls

    def refusal(self) -> CircuitOpenError:
        """Return the error that stands for a rejected call."""
        return CircuitOpenError(self.alias, self.breaker.retry_after)

    def close(self) -> None:
        """Let go of connections and threads."""
        self._limit.close()
        if self.awaited is not None:
            self.awaited.close()

    def _is_not_closed(self) -> bool:
        """Whether the breaker has opened, and lets through trials at most."""
        return self.breaker.shared_permit is None

    def _changed(self, change: Transition) -> None:
        self._telemetry.changed(change)
        if change.new in (State.OPEN, State.FORCED_OPEN):
            self._limit.reject_waiting()
            if self.awaited is not None:
                self.awaited.reject_waiting()
