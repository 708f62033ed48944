"""Calls that were given up and may still be made: what each may change, and how long that is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

#: Seconds for which a call that was given up is waited for.  After about 925 of them TCP itself
#: (Linux) gives up a peer that acknowledges nothing: what has not arrived by then never will.
WAIT_SECONDS = 1000.0

#: A key: its name as the layer stores it, and key and version as the layer is given them.
Entry: TypeAlias = tuple[Hashable, Any, Any]


@dataclass(slots=True, eq=False)
class _Awaited:
    """A call under way without a caller; its keys wait for its end."""

    until: float
    may_change: dict[Hashable, Entry] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _GivenUp:
    """A call that no key waits for any more."""

    brings_back: list[Entry]
    """What was missed when it was given up: obsolete again, should the call end after all."""


class AbandonedCalls:
    """The abandoned calls of one layer.  Kept under its ledger's lock; `clears` is read without."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._awaited: dict[object, _Awaited] = {}
        self._given_up: dict[object, _GivenUp] = {}
        #: The calls that a key waits for.
        self._by_name: dict[Hashable, set[object]] = {}
        #: Those waited for that may clear the layer.
        self.clears: set[object] = set()

    def __bool__(self) -> bool:
        return bool(self._by_name or self.clears)

    def __contains__(self, name: Hashable) -> bool:
        """Whether a call that is waited for may change this key."""
        return name in self._by_name

    def entries(self) -> list[Entry]:
        """Return all that may be changed by a call that is waited for."""
        return [self.entry(name) for name in self._by_name]

    def entry(self, name: Hashable) -> Entry:
        """Return the entry of a key that waits."""
        call = next(iter(self._by_name[name]))
        return self._awaited[call].may_change[name]

    def expect(self, entries: Iterable[Entry], call: object) -> None:
        """Wait for `call`, which may change these."""
        awaited = self._await(call)
        for entry in entries:
            awaited.may_change[entry[0]] = entry
            self._by_name.setdefault(entry[0], set()).add(call)

    def expect_clear(self, call: object) -> None:
        """Wait for `call`, which may clear the layer."""
        self._await(call)
        self.clears.add(call)

    def ended(self, call: object) -> tuple[list[Hashable], list[Entry]] | None:
        """Forget `call`; return the keys that waited for it, and what it has brought back.

        None: nothing was known of it.
        """
        given_up = self._given_up.pop(call, None)
        if given_up is not None:
            return [], given_up.brings_back
        awaited = self._awaited.pop(call, None)
        if awaited is None:
            return None
        self._stop_waiting(call, awaited)
        return list(awaited.may_change), []

    def overdue(self) -> list[object]:
        """Return the calls that have been waited for long enough."""
        now = self._clock()
        return [call for call, awaited in self._awaited.items() if awaited.until <= now]

    def give_up(self, calls: Iterable[object], missed: Container[Hashable]) -> list[Hashable]:
        """Wait no longer for these; return the keys that waited for them.

        Of these keys those are remembered that are `missed` now.
        """
        names: list[Hashable] = []
        for call in calls:
            awaited = self._awaited.pop(call)
            self._stop_waiting(call, awaited)
            names += awaited.may_change
            self._given_up[call] = _GivenUp(
                [entry for name, entry in awaited.may_change.items() if name in missed]
            )
        return names

    def give_up_all(self, missed: Container[Hashable]) -> None:
        """Wait for none of them any longer; see `give_up`."""
        self.give_up(list(self._awaited), missed)

    def forget(self) -> None:
        """Know nothing of any call: they are another process's."""
        self._awaited.clear()
        self._given_up.clear()
        self._by_name.clear()
        self.clears.clear()

    def _await(self, call: object) -> _Awaited:
        return self._awaited.setdefault(call, _Awaited(self._clock() + WAIT_SECONDS))

    def _stop_waiting(self, call: object, awaited: _Awaited) -> None:
        self.clears.discard(call)
        for name in awaited.may_change:
            calls = self._by_name.get(name)
            if calls is not None:
                calls.discard(call)
                if not calls:
                    del self._by_name[name]
