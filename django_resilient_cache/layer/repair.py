"""Repair: what a layer missed is made up for as soon as its breaker admits calls.

Missed keys are deleted, never set: to set again what was missed could overwrite something newer.
The background thread repairs; where none can run, each call repairs a little before its own.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import inf

from django_resilient_cache.adapters.commands import Clear, Command, DeleteMany, HasKey
from django_resilient_cache.adapters.error_classification import ErrorClass, classify
from django_resilient_cache.adapters.outcome import Kind, Outcome
from django_resilient_cache.breaker.states import State
from django_resilient_cache.layer.guard import Guard
from django_resilient_cache.layer.missed_changes import Pending
from django_resilient_cache.layer.recorder import Recorder
from django_resilient_cache.layer.telemetry import Telemetry

#: Keys that one batch deletes, and seconds between two batches.  While a batch is put together (half
#: a millisecond and two microseconds a key) the process's other threads wait for the interpreter:
#: with pauses this long they do so in far fewer than one read in a hundred.
BATCH = 250
PAUSE = 1.0

#: Keys that a call repairs first where no background thread can run.
IN_PASSING = 10

#: Seconds that an open breaker whose time is up waits for a caller before this process tries.
PATIENCE = 1.0


class Repair:
    """Makes up for what one layer missed."""

    __slots__ = ("_breaker", "_guard", "_missed", "_recorder", "_telemetry")

    def __init__(self, guard: Guard, recorder: Recorder, telemetry: Telemetry) -> None:
        self._guard = guard
        self._breaker = guard.breaker
        self._recorder = recorder
        self._missed = recorder.missed_changes
        self._telemetry = telemetry

    def run(self, most: int = BATCH) -> bool:
        """Make up for up to `most` keys; return whether more can be done now."""
        if self._missed.clear_pending and not self._clear():
            return False
        pending = self._missed.pending(most)
        batches: dict[Hashable, list[Pending]] = {}
        for name, change in pending:
            # Any version that a key can be made with: it need not be hashable.
            like = (type(change.version), str(change.version))
            batches.setdefault(like, []).append((name, change))
        if not all(self._delete(batch) for batch in batches.values()):
            return False
        return bool(pending) and not self._missed.in_sync

    def tend(self) -> float | None:
        """Repair, and make the trial that no caller makes.

        Return the seconds until there may be more to do; None: not before a caller wakes the thread.
        """
        wait = self._breaker.retry_after
        if wait:
            self._missed.expire()
            return None if wait == inf else wait
        if self._missed.in_sync:
            again = None
        elif self.run():
            return PAUSE
        else:
            again = PATIENCE
        if self._breaker.state in (State.OPEN, State.HALF_OPEN):
            again = self._try_when_idle()
        return again

    def _try_when_idle(self) -> float:
        """Make the trial that no caller makes, so that an idle process closes its breaker too."""
        waited = self._breaker.overdue
        if waited < PATIENCE:
            return PATIENCE - waited
        self._guard.attempt(None, HasKey("resilient-cache-trial", None))
        return PATIENCE

    def _clear(self) -> bool:
        """Make up for a missed clear(); return whether the layer could be asked."""
        call = object()
        sequence = self._missed.start_repairing_clear(call)
        if not sequence:
            return True
        command = Clear()
        try:
            outcome = self._make_up(call, command)
        except Exception as error:
            if not _is_refused(error, command):
                raise
            # The layer cannot clear: nothing will make it.
            self._telemetry.unrepaired(error)
            self._missed.give_up_clear(sequence)
            return True
        if outcome.kind is not Kind.DONE:
            return False
        self._recorder.once_committed(lambda: self._missed.cleared(sequence))
        return True

    def _delete(self, batch: list[Pending]) -> bool:
        """Delete these, all of one version, in one call; return whether the layer could be asked."""
        call = object()
        batch = self._missed.start_repairing(batch, call)
        if not batch:
            return True
        command = DeleteMany([change.key for _, change in batch], batch[0][1].version)
        try:
            outcome = self._make_up(call, command)
        except Exception as error:
            if not _is_refused(error, command):
                raise
            # A key that the layer does not take.
            if len(batch) > 1:
                return all(self._delete([entry]) for entry in batch)
            self._telemetry.unrepaired(error)
            self._missed.repaired(batch)  # and so has nothing under
            return True
        if outcome.kind is not Kind.DONE:
            return False
        self._recorder.once_committed(lambda: self._missed.repaired(batch))
        return True

    def _make_up(self, call: object, command: Command) -> Outcome:
        """Make a call of the repair, which the ledger knows as `call` and expects.

        For as long as it is under way nothing is decided on its keys: it could still delete them.
        """
        try:
            return self._guard.attempt(None, command)
        finally:  # the ledger has to know how the call ended
            self._recorder.wait_for_repair(command.abandoned, call)


def _is_refused(error: Exception, command: Command) -> bool:
    """Whether the layer will never make this call of a repair: it was told why, as a caller is.

    Not so what ends the caller in whose passing it repairs, or that one's transaction.
    """
    return classify(error, command.name) in (ErrorClass.CALLER_ERROR, ErrorClass.SERVER_REPLY)
