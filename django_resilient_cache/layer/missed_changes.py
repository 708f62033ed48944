"""What a layer missed: the keys whose change did not reach it, and whether it may be read at all.

A key noted here is neither read from the layer nor backfilled from it until a later change of it
got through, the repair has deleted it there, or nothing older can live there any more.  The memory
is bounded; past the bound the layer as a whole is suspect.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Any, TypeAlias

from django_resilient_cache.concurrency import forks
from django_resilient_cache.layer.abandoned_calls import AbandonedCalls, Entry

#: Keys that one ledger holds; about 20 MB, and only ever in an outage.
CAPACITY = 100_000


@dataclass(slots=True, eq=False)
class Missed:
    """One key that a layer missed.

    Each note is an object of its own: a repair that was under way when the key was missed again
    does not clear the newer note.
    """

    key: Any
    version: Any
    until: float
    """When nothing older can live in the layer any more, on the ledger's clock; infinity where a
    server may hold a call and make it whenever it goes on."""
    sequence: int
    """The ledger's `sequence` when it was made."""


#: A key's name, and its note.
Pending: TypeAlias = tuple[Hashable, Missed]


class MissedChanges:
    """The ledger of one alias in this process.

    Entries are known by the key as the layer stores it.  `lifetime` tells for how many seconds an
    old entry can live in the layer (None: for ever).  Safe under many threads; `in_sync` and
    `sequence` are read without the lock.
    """

    def __init__(
        self,
        lifetime: Callable[[], float | None],
        clock: Callable[[], float] = time.monotonic,
        capacity: int = CAPACITY,
    ) -> None:
        self._lifetime = lifetime
        self._clock = clock
        self._capacity = capacity
        # Re-entrant: a signal handler may use the cache while this very thread holds the lock.
        self._lock = threading.RLock()
        # A dictionary would pass over all that is repaired already to find what comes first.
        self._missed: OrderedDict[Hashable, Missed] = OrderedDict()
        self._abandoned = AbandonedCalls(clock)
        self._suspect_until = 0.0
        #: The sequence of the last key for which there was no room and of a clear() that the layer
        #: missed and that is to be made up for; 0: none.
        self._overflow = 0
        self._missed_clear = 0
        #: The number of the last note.  What takes notes back takes back only those that are not
        #: newer than itself: read it before the call.
        self.sequence = 0
        #: Whether every entry may be read and decided on: nothing is missed, abandoned or suspect.
        self.in_sync = True
        forks.reset_in_child(self._reset_after_fork)

    def __len__(self) -> int:
        return len(self._missed)

    @property
    def suspect(self) -> bool:
        """Whether the layer may not be read at all for now."""
        return bool(self._missed_clear) or self._clock() < self._suspect_until

    @property
    def suspect_seconds(self) -> float:
        """Seconds for which it stays suspect; infinity: until a missed clear() is made up for."""
        if self._missed_clear:
            return inf
        return max(0.0, self._suspect_until - self._clock())

    # What reads and writes ask

    def is_stale(self, name: Hashable) -> bool:
        """Whether what the layer has under this name may be obsolete."""
        return name in self._missed or self.suspect

    def in_doubt(self, name: Hashable) -> bool:
        """Whether what is decided now on this name may be undone by a change from before."""
        return bool(self._abandoned.clears) or self.is_stale(name)

    def record(
        self, entries: Iterable[Entry], call: object | None = None, *, unsure: bool = False
    ) -> bool:
        """Note entries as missed; return whether they are the first in a layer in sync.

        `call`: the change was given up but may still be made, until it has `call_ended`.  `unsure`: it
        may still be made, and nobody will tell.
        """
        with self._lock:
            first = self.in_sync
            self.sequence += 1
            until = inf if unsure else self._until()
            noted = list(entries)
            if call is not None:
                self._abandoned.expect(noted, call)
            for entry in noted:
                self._record_needs_lock(entry, until)
            self._update_in_sync_needs_lock()
        return first

    def record_clear(self, call: object | None = None) -> bool:
        """Note that a clear() was missed: it is to be made, and nothing to be read before."""
        with self._lock:
            first = self.in_sync
            self.sequence += 1
            self._missed_clear = self.sequence
            if call is not None:
                self._abandoned.expect_clear(call)
            self._update_in_sync_needs_lock()
        return first

    def expect(self, entries: Iterable[Entry], call: object) -> None:
        """Note that `call` may change these until it has `call_ended`, though nothing was missed."""
        with self._lock:
            self._abandoned.expect(entries, call)
            self._update_in_sync_needs_lock()

    def expect_clear(self, call: object) -> None:
        """As `expect`, of a call that may clear the layer."""
        with self._lock:
            self._abandoned.expect_clear(call)
            self._update_in_sync_needs_lock()

    def call_ended(self, call: object, *, deleted: bool = False) -> None:
        """Note that `call` has ended; only now can what it may have changed be repaired.

        `deleted`: it can have brought nothing back, so that no key is kept longer for it.
        """
        with self._lock:
            ended = self._abandoned.ended(call)
            if ended is None:
                return
            waited, brought_back = ended
            self.sequence += 1
            until = self._until()
            for name in (*waited, *(entry[0] for entry in brought_back)):
                missed = self._missed.get(name)
                if missed is None:
                    continue
                if not deleted:  # what began before this end does not take it back
                    missed.sequence = self.sequence
                    missed.until = max(missed.until, until)
                self._keep_capacity_needs_lock(name)
            if not deleted:
                for entry in brought_back:
                    if entry[0] not in self._missed:
                        self._record_needs_lock(entry, until)
            self._update_in_sync_needs_lock()

    def begin(self, names: Iterable[Hashable] | None = None) -> None:
        """Note that a change of these begins; None: of all.

        Where an abandoned call may undo it, the key is missed from now on, whatever comes of
        this change.
        """
        with self._lock:
            self.sequence += 1
            until = self._until()
            abandoned = self._abandoned
            changed = (entry[0] for entry in abandoned.entries()) if names is None else names
            for name in changed:
                if name in abandoned and name not in self._missed:
                    self._record_needs_lock(abandoned.entry(name), until)
            self._update_in_sync_needs_lock()

    def confirmed(self, names: Iterable[Hashable], sequence: int) -> None:
        """Note that a change of these got through that began at `sequence`."""
        with self._lock:
            for name in names:
                missed = self._missed.get(name)
                if (
                    missed is not None
                    and missed.sequence <= sequence
                    and name not in self._abandoned
                ):
                    del self._missed[name]
            self._answered_needs_lock()
            self._update_in_sync_needs_lock()

    def cleared(self, sequence: int) -> None:
        """Note that the layer was emptied by a call that began at `sequence`: nothing older is there."""
        with self._lock:
            if self._missed_clear <= sequence:
                self._missed_clear = 0
            if self._overflow <= sequence:
                self._suspect_until = 0.0
            for name, missed in list(self._missed.items()):
                if missed.sequence <= sequence and name not in self._abandoned:
                    del self._missed[name]
            self._update_in_sync_needs_lock()

    # What the repair asks

    @property
    def clear_pending(self) -> bool:
        """Whether a missed clear() is to be made up for."""
        return bool(self._missed_clear)

    def start_repairing_clear(self, call: object) -> int:
        """Expect `call`, which makes up for a missed clear(); return the sequence at which it begins.

        0: none is missed any more, and what was won since must not be cleared.
        """
        with self._lock:
            if not self._missed_clear:
                return 0
            sequence = self.sequence
            self.begin()
            self.expect_clear(call)
        return sequence

    def give_up_clear(self, sequence: int) -> None:
        """Note that a clear() from before `sequence` cannot be made up for: the layer has none."""
        with self._lock:
            if self._missed_clear <= sequence:
                self._missed_clear = 0
            self._update_in_sync_needs_lock()

    def pending(self, most: int) -> list[Pending]:
        """Return up to `most` entries to repair; those past their time are dropped on the way."""
        now = self._clock()
        found: list[Pending] = []
        over: list[Hashable] = []
        with self._lock:
            self._stop_waiting_needs_lock()
            for name, missed in self._missed.items():
                if name in self._abandoned:
                    continue
                if missed.until <= now:
                    over.append(name)
                elif len(found) < most:
                    found.append((name, missed))
                else:
                    break
            for name in over:
                del self._missed[name]
            self._update_in_sync_needs_lock()
        return found

    def start_repairing(self, entries: Iterable[Pending], call: object) -> list[Pending]:
        """Expect `call`, which deletes these; return those of them that are still to be deleted.

        Not those that were made up for since they were due: what was won there meanwhile is valid.
        """
        with self._lock:
            left = [
                (name, missed)
                for name, missed in entries
                if self._missed.get(name) is missed and name not in self._abandoned
            ]
            self.expect(((name, missed.key, missed.version) for name, missed in left), call)
        return left

    def expire(self) -> None:
        """Drop the entries that are past their time."""
        now = self._clock()
        with self._lock:
            self._stop_waiting_needs_lock()
            for name, missed in list(self._missed.items()):
                if missed.until <= now and name not in self._abandoned:
                    del self._missed[name]
            self._update_in_sync_needs_lock()

    def repaired(self, entries: Iterable[Pending]) -> None:
        """Note that these were deleted in the layer; one that was missed again stays."""
        with self._lock:
            for name, missed in entries:
                if self._missed.get(name) is missed:
                    del self._missed[name]
            self._answered_needs_lock()
            self._update_in_sync_needs_lock()

    def forget(self) -> None:
        """Drop everything that was missed, on an operator's word, and wait for no abandoned call.

        One that ends later, and could have brought back what is dropped here, is a new matter.
        """
        with self._lock:
            self._abandoned.give_up_all(self._missed)
            self._missed.clear()
            self._missed_clear = 0
            self._suspect_until = 0.0
            self._update_in_sync_needs_lock()

    def _reset_after_fork(self) -> None:
        """Keep what was missed; calls under way belong to the parent."""
        self._lock = threading.RLock()
        self._abandoned.forget()
        self.in_sync = False  # so that the first call starts this process's background thread

    # Below here: with the lock held

    def _stop_waiting_needs_lock(self) -> None:
        """Wait no longer for calls that may never end: no key is kept for ever."""
        overdue = self._abandoned.overdue()
        if overdue:
            for name in self._abandoned.give_up(overdue, self._missed):
                if name in self._missed:
                    self._keep_capacity_needs_lock(name)

    def _record_needs_lock(self, entry: Entry, until: float) -> None:
        name, key, version = entry
        known = self._missed.get(name)
        if known is not None:
            until = max(until, known.until)
        self._missed[name] = Missed(key, version, until, self.sequence)
        self._keep_capacity_needs_lock(name)

    def _keep_capacity_needs_lock(self, name: Hashable) -> None:
        """Give up the note of `name` where it is one too many: then all are suspect instead.

        Not while a call is waited for that may change it: as long as that lasts it cannot be told when suspicion ends.
        """
        if len(self._missed) <= self._capacity or name in self._abandoned:
            return
        given_up = self._missed.pop(name)
        self._suspect_until = max(self._suspect_until, given_up.until)
        self._overflow = self.sequence

    def _answered_needs_lock(self) -> None:
        """The layer has answered: whatever it held is made, and lives no longer than any entry."""
        if self._suspect_until == inf:
            self._suspect_until = self._until()

    def _update_in_sync_needs_lock(self) -> None:
        self.in_sync = not (self._missed or self._abandoned or self.suspect)

    def _until(self) -> float:
        lifetime = self._lifetime()
        return inf if lifetime is None else self._clock() + lifetime
