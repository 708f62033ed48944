"""Calls that were given up and may still be made: what each may change, and for how long that is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

#: Seconds for which a call that was given up is waited for.  After about 925 of them TCP itself
#: (Linux) gives up a peer that acknowledges nothing: what has not arrived by then never will.
LATE_SECONDS = 1000.0

#: A key: its name as the layer stores it, and key and version as the layer is given them.
Entry: TypeAlias = tuple[Hashable, Any, Any]


@dataclass(slots=True, eq=False)
class AbandonedCall:
    """One call under way without a caller."""

    until: float
    """When it is no longer waited for."""
    entries: dict[Hashable, Entry]
    """What it may change; once it is not waited for: what may be obsolete again when it ends."""
    waited_for: bool = True


class AbandonedCalls:
    """The late calls of one layer.  Kept under its ledger's lock; `clears` is read without."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: dict[object, AbandonedCall] = {}
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
        return self._calls[call].entries[name]

    def expect(self, entries: Iterable[Entry], call: object) -> None:
        """Wait for `call`, which may change these."""
        late = self._expect(call)
        for entry in entries:
            late.entries[entry[0]] = entry
            self._by_name.setdefault(entry[0], set()).add(call)

    def expect_clear(self, call: object) -> None:
        """Wait for `call`, which may clear the layer."""
        self._expect(call)
        self.clears.add(call)

    def ended(self, call: object) -> AbandonedCall | None:
        """Take `call` off the list and return what was known of it."""
        late = self._calls.pop(call, None)
        if late is not None:
            self._leave(call, late)
        return late

    def overdue(self) -> list[object]:
        """Return the calls that have been waited for long enough."""
        now = self._clock()
        return [call for call, late in self._calls.items() if late.waited_for and late.until <= now]

    def give_up(self, calls: Iterable[object], missed: Container[Hashable]) -> list[Hashable]:
        """Wait no longer for these; return the keys that they kept waiting.

        Of these keys those are remembered that are `missed` now: should the call end after all,
        it has brought back what they were not to show again.
        """
        names: list[Hashable] = []
        for call in calls:
            late = self._calls[call]
            names += late.entries
            self._leave(call, late)
            late.waited_for = False
            late.entries = {name: late.entries[name] for name in late.entries if name in missed}
        return names

    def give_up_all(self, missed: Container[Hashable]) -> None:
        """Wait for none of them any longer; see `give_up`."""
        self.give_up([call for call, late in self._calls.items() if late.waited_for], missed)

    def forget(self) -> None:
        """Know nothing of any call: they are another process's."""
        self._calls.clear()
        self._by_name.clear()
        self.clears.clear()

    def _expect(self, call: object) -> AbandonedCall:
        return self._calls.setdefault(call, AbandonedCall(self._clock() + LATE_SECONDS, {}))

    def _leave(self, call: object, late: AbandonedCall) -> None:
        self.clears.discard(call)
        for name in late.entries:
            calls = self._by_name.get(name)
            if calls is not None:
                calls.discard(call)
                if not calls:
                    del self._by_name[name]
