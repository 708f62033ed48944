"""What a command means for the ledger of its layer: what it may ask, what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any

from django.core.cache import BaseCache
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.db import connections, router

from django_resilient_cache.adapters.commands import (
    Backfill,
    Change,
    Clear,
    Command,
    Decision,
    DeleteMany,
    Read,
    ReadMany,
    Replacement,
    SetMany,
)
from django_resilient_cache.adapters.instances import private_instance
from django_resilient_cache.adapters.outcome import MISS, Kind, Outcome
from django_resilient_cache.concurrency.background import background
from django_resilient_cache.exceptions import ResilientCacheError
from django_resilient_cache.layer.abandoned_calls import Entry
from django_resilient_cache.layer.missed_changes import MissedChanges
from django_resilient_cache.timeouts.time_limit import Abandoned


class Recorder:
    """Keeps the ledger of one alias: which commands it answers, which enter it and leave it."""

    __slots__ = ("_alias", "_default", "_longest", "_template", "missed_changes")

    def __init__(self, alias: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._alias = alias
        self._template: BaseCache | None = None
        #: The alias's own timeout in seconds, once it has been asked for; None: for ever.
        self._default: float | None = -1.0
        #: The longest timeout in seconds written here by this process; None: for ever.
        self._longest: float | None = 0.0
        self.missed_changes = MissedChanges(self._lifetime, clock)

    # Before a call, where the layer is not in sync

    def before(self, command: Command) -> tuple[Outcome | None, Command]:
        """Return the answer where the layer is not to be asked, else what to ask it."""
        is_stale = self._is_stale
        version = command.version
        match command:
            case Read():
                return (MISS if is_stale(command.key, version) else None), command
            case ReadMany():
                keys = [key for key in command.keys if not is_stale(key, version)]
                return (None if keys else command.nothing()), type(command)(keys, version)
            case Decision():
                in_doubt = self._is_in_doubt(command)
                return (self._undecided(command, Kind.REJECTED) if in_doubt else None), command
            case Backfill():
                entries = [entry for entry in command.entries if not is_stale(entry[0], version)]
                rest = Backfill(entries, version, only_free=command.only_free)
                return (None if entries else Outcome(Kind.DONE)), rest
            case Clear():
                self.missed_changes.begin()
            case Change():
                self.missed_changes.begin(name for name, _, _ in self._entries(command))
        return None, command

    # After a call

    def confirmed(self, command: Command, outcome: Outcome, sequence: int) -> Outcome:
        """Take back the notes from before this change, which began at `sequence` and got through.

        Return what it means: what was decided on a key that was missed meanwhile was decided for
        nothing, since the repair will delete it.
        """
        if isinstance(command, SetMany) and outcome.value:
            self.missed(DeleteMany(list(outcome.value), command.version))
        if self.missed_changes.in_sync:
            return outcome
        match command:
            case Clear():
                self.once_committed(lambda: self.missed_changes.cleared(sequence))
            case Replacement():
                names = [name for name, _, _ in self._entries(command)]
                self.once_committed(lambda: self.missed_changes.confirmed(names, sequence))
            case Decision() if self._is_in_doubt(command):
                return self._undecided(command, Kind.FAILED)
        return outcome

    def unconfirmed(self, command: Command) -> None:
        """Note a change that was asked for and may or may not be made."""
        abandoned = command.abandoned
        if not isinstance(command, Decision):
            self.missed(command, unsure=abandoned is None)
        elif abandoned is not None:
            self.missed_changes.expect(self._entries(command), abandoned)
            self._wait(abandoned)

    def missed(self, command: Command, *, unsure: bool = False) -> None:
        """Note that the layer did not confirm this change; see `MissedChanges.record`."""
        abandoned = command.abandoned
        if isinstance(command, Clear):
            first = self.missed_changes.record_clear(abandoned)
        else:
            first = self.missed_changes.record(self._entries(command), abandoned, unsure=unsure)
        self._wait(abandoned)
        if first:  # else it comes back of its own accord
            background.wake()
        else:
            background.ensure_running()

    def wait_for_repair(self, abandoned: Abandoned | None, call: object) -> None:
        """Tell the ledger when what it knows as `call` has ended: now, unless it was abandoned."""

        def ended() -> None:
            self.missed_changes.call_ended(call, deleted=True)
            background.wake()

        if abandoned is None:
            self.missed_changes.call_ended(call, deleted=True)
        else:
            abandoned.when_ended(ended)

    def note_lifetime(self, command: Command) -> None:
        """Keep the longest timeout that this process may have written here."""
        if self._longest is None or not isinstance(command, Change):
            return
        for timeout in command.timeouts():
            if timeout is DEFAULT_TIMEOUT:
                continue
            seconds = timeout if isinstance(timeout, int | float) else _seconds(timeout)
            if seconds is None:
                self._longest = None
                return
            self._longest = max(self._longest, seconds)

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

    def _wait(self, abandoned: Abandoned | None) -> None:
        """Tell the ledger when an abandoned call has ended."""

        def ended() -> None:
            self.missed_changes.call_ended(abandoned)
            background.wake()

        if abandoned is not None:
            self._lifetime()
            abandoned.when_ended(ended)

    def _undecided(self, command: Decision, kind: Kind) -> Outcome:
        error = ResilientCacheError(
            f"{self._alias!r} missed a change of {command.key!r}, which is about to be repaired"
        )
        return Outcome(kind, error=error)

    # Keys as the layer stores them

    def _entries(self, command: Command) -> list[Entry]:
        """Return what this command changes."""
        if not isinstance(command, Change):
            return []
        version = command.version
        return [(self._name(key, version), key, version) for key in command.changed_keys()]

    def _is_in_doubt(self, command: Decision) -> bool:
        return self.missed_changes.in_doubt(self._name(command.key, command.version))

    def _is_stale(self, key: Any, version: Any) -> bool:
        return self.missed_changes.is_stale(self._name(key, version))

    def _name(self, key: Any, version: Any) -> Hashable:
        return str(self._instance().make_key(key, version=version))

    def _lifetime(self) -> float | None:
        if self._default == -1.0:  # asked once: a late call may end after the settings did
            self._default = self._instance().default_timeout
        if self._default is None or self._longest is None:
            return None
        return max(float(self._default), self._longest)

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
