"""One alias in this process: the guard makes the calls, the recorder remembers what it missed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import Any

from django.core.cache import BaseCache

from django_resilient_cache import conf
from django_resilient_cache.adapters.commands import (
    Clear,
    Command,
    Decision,
    Read,
    ReadMany,
    Replacement,
)
from django_resilient_cache.adapters.outcome import REJECTED, Kind, Outcome
from django_resilient_cache.breaker.states import State
from django_resilient_cache.concurrency.background import background
from django_resilient_cache.concurrency.interruption import interrupts
from django_resilient_cache.conf import LayerConfig
from django_resilient_cache.layer.guard import Guard
from django_resilient_cache.layer.recorder import Recorder
from django_resilient_cache.layer.repair import BATCH, IN_PASSING, Repair
from django_resilient_cache.layer.telemetry import Telemetry
from django_resilient_cache.timeouts.from_event_loop import OrmThread
from django_resilient_cache.timeouts.time_limit import Abandoned

#: What asks the layer for its word.  Without one there is no answer, whatever the ledger holds.
_ASKING = (Read, ReadMany, Decision)


class Layer:
    """What this process knows of one alias, and the one way for a chain to call it."""

    __slots__ = (
        "_recorder",
        "_repair",
        "_telemetry",
        "alias",
        "breaker",
        "config",
        "guard",
        "missed_changes",
        "nearest",
    )

    def __init__(
        self,
        config: LayerConfig,
        guard: Guard,
        telemetry: Telemetry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.alias = config.alias
        self.config = config
        #: Whether it is the nearest layer of some chain, and so speaks to callers of their keys.
        self.nearest = conf.is_nearest(config.alias)
        self.guard = guard
        self.breaker = guard.breaker
        self._telemetry = telemetry
        self._recorder = Recorder(config.alias, clock)
        self.missed_changes = self._recorder.missed_changes
        self._repair = Repair(guard, self._recorder, telemetry)

    # Calls

    def execute(self, backend: BaseCache | None, command: Command) -> Outcome:
        """Make one call for a chain; see `Guard.attempt`.

        The layer has no answer for a key in the ledger; a change that is not confirmed enters it.
        """
        sequence = self.missed_changes.sequence
        if not self.missed_changes.in_sync:
            outcome, command = self._before(command)
            if outcome is not None:
                return outcome
        if not command.changes:
            return self.guard.attempt(backend, command)
        try:
            return self._recorded(command, self.guard.attempt(backend, command), sequence)
        except BaseException as error:  # cancelled, interrupted: the change may be made or not
            self._ended_early(error, command)
            raise

    async def aexecute(self, command: Command) -> Outcome:
        """As `execute`, while the event loop goes on; for a layer that is not called in place."""
        if isinstance(self.guard.awaited, OrmThread):
            return await self._execute_in_orm_thread(self.guard.awaited, command)
        sequence = self.missed_changes.sequence
        if not self.missed_changes.in_sync:
            outcome, command = self._before(command, in_passing=False)
            if outcome is not None:
                return outcome
        if not command.changes:
            return await self.guard.aattempt(command)
        try:
            return self._recorded(command, await self.guard.aattempt(command), sequence)
        except BaseException as error:  # as above
            self._ended_early(error, command)
            raise

    def miss(self, command: Command) -> None:
        """Note a change that is not made, because its caller is about to end."""
        self._recorder.missed(command)

    async def _execute_in_orm_thread(self, orm: OrmThread, command: Command) -> Outcome:
        """Have `execute` run where the transactions are that the call and its notes depend on."""
        execution = _Execution(self, command)
        try:
            return await orm.acall(execution, None, trial=False)
        except (asyncio.CancelledError, GeneratorExit) as end:
            if command.changes:
                command.abandoned = execution.abandoned
                self._ended_early(end, command)
            raise

    # What the ledger has to do with a call

    def _before(
        self, command: Command, *, in_passing: bool = True
    ) -> tuple[Outcome | None, Command]:
        """Return the answer where the layer is not to be asked, else what to ask it.

        `in_passing`: whether a repair may be made on the way, where no background thread can run.
        """
        background.ensure_running()
        if in_passing and background.cannot_run:
            self._repair_in_passing(command)
        if self._is_away():  # comes before what it would not be asked for
            if isinstance(command, _ASKING):
                self.guard.counters.rejected += 1
                return REJECTED, command
            if isinstance(command, Replacement):
                self.guard.counters.rejected += 1
                self._recorder.missed(command)
                return REJECTED, command
        return self._recorder.before(command)

    def _is_away(self) -> bool:
        breaker = self.breaker
        return breaker.is_rejecting or breaker.state is State.FORCED_OPEN

    def _repair_in_passing(self, command: Command) -> None:
        """Repair a little before this call, which is missed if its caller is ended meanwhile."""
        try:
            self.repair(IN_PASSING)
        except BaseException:  # the caller ends here, and its change is never asked for
            if isinstance(command, Replacement | Clear):
                self._recorder.missed(command)
            raise

    def _recorded(self, command: Command, outcome: Outcome, sequence: int) -> Outcome:
        """Record a change that began at `sequence`; return what its outcome means."""
        kind = outcome.kind
        if kind is Kind.DONE:
            self._recorder.note_lifetime(command)
            return self._recorder.confirmed(command, outcome, sequence)
        if kind is not Kind.REJECTED and outcome.attempted:
            self._recorder.note_lifetime(command)
            self._recorder.unconfirmed(command)
        elif isinstance(command, Replacement | Clear):
            self._recorder.missed(command)
        return outcome

    def _ended_early(self, error: BaseException, command: Command) -> None:
        """Record a change that raised `error`."""
        self._recorder.note_lifetime(command)
        if interrupts(error):  # else the caller's own mistake, or an answer in this form
            self._recorder.unconfirmed(command)

    # Coming back

    def repair(self, most: int = BATCH) -> bool:
        """Make up for what was missed; see `Repair.run`."""
        return self._repair.run(most)

    def tend(self) -> float | None:
        """Do what the background thread can for this layer; see `Repair.tend`."""
        return self._repair.tend()

    # Around calls

    def refusal(self) -> Exception:
        """Return the error that stands for a rejected call."""
        return self.guard.refusal()

    def close(self) -> None:
        """Let go of connections and threads."""
        self.guard.close()

    def snapshot(self) -> dict[str, Any]:
        """Return the state and the counters as plain values, fit for JSON; times in seconds.

        `retry_after`: None where no trial is to come; `suspect_seconds`: None where no end is
        known.
        """
        breaker, missed = self.breaker, self.missed_changes
        in_state = breaker.seconds_in_state
        suspect_seconds = missed.suspect_seconds
        return {
            "state": breaker.state.value,
            "strategy": self.guard.strategy,
            "limit": self.config.operation_timeout,
            "seconds_in_state": in_state,
            "since": time.time() - in_state,
            "retry_after": self._until_trial(),
            "last_error": breaker.last_error,
            **self.guard.counters.snapshot(),
            "changes": self._telemetry.changes,
            "missed": len(missed),
            "suspect": missed.suspect,
            "suspect_seconds": None if suspect_seconds == inf else suspect_seconds,
        }

    def _until_trial(self) -> float | None:
        """Return the seconds until a trial may be made; None: none is to come."""
        seconds = self.breaker.retry_after
        waits = self.breaker.state in (State.OPEN, State.HALF_OPEN)
        return seconds if waits and seconds != inf else None


class _Execution:
    """A layer's whole `execute`, as a call that another thread makes."""

    def __init__(self, layer: Layer, command: Command) -> None:
        self._layer = layer
        self._command = command
        self.abandoned: Abandoned | None = None

    def run(self, backend: BaseCache) -> Outcome:
        return self._layer.execute(backend, self._command)
