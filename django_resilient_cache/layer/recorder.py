"""What an operation means for the ledger of its alias: what it may ask, what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any

from django.core.cache import BaseCache
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.db import connections, router

from django_resilient_cache.adapters import effects, operations, remaining_ttl
from django_resilient_cache.adapters.instances import private_instance
from django_resilient_cache.adapters.outcome import MISS, Kind, Outcome
from django_resilient_cache.concurrency.background import background
from django_resilient_cache.exceptions import ResilientCacheError
from django_resilient_cache.layer.abandoned_calls import Entry
from django_resilient_cache.layer.missed_changes import MissedChanges

_READS_ONE = frozenset({operations.get, operations.has_key, remaining_ttl.get_with_ttl})
_READS_MANY = frozenset({operations.get_many, remaining_ttl.get_many_with_ttl})


class Recorder:
    """Keeps the ledger of one alias: which operations it answers, which enter it and leave it."""

    __slots__ = ("_alias", "_default", "_longest", "_template", "ledger")

    def __init__(self, alias: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._alias = alias
        self._template: BaseCache | None = None
        #: The alias's own timeout in seconds, once it has been asked for; None: for ever.
        self._default: float | None = -1.0
        #: The longest timeout in seconds written here by this process; None: for ever.
        self._longest: float | None = 0.0
        self.ledger = MissedChanges(self._lifetime, clock)

    def answer(
        self, operation: Callable[..., Outcome], args: tuple[Any, ...]
    ) -> tuple[Outcome | None, tuple[Any, ...]]:
        """Return the answer where the layer is not to be asked, else what to ask it."""
        holds = self._holds
        if operation in _READS_ONE:
            return (MISS if holds(args[0], args[-1]) else None), args
        if operation in effects.DECISIONS:
            undecided = self._is_undecided(args)
            return (self._undecided(args[0], Kind.REJECTED) if undecided else None), args
        if operation in _READS_MANY:
            keys = [key for key in args[0] if not holds(key, args[-1])]
            if not keys:
                empty: Any = {} if operation is operations.get_many else ({}, {})
                return Outcome(Kind.DONE, empty), args
            return None, (keys, args[-1])
        if operation in effects.BACKFILLS:
            entries = [entry for entry in args[0] if not holds(entry[0], args[-1])]
            return (None if entries else Outcome(Kind.DONE)), (entries, args[-1])
        if operation is operations.clear:
            self.ledger.begin()
        else:
            self.ledger.begin(name for name, _, _ in self.entries(operation, args))
        return None, args

    def confirmed(
        self, operation: Callable[..., Outcome], args: tuple[Any, ...], outcome: Outcome, mark: int
    ) -> Outcome:
        """Take back the notes from before this change, which began at `mark` and got through.

        Return what it means: what was decided on a key that was missed meanwhile was decided for
        nothing, since the repair will delete it.
        """
        refused = outcome.value if operation is operations.set_many else ()
        if refused:
            self.missed(operations.delete_many, (list(refused), args[-1]))
        if self.ledger.trusted:
            return outcome
        if operation is operations.clear:
            self.once_committed(lambda: self.ledger.cleared(mark))
        elif operation in effects.REPLACING:
            names = [name for name, _, _ in self.entries(operation, args)]
            self.once_committed(lambda: self.ledger.reached(names, mark))
        elif operation in effects.DECISIONS and self._is_undecided(args):
            return self._undecided(args[0], Kind.FAILED)
        return outcome

    def unconfirmed(
        self, operation: Callable[..., Outcome], args: tuple[Any, ...], abandoned: Any
    ) -> None:
        """Note a change that was asked for and may or may not be made."""
        if operation not in effects.DECISIONS:
            self.missed(operation, args, abandoned, unsure=abandoned is None)
        elif abandoned is not None:
            self.ledger.expect(self.entries(operation, args), abandoned)
            self.wait(abandoned)

    def missed(
        self,
        operation: Callable[..., Outcome],
        args: tuple[Any, ...],
        abandoned: Any = None,
        *,
        unsure: bool = False,
    ) -> None:
        """Note that the layer did not confirm this change; see `MissedChanges.note`."""
        if operation is operations.clear:
            first = self.ledger.note_clear(abandoned)
        else:
            entries = self.entries(operation, args)
            first = self.ledger.note(entries, abandoned, unsure=unsure)
        self.wait(abandoned)
        if first:  # else it comes back of its own accord
            background.wake()
        else:
            background.ensure_running()

    def wait(self, abandoned: Any) -> None:
        """Tell the ledger when an abandoned call has ended."""

        def ended() -> None:
            self.ledger.landed(abandoned)
            background.wake()

        if abandoned is not None:
            self._lifetime()
            abandoned.when_ended(ended)

    def wait_for_repair(self, abandoned: Any, call: object) -> None:
        """Tell the ledger when what it knows as `call` has ended: now, unless it was abandoned."""

        def ended() -> None:
            self.ledger.landed(call, deleted=True)
            background.wake()

        if abandoned is None:
            self.ledger.landed(call, deleted=True)
        else:
            abandoned.when_ended(ended)

    def lives(self, operation: Callable[..., Outcome], args: tuple[Any, ...]) -> None:
        """Keep the longest timeout that this process may have written here."""
        if self._longest is None:
            return
        for timeout in effects.timeouts(operation, args):
            if timeout is DEFAULT_TIMEOUT:
                continue
            seconds = timeout if isinstance(timeout, int | float) else _seconds(timeout)
            if seconds is None:
                self._longest = None
                return
            self._longest = max(self._longest, seconds)

    def entries(self, operation: Callable[..., Outcome], args: tuple[Any, ...]) -> list[Entry]:
        """Return what this call changes."""
        version = args[-1]
        keys = effects.changed_keys(operation, args)
        return [(self._name(key, version), key, version) for key in keys]

    def once_committed(self, take_back: Callable[[], None]) -> None:
        """Take notes back now, or when the transaction is committed that the change was made in.

        A rollback brings back what the database had before, and so what was to be gone.
        """
        model = getattr(self._instance(), "cache_model_class", None)
        if model is not None:
            connection = connections[router.db_for_write(model)]
            if connection.in_atomic_block:  # the call was made in place, on this connection
                connection.on_commit(take_back)
                return
        take_back()

    def _is_undecided(self, args: tuple[Any, ...]) -> bool:
        return self.ledger.undecided(self._name(args[0], args[-1]))

    def _undecided(self, key: Any, kind: Kind) -> Outcome:
        error = ResilientCacheError(
            f"{self._alias!r} missed a change of {key!r}, which is about to be repaired"
        )
        return Outcome(kind, error=error)

    def _holds(self, key: Any, version: Any) -> bool:
        return self.ledger.holds(self._name(key, version))

    def _lifetime(self) -> float | None:
        if self._default == -1.0:  # asked once: a late call may end after the settings did
            self._default = self._instance().default_timeout
        if self._default is None or self._longest is None:
            return None
        return max(float(self._default), self._longest)

    def _name(self, key: Any, version: Any) -> Hashable:
        return str(self._instance().make_key(key, version=version))

    def _instance(self) -> BaseCache:
        """Return an instance that is only asked for keys and defaults."""
        if self._template is None:
            self._template = private_instance(self._alias)
        return self._template


def _seconds(timeout: Any) -> float | None:
    """Return a timeout that is None, or of a type that a backend may take: a Decimal, say."""
    try:
        return float(timeout)
    except (TypeError, ValueError):
        return None
