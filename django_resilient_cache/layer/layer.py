"""One alias in this process: the guard makes the call, the ledger remembers what was missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from math import inf
from typing import Any

from django.core.cache import BaseCache

from django_resilient_cache.adapters import effects, operations
from django_resilient_cache.adapters.error_classification import ErrorClass, classify
from django_resilient_cache.adapters.outcome import REJECTED, Kind, Outcome
from django_resilient_cache.breaker.states import State
from django_resilient_cache.concurrency.background import background
from django_resilient_cache.concurrency.interruption import interrupts
from django_resilient_cache.layer.guard import Guard
from django_resilient_cache.layer.missed_changes import Due
from django_resilient_cache.layer.recorder import Recorder
from django_resilient_cache.timeouts.from_event_loop import OrmThread
from django_resilient_cache.timeouts.time_limit import abandoned_by

#: Keys that one batch of a repair deletes, and seconds between two batches.  While a batch is put
#: together (half a millisecond and two microseconds a key) the process's other threads wait for the
#: interpreter: with pauses this long they do so in far fewer than one read in a hundred.
REPAIR_BATCH = 250
REPAIR_PAUSE = 1.0

#: Keys that a call repairs first where no agent can run.
REPAIR_IN_PASSING = 10

#: Seconds that an open breaker whose time is up waits for a caller before the agent tries.
PATIENCE = 1.0


def _is_refused(error: Exception, operation: Callable[..., Outcome]) -> bool:
    """Whether the layer will never make this call of a repair: it was told why, as a caller is.

    Not so what ends the caller in whose passing it repairs, or that one's transaction.
    """
    return classify(error, operation.__name__) in (ErrorClass.CALLER_ERROR, ErrorClass.SERVER_REPLY)


class Layer(Guard):
    """What this process knows of one alias, and the one way for a chain to call it."""

    __slots__ = ("_recorder", "ledger")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._recorder = Recorder(self.alias, self._clock)
        self.ledger = self._recorder.ledger

    def execute(
        self, backend: BaseCache | None, operation: Callable[..., Outcome], args: tuple[Any, ...]
    ) -> Outcome:
        """Make one call for a chain; see `Guard.attempt`.

        What the ledger holds is a miss; a change that is not confirmed enters the ledger.
        """
        mark = self.ledger.mark
        if not self.ledger.trusted:
            answer, args = self._answer(operation, args)
            if answer is not None:
                return answer
        if operation not in effects.CHANGES:
            if operation is operations.missed:
                self._recorder.missed(*args)
                return Outcome(Kind.DONE)
            return self.attempt(backend, operation, args)
        try:
            return self._noted(operation, args, self.attempt(backend, operation, args), mark)
        except BaseException as error:  # cancelled, interrupted: the change may be made or not
            self._ended_early(error, operation, args)
            raise

    async def aexecute(self, operation: Callable[..., Outcome], args: tuple[Any, ...]) -> Outcome:
        """As `execute`, while the event loop goes on; for a layer that is not called in place."""
        if operation is operations.missed:
            return self.execute(None, operation, args)
        if isinstance(self._awaited, OrmThread):
            return await self._execute_with_the_orm(self._awaited, operation, args)
        mark = self.ledger.mark
        if not self.ledger.trusted:
            answer, args = self._answer(operation, args, in_passing=False)
            if answer is not None:
                return answer
        if operation not in effects.CHANGES:
            return await self.aattempt(operation, args)
        try:
            return self._noted(operation, args, await self.aattempt(operation, args), mark)
        except BaseException as error:  # as above
            self._ended_early(error, operation, args)
            raise

    async def _execute_with_the_orm(
        self, orm: OrmThread, operation: Callable[..., Outcome], args: tuple[Any, ...]
    ) -> Outcome:
        """Have `execute` run where the transactions are that the call and its notes depend on."""
        call = operation, args
        try:
            return await orm.acall(self.execute, call, None, trial=False)
        except (asyncio.CancelledError, GeneratorExit) as end:
            if operation in effects.CHANGES:
                self._ended_early(end, operation, args, call)
            raise

    def repair(self, most: int = REPAIR_BATCH) -> bool:
        """Make up for what was missed, up to `most` keys; return whether more can be done now.

        Deletes only: to set again what was missed could overwrite something newer.
        """
        if self.ledger.clear_due and not self._repair_clear():
            return False
        due = self.ledger.due(most)
        batches: dict[Hashable, list[Due]] = {}
        for name, missed in due:
            # Any version that a key can be made with: it need not be hashable.
            like = (type(missed.version), str(missed.version))
            batches.setdefault(like, []).append((name, missed))
        if not all(self._repair_batch(batch) for batch in batches.values()):
            return False
        return bool(due) and not self.ledger.trusted

    def tend(self) -> float | None:
        """Do what the agent can for this layer; return the seconds until it should come again."""
        wait = self.breaker.retry_after
        if wait:
            self.ledger.expire()
            return None if wait == inf else wait
        if self.ledger.trusted:
            again = None
        elif self.repair():
            return REPAIR_PAUSE
        else:
            again = PATIENCE
        if self.breaker.state in (State.OPEN, State.HALF_OPEN):
            again = self._try_when_idle()
        return again

    def after_fork(self) -> None:
        """Keep what is known, let go of what belongs to the parent."""
        super().after_fork()
        self.ledger.after_fork()

    def snapshot(self) -> dict[str, Any]:
        """Return the state and the counters as plain values, fit for JSON; times in seconds.

        `retry_after`: None where no trial is to come; `suspect_seconds`: None where no end is
        known.
        """
        seconds = self.ledger.suspect_seconds
        return {
            **super().snapshot(),
            "missed": len(self.ledger),
            "suspect": self.ledger.suspect,
            "suspect_seconds": None if seconds == inf else seconds,
        }

    def _noted(
        self, operation: Callable[..., Outcome], args: tuple[Any, ...], outcome: Outcome, mark: int
    ) -> Outcome:
        """Keep the books of a change that began at `mark`; return what its outcome means."""
        kind = outcome.kind
        if kind is Kind.DONE:
            self._recorder.lives(operation, args)
            return self._recorder.confirmed(operation, args, outcome, mark)
        if kind is not Kind.REJECTED and outcome.made:
            self._recorder.lives(operation, args)
            self._recorder.unconfirmed(operation, args, outcome.abandoned)
        elif operation not in effects.BACKFILLS and operation not in effects.DECISIONS:
            self._recorder.missed(operation, args)
        return outcome

    def _ended_early(
        self,
        error: BaseException,
        operation: Callable[..., Outcome],
        args: tuple[Any, ...],
        given: tuple[Any, ...] | None = None,
    ) -> None:
        """Keep the books of a change that raised `error`; `given`: what its limit was, if not `args`."""
        self._recorder.lives(operation, args)
        if interrupts(error):  # else the caller's own mistake, or an answer in this form
            self._recorder.unconfirmed(operation, args, abandoned_by(error, given or args))

    def _answer(
        self,
        operation: Callable[..., Outcome],
        args: tuple[Any, ...],
        *,
        in_passing: bool = True,
    ) -> tuple[Outcome | None, tuple[Any, ...]]:
        """Return the answer where the layer is not to be asked, else what to ask it.

        `in_passing`: whether a repair may be made on the way, where no agent can run.
        """
        background.ensure_running()
        if operation is operations.missed:  # its caller is about to end, and waits for nothing
            return None, args
        if in_passing and background.cannot_run:
            self._repair_in_passing(operation, args)
        if self._away():  # comes before what it would not be asked for
            if operation in effects.ASKING:
                self.rejected += 1
                return REJECTED, args
            if operation in effects.REPLACING:
                self.rejected += 1
                self._recorder.missed(operation, args)
                return REJECTED, args
        return self._recorder.answer(operation, args)

    def _away(self) -> bool:
        breaker = self.breaker
        return breaker.is_rejecting or breaker.state is State.FORCED_OPEN

    def _repair_in_passing(self, operation: Callable[..., Outcome], args: tuple[Any, ...]) -> None:
        """Repair a little before this call, which is missed if its caller is ended meanwhile."""
        try:
            self.repair(REPAIR_IN_PASSING)
        except BaseException:  # the caller ends here, and its change is never asked for
            if operation in effects.REPLACING or operation is operations.clear:
                self._recorder.missed(operation, args)
            raise

    def _repair_clear(self) -> bool:
        call = object()
        mark = self.ledger.repairing_clear(call)
        if not mark:
            return True
        try:
            outcome = self._make_up(call, operations.clear, ())
        except Exception as error:
            if not _is_refused(error, operations.clear):
                raise
            # The layer cannot clear: nothing will make it.
            self._telemetry.unrepaired(error)
            self.ledger.give_up_clear(mark)
            return True
        if outcome.kind is not Kind.DONE:
            return False
        self._recorder.once_committed(lambda: self.ledger.cleared(mark))
        return True

    def _repair_batch(self, batch: list[Due]) -> bool:
        """Delete these, all of one version, in one call; return whether the layer could be asked."""
        call = object()
        batch = self.ledger.repairing(batch, call)
        if not batch:
            return True
        keys = [missed.key for _, missed in batch]
        try:
            outcome = self._make_up(call, operations.delete_many, (keys, batch[0][1].version))
        except Exception as error:
            if not _is_refused(error, operations.delete_many):
                raise
            # A key that the layer does not take.
            if len(batch) > 1:
                return all(self._repair_batch([entry]) for entry in batch)
            self._telemetry.unrepaired(error)
            self.ledger.repaired(batch)  # and so has nothing under
            return True
        if outcome.kind is not Kind.DONE:
            return False
        self._recorder.once_committed(lambda: self.ledger.repaired(batch))
        return True

    def _make_up(
        self, call: object, operation: Callable[..., Outcome], args: tuple[Any, ...]
    ) -> Outcome:
        """Make a call of the repair, which the ledger knows as `call` and expects.

        For as long as it is under way nothing is decided on its keys: it could still delete them.
        """
        try:
            outcome = self.attempt(None, operation, args)
        except BaseException as error:  # the ledger has to know how the call ended
            self._recorder.wait_for_repair(abandoned_by(error), call)
            raise
        self._recorder.wait_for_repair(outcome.abandoned, call)
        return outcome

    def _try_when_idle(self) -> float:
        """Make the trial that no caller makes, so that an idle process closes its breaker too."""
        waited = self.breaker.overdue
        if waited < PATIENCE:
            return PATIENCE - waited
        self.attempt(None, operations.has_key, ("resilient-cache-trial", None))
        return PATIENCE
