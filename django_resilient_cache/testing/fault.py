"""What can go wrong with a `FaultyCache`, and what goes wrong at the moment."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class Effect(Enum):
    """What a fault does to a call."""

    FAIL = "raise without making the call"
    LOSE = "make the call, then raise: the answer is lost"
    HANG = "wait until healed, or for some seconds, then make the call"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    effect: Effect
    error: Exception | type[Exception] = ConnectionError
    """What FAIL and LOSE raise: each time a new one of this type, with the same arguments."""
    seconds: float | None = None
    """How long HANG waits; None: until healed."""
    operations: frozenset[str] | None = None
    """Names of the methods it befalls; None: all."""
    keys: str | None = None
    """Shell-style pattern of the keys it befalls; a batch is befallen as a whole; None: all."""
    probability: float = 1.0
    """Share of those calls that it befalls."""
    seed: int | None = None
    """Makes the choice of these calls the same in every run."""

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be from 0 to 1, got {self.probability!r}")
        if unknown := sorted((self.operations or frozenset()) - _OPERATIONS):
            raise ValueError(
                f"operations has {unknown[0]!r}; it takes {', '.join(sorted(_OPERATIONS))}"
            )

    def befalls(self, operation: str, keys: Iterable[Any]) -> bool:
        """Whether a call of `operation` on `keys` is of the kind that this fault is about."""
        if self.operations is not None and operation not in self.operations:
            return False
        pattern = self.keys
        return pattern is None or any(fnmatchcase(str(key), pattern) for key in keys)

    def raised(self, operation: str) -> Exception:
        """Return the error of one call."""
        if isinstance(self.error, type):
            return self.error(f"{operation} failed on demand")
        return type(self.error)(*self.error.args)


_OPERATIONS = frozenset(
    {
        *("get", "get_many", "has_key", "pttl"),
        *("set", "set_many", "delete", "delete_many", "clear"),
        *("add", "touch", "incr", "decr"),
    }
)


@dataclass(eq=False)
class _Active:
    """A fault in force."""

    fault: Fault
    healed: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.fault.seed)

    def befalls(self, operation: str, keys: Iterable[Any]) -> bool:
        """Whether it befalls this very call."""
        if not self.fault.befalls(operation, keys):
            return False
        share = self.fault.probability
        return share >= 1 or self._dice.random() < share


class Faults:
    """What goes wrong with one cache; `faults(alias)` returns it.

    Each method that adds a fault returns a context manager, which takes that fault away again
    at the end of its block; without a block it stays until `heal()`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active: list[_Active] = []
        #: How often each operation was asked for, befallen or not.
        self.calls: Counter[str] = Counter()
        #: How many calls wait in a `hang` or `slow` at the moment.
        self.hanging = 0

    def fail(
        self, error: Exception | type[Exception] = ConnectionError, **narrowed: Any
    ) -> Healing:
        """Raise `error` instead of making calls.

        Here and below, `operations`, `keys`, `probability` and `seed` narrow down which calls
        are befallen: see `Fault`.
        """
        return self._begin(Effect.FAIL, error=error, **narrowed)

    def lose_answers(
        self, error: Exception | type[Exception] = ConnectionError, **narrowed: Any
    ) -> Healing:
        """Make calls and raise `error` all the same, as a network lost after the request does."""
        return self._begin(Effect.LOSE, error=error, **narrowed)

    def hang(self, **narrowed: Any) -> Healing:
        """Let calls wait until healed; they are made then, as a frozen server does when it thaws."""
        return self._begin(Effect.HANG, **narrowed)

    def slow(self, seconds: float, **narrowed: Any) -> Healing:
        """Let calls wait for `seconds` and make them then; healing ends the wait."""
        return self._begin(Effect.HANG, seconds=seconds, **narrowed)

    def add(self, fault: Fault) -> Healing:
        """Put `fault` in force."""
        active = _Active(fault)
        with self._lock:
            self._active.append(active)
        return Healing(self, active)

    def heal(self) -> None:
        """End all faults; what hangs goes on."""
        with self._lock:
            healed, self._active = self._active, []
        for active in healed:
            active.healed.set()

    def _begin(
        self, effect: Effect, *, operations: Iterable[str] | None = None, **narrowed: Any
    ) -> Healing:
        if isinstance(operations, str):
            operations = [operations]
        names = None if operations is None else frozenset(operations)
        return self.add(Fault(effect=effect, operations=names, **narrowed))

    def _end(self, active: _Active) -> None:
        with self._lock:
            if active in self._active:
                self._active.remove(active)
        active.healed.set()

    def call(self, operation: str, keys: Iterable[Any], make: Callable[[], T]) -> T:
        """Return what `make` returns, or do what is in force."""
        with self._lock:
            self.calls[operation] += 1
            befallen = [active for active in self._active if active.befalls(operation, keys)]
        for active in befallen:
            if active.fault.effect is Effect.HANG:
                self._wait(active)
            elif active.fault.effect is Effect.FAIL:
                raise active.fault.raised(operation)
        try:
            return make()
        finally:
            for active in befallen:
                if active.fault.effect is Effect.LOSE:
                    raise active.fault.raised(operation)

    def _wait(self, active: _Active) -> None:
        with self._lock:
            self.hanging += 1
        try:
            active.healed.wait(active.fault.seconds)
        finally:
            with self._lock:
                self.hanging -= 1


class Healing:
    """Ends one fault at the end of a `with` block."""

    def __init__(self, owner: Faults, active: _Active) -> None:
        self._owner = owner
        self._active = active

    def __enter__(self) -> Faults:
        return self._owner

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._owner._end(self._active)
