"""What goes wrong with one cache at the moment, and how it is begun and ended."""

from __future__ import annotations

import contextlib
import pickle
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import inf
from types import TracebackType
from typing import Any, TypeVar, Unpack

from django_resilient_cache.concurrency import forks
from django_resilient_cache.testing.delayed_changes import Later
from django_resilient_cache.testing.fault import READS, Effect, Fault, Narrowing

T = TypeVar("T")

#: Seconds that `discard` gives waiting calls to leave.
STOP_SECONDS = 1.0


class Active:
    """A fault in force."""

    def __init__(self, fault: Fault, name: str = "") -> None:
        self.fault = fault
        #: What it is known by to other processes.
        self.name = name
        self.ended = threading.Event()
        #: Whether what waits is not to be made any more.
        self.discarded = False
        self._dice = random.Random(fault.seed)

    def befalls(self, operation: str, keys: Iterable[Any]) -> bool:
        """Whether it befalls this very call."""
        if not self.fault.befalls(operation, keys):
            return False
        share = self.fault.probability
        return share >= 1 or self._dice.random() < share


class Faults:
    """What goes wrong with one cache; `faults(alias)` returns it.

    Each method that adds a fault returns a `Healing`: a context manager that ends that fault with
    its block.  Without a block it stays until `heal()`.  Safe under many threads.
    """

    #: Seconds between two looks for what other processes have ended.
    _every = inf

    def __init__(self) -> None:
        self._active: list[Active] = []
        #: How often each operation was asked for in this process (and rehearsal), befallen or not.
        self.calls: Counter[str] = Counter()
        #: How many calls of this process wait in a `hang` or `slow` at the moment.
        self.hanging = 0
        self._begin_anew()
        forks.reset_in_child(self._reset_after_fork)

    def _begin_anew(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._later = Later(self._look, self._every)
        self.hanging = 0

    def __repr__(self) -> str:
        told = ", ".join(str(active.fault) for active in self._active)
        return f"<{type(self).__name__}: {told or 'none'}>"

    # What goes wrong

    def fail(
        self,
        error: Exception | type[Exception] = ConnectionError,
        **narrowing: Unpack[Narrowing],
    ) -> Healing:
        """Raise `error` instead of making calls.

        Here and below, `operations`, `keys`, `probability` and `seed` narrow down which calls
        are befallen: see `Fault`, which also raises ValueError for what makes no sense.
        """
        return self.add(Fault(effect=Effect.FAIL, error=error, **narrowing))

    def lose_answers(
        self,
        error: Exception | type[Exception] = ConnectionError,
        **narrowing: Unpack[Narrowing],
    ) -> Healing:
        """Make calls and raise `error` all the same, as a network lost after the request does."""
        return self.add(Fault(effect=Effect.LOSE, error=error, **narrowing))

    def hang(self, **narrowing: Unpack[Narrowing]) -> Healing:
        """Let calls wait until healed; they are made then, as a frozen server does when it thaws."""
        return self.add(Fault(effect=Effect.HANG, **narrowing))

    def slow(self, seconds: float, **narrowing: Unpack[Narrowing]) -> Healing:
        """Let calls wait for `seconds` and make them then; healing ends the wait."""
        return self.add(Fault(effect=Effect.HANG, seconds=seconds, **narrowing))

    def late(
        self,
        seconds: float | None = None,
        error: Exception | type[Exception] = TimeoutError,
        **narrowing: Unpack[Narrowing],
    ) -> Healing:
        """Raise `error`, as a client that gives up, and let the change land later all the same.

        It lands when the fault is healed, before `heal()` returns, or after `seconds` if that
        is sooner; calls that only read are given up and that is all.
        """
        return self.add(Fault(effect=Effect.LATE, seconds=seconds, error=error, **narrowing))

    def corrupt(
        self,
        error: Exception | type[Exception] = pickle.UnpicklingError,
        **narrowing: Unpack[Narrowing],
    ) -> Healing:
        """Let `get`, `get_many`, `incr` and `decr` of an entry that is there raise `error`.

        The entry itself is left alone: what is missing is still a miss, `has_key`, `touch`, `add`
        and changes are as ever, and once healed it can be read again.  A chain takes the default
        error for an entry that cannot be read back, others for a server that talks garbage.
        """
        return self.add(Fault(effect=Effect.CORRUPT, error=error, **narrowing))

    def add(self, fault: Fault) -> Healing:
        """Put `fault` in force."""
        active = Active(fault)
        with self._changed:
            self._active.append(active)
        return Healing(self, active)

    # How it ends

    def heal(self) -> None:
        """End all faults: what hangs goes on, what is late has landed when this returns."""
        self._look()
        self._end(list(self._active))

    def discard(self) -> None:
        """End all faults, and make nothing that hangs or is late: for the end of a test.

        Calls that hang raise ConnectionError; waits until they have.
        """
        self._end(list(self._active), discard=True)
        self._wait_until_left()

    @property
    def in_force(self) -> list[Fault]:
        """The faults in force, in the order in which they have their say."""
        self._look()
        return [active.fault for active in list(self._active)]

    @property
    def pending(self) -> int:
        """How many changes of this process are `late` and have not landed."""
        return len(self._later)

    def _end(self, ended: Sequence[Active], *, discard: bool = False) -> None:
        with self._changed:
            self._active = [active for active in self._active if active not in ended]
        for active in ended:
            active.discarded = active.discarded or discard
            active.ended.set()
        if discard:
            self._later.drop(ended)
        else:
            self._later.release(ended)

    def _look(self) -> None:
        """Look for what other processes have begun or ended: with these, nothing."""

    # What calls meet

    def call(
        self,
        operation: str,
        keys: Iterable[Any],
        make: Callable[[], T],
        present: Callable[[Any], bool] = lambda key: True,
    ) -> T:
        """Return what `make` returns, or do what is in force.

        `present` tells whether there is an entry of a key.
        """
        self._look()
        with self._changed:
            self.calls[operation] += 1
            befallen = [active for active in self._active if active.befalls(operation, keys)]
        for active in befallen:
            self._before(active, operation, make)
            if active.fault.effect is Effect.CORRUPT and any(
                active.fault.matches(key) and present(key) for key in keys
            ):
                raise active.fault.raised(operation)
        lost = [active for active in befallen if active.fault.effect is Effect.LOSE]
        if not lost:
            return make()
        with contextlib.suppress(Exception):
            make()
        raise lost[0].fault.raised(operation)

    def _before(self, active: Active, operation: str, make: Callable[[], object]) -> None:
        effect = active.fault.effect
        if effect is Effect.HANG:
            self._wait(active, operation)
        elif effect is Effect.FAIL:
            raise active.fault.raised(operation)
        elif effect is Effect.LATE:
            if operation not in READS:
                self._later.add(active, operation, make, active.fault.seconds)
                if active.ended.is_set():  # since this call began: nobody else will release it
                    self._end([active], discard=active.discarded)
            raise active.fault.raised(operation)

    def _wait(self, active: Active, operation: str) -> None:
        with self._changed:
            self.hanging += 1
        try:
            self._wait_for(active)
        finally:
            with self._changed:
                self.hanging -= 1
                self._changed.notify_all()
        if active.discarded:
            raise ConnectionError(f"{operation} hung and was discarded; it is not made")

    def _wait_for(self, active: Active) -> None:
        active.ended.wait(active.fault.seconds)

    def _wait_until_left(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self.hanging, STOP_SECONDS)
        self._later.wait_until_left(STOP_SECONDS)

    def _reset_after_fork(self) -> None:
        """Let what waits and what is late to the parent, whose threads they are."""
        self._begin_anew()


class Healing:
    """Ends one fault: at the end of a `with` block, or when told to."""

    def __init__(self, owner: Faults, active: Active) -> None:
        self._owner = owner
        self._active = active

    def heal(self) -> None:
        """End this fault, as `Faults.heal` ends all."""
        self._owner._end([self._active])

    def __enter__(self) -> Faults:
        return self._owner

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.heal()
