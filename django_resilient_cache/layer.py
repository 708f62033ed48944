"""One alias in this process: the guard makes the call, the ledger remembers what was missed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import inf
from typing import Any, TypeAlias

from django.core.cache import BaseCache

from django_resilient_cache import changes, operations
from django_resilient_cache.agent import agent
from django_resilient_cache.bookkeeper import Bookkeeper
from django_resilient_cache.guard import Guard
from django_resilient_cache.ledger import Missed
from django_resilient_cache.limits import abandoned_by
from django_resilient_cache.outcome import REJECTED, Kind, Outcome
from django_resilient_cache.states import State

#: Keys that one batch of a repair deletes, and seconds between two batches.
REPAIR_BATCH = 100
REPAIR_PAUSE = 0.02

#: Keys that a call repairs first where no agent can run.
REPAIR_IN_PASSING = 10

#: Seconds that an open breaker whose time is up waits for a caller before the agent tries.
PATIENCE = 1.0

Due: TypeAlias = list[tuple[Hashable, Missed]]


class Layer(Guard):
    """What this process knows of one alias, and the one way for a chain to call it."""

    __slots__ = ("_books", "ledger")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._books = Bookkeeper(self.alias, self._clock)
        self.ledger = self._books.ledger

    def execute(
        self, raw: BaseCache | None, operation: Callable[..., Outcome], args: tuple[Any, ...]
    ) -> Outcome:
        """Make one call for a chain; see `Guard.attempt`.

        What the ledger holds is a miss; a change that is not confirmed enters the ledger.
        """
        mark = self.ledger.mark
        if not self.ledger.trusted:
            answer, args = self._answer(operation, args)
            if answer is not None:
                return answer
        if operation not in changes.CHANGES:
            if operation is operations.missed:
                self._books.missed(*args)
                return Outcome(Kind.DONE)
            return self.attempt(raw, operation, args)
        try:
            outcome = self.attempt(raw, operation, args)
        except Exception:
            self._books.lives(operation, args)
            raise  # the caller's own mistake, or an answer in this form
        except BaseException as interruption:
            self._books.lives(operation, args)
            self._books.unconfirmed(operation, args, abandoned_by(interruption))
            raise
        kind = outcome.kind
        if kind is Kind.DONE:
            self._books.lives(operation, args)
            self._books.confirmed(operation, args, outcome, mark)
        elif kind is not Kind.REJECTED:
            self._books.lives(operation, args)
            self._books.unconfirmed(operation, args, outcome.abandoned)
        elif operation not in changes.BACKFILLS and operation not in changes.DECISIONS:
            self._books.missed(operation, args)
        return outcome

    def repair(self, most: int = REPAIR_BATCH) -> bool:
        """Make up for what was missed, up to `most` keys; return whether more can be done now.

        Deletes only: to set again what was missed could overwrite something newer.
        """
        if self.ledger.clear_due and not self._repair_clear():
            return False
        due = self.ledger.due(most)
        batches: dict[Hashable, Due] = {}
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
        """Return the state and the counters as plain values; times in seconds."""
        return {
            **super().snapshot(),
            "missed": len(self.ledger),
            "suspect_seconds": self.ledger.suspect_seconds,
        }

    def _answer(
        self, operation: Callable[..., Outcome], args: tuple[Any, ...]
    ) -> tuple[Outcome | None, tuple[Any, ...]]:
        """Return the answer where the layer is not to be asked, else what to ask it."""
        agent.attend()
        if agent.stalled:
            self.repair(REPAIR_IN_PASSING)
        if self._away():  # comes before what it would not be asked for
            if operation in changes.ASKING:
                self.rejected += 1
                return REJECTED, args
            if operation in changes.REPLACING:
                self.rejected += 1
                self._books.missed(operation, args)
                return REJECTED, args
        return self._books.answer(operation, args)

    def _away(self) -> bool:
        breaker = self.breaker
        return breaker.refuses or breaker.state is State.FORCED_OPEN

    def _repair_clear(self) -> bool:
        mark = self.ledger.mark
        self.ledger.begin()
        try:
            outcome = self.attempt(None, operations.clear, ())
        except Exception as error:  # noqa: BLE001 - the layer cannot clear: nothing will make it
            self._reports.unrepaired(error)
            self.ledger.give_up_clear(mark)
            return True
        if outcome.abandoned is not None:
            self.ledger.expect_clear(outcome.abandoned)
            self._books.wait([], outcome.abandoned)
        if outcome.kind is not Kind.DONE:
            return False
        self.ledger.cleared(mark)
        return True

    def _repair_batch(self, batch: Due) -> bool:
        """Delete these, all of one version, in one call; return whether the layer could be asked.

        While the call is under way its keys are late: it could still delete what comes after.
        """
        names = [name for name, _ in batch]
        keys = [missed.key for _, missed in batch]
        call: Any = object()
        self.ledger.expect(((name, missed.key, missed.version) for name, missed in batch), call)
        try:
            outcome = self.attempt(None, operations.delete_many, (keys, batch[0][1].version))
        except Exception as error:  # noqa: BLE001 - a key that the layer does not take
            self.ledger.landed(names, call)
            if len(batch) > 1:
                return all(self._repair_batch([entry]) for entry in batch)
            self._reports.unrepaired(error)
            self.ledger.repaired(batch)  # and so has nothing under
            return True
        except BaseException as interruption:
            self._late_or_landed(names, call, abandoned_by(interruption))
            raise
        self._late_or_landed(names, call, outcome.abandoned)
        if outcome.kind is not Kind.DONE:
            return False
        self.ledger.repaired(batch)
        return True

    def _late_or_landed(self, names: list[Hashable], call: object, abandoned: Any) -> None:
        if abandoned is None:
            self.ledger.landed(names, call)
        else:
            self._books.wait(names, abandoned, call)

    def _try_when_idle(self) -> float:
        """Make the trial that no caller makes, so that an idle process closes its breaker too."""
        waited = self.breaker.overdue
        if waited < PATIENCE:
            return PATIENCE - waited
        self.attempt(None, operations.has_key, ("resilient-cache-trial", None))
        return PATIENCE
