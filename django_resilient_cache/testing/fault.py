"""What can go wrong with a `FaultyCache`: one `Fault` each, as frozen data."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from math import isfinite
from typing import Any, TypedDict

from django_resilient_cache.conf.problems import closest

#: The methods of a cache that a fault can befall; `get_or_set` and `incr_version` are made of them.
OPERATIONS = (
    *("get", "get_many", "has_key", "pttl"),
    *("set", "set_many", "delete", "delete_many", "clear"),
    *("add", "touch", "incr", "decr"),
)

#: What changes nothing: given up, it leaves nothing that could come late.
READS = frozenset({"get", "get_many", "has_key", "pttl"})

#: What reads an entry's value back.
DECODING = frozenset({"get", "get_many", "incr", "decr"})


class Effect(Enum):
    """What a fault does to a call."""

    FAIL = "raise without making the call"
    LOSE = "make the call, then raise: the answer is lost"
    HANG = "wait until healed, or for some seconds, then make the call"
    LATE = "raise, and make the change when healed, or after some seconds"
    CORRUPT = "raise what a client raises for an entry that it cannot read back"


#: What an effect raises unless told otherwise.
_ERRORS: dict[Effect, type[Exception]] = {
    Effect.FAIL: ConnectionError,
    Effect.LOSE: ConnectionError,
    Effect.LATE: TimeoutError,
    Effect.CORRUPT: pickle.UnpicklingError,
}


class Narrowing(TypedDict, total=False):
    """Which calls a fault befalls: see `Fault`."""

    operations: Iterable[str] | None
    keys: str | None
    probability: float
    seed: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing that goes wrong.  Raises ValueError naming the argument that makes no sense."""

    effect: Effect
    error: Exception | type[Exception] | None = None
    """What is raised: each time a new one of this type, with the same arguments; None:
    TimeoutError for LATE, pickle.UnpicklingError for CORRUPT, else ConnectionError."""
    seconds: float | None = None
    """How long HANG waits, or LATE until the change lands; None: until healed."""
    operations: Iterable[str] | None = None
    """Names of the methods it befalls, in the end a frozenset; None: all."""
    keys: str | None = None
    """Shell-style pattern of the keys it befalls, as the cache is given them, without its own
    prefix and version; a batch is befallen as a whole, `clear` never; None: all."""
    probability: float = 1.0
    """Share of those calls that it befalls."""
    seed: int | None = None
    """Makes the choice of these calls the same in every run."""

    def __post_init__(self) -> None:
        _require(
            isinstance(self.effect, Effect),
            "effect",
            self.effect,
            "a member of Effect: Effect.HANG",
        )
        self._check_error()
        self._check_seconds()
        self._check_operations()
        one = isinstance(self.keys, str | None)
        _require(one, "keys", self.keys, 'one pattern, as "menu:*", or None for all')
        share = _is_number(self.probability) and 0 <= self.probability <= 1
        _require(share, "probability", self.probability, "a number from 0 to 1")
        whole = isinstance(self.seed, int | None)
        _require(whole, "seed", self.seed, "a whole number, or None for another choice each time")

    def _check_error(self) -> None:
        if self.error is None:
            return
        raises = self.effect in _ERRORS
        _require(raises, "error", self.error, f"none: {self.effect.name} raises nothing")
        kind = self.error if isinstance(self.error, type) else type(self.error)
        known = issubclass(kind, BaseException)  # an interrupt is a fault too
        _require(known, "error", self.error, "an exception or a class of exceptions")
        try:
            self.raised("get")
        except Exception as reason:  # noqa: BLE001 - whatever its constructor does
            what = f"an exception that can be made again from its own args ({reason})"
            _require(False, "error", self.error, what)

    def _check_seconds(self) -> None:
        if self.seconds is None:
            return
        waits = self.effect in (Effect.HANG, Effect.LATE)
        _require(waits, "seconds", self.seconds, f"none: {self.effect.name} does not wait")
        time = _is_number(self.seconds) and self.seconds > 0
        _require(time, "seconds", self.seconds, "a number of seconds above 0")

    def _check_operations(self) -> None:
        if self.operations is None:
            return
        named: Any = self.operations
        names = [named] if isinstance(named, str) else list(named)
        known = [name for name in OPERATIONS if self._can_befall(name)]
        _require(bool(names), "operations", named, "at least one, or None for all")
        for name in names:
            likely = None if name in OPERATIONS else closest(name, known)
            what = f"{likely!r}" if likely else f"some of {', '.join(known)}"
            _require(name in known, "operations", name, what)
        object.__setattr__(self, "operations", frozenset(names))

    def _can_befall(self, operation: str) -> bool:
        return self.effect is not Effect.CORRUPT or operation in DECODING

    def befalls(self, operation: str, keys: Iterable[Any]) -> bool:
        """Whether a call of `operation` on `keys` is of the kind that this fault is about."""
        if self.operations is not None and operation not in self.operations:
            return False
        if not self._can_befall(operation):
            return False
        return self.keys is None or any(self.matches(key) for key in keys)

    def matches(self, key: Any) -> bool:
        """Whether `key` is one of those that this fault is about."""
        return self.keys is None or fnmatchcase(str(key), self.keys)

    def raised(self, operation: str) -> Exception:
        """Return the error of one call."""
        error = self.error or _ERRORS[self.effect]
        if isinstance(error, type):
            return error(f"{operation} failed on demand")
        return type(error)(*error.args)

    def __str__(self) -> str:
        """As a person would ask for it: ``hang(operations=get, keys=menu:*)``."""
        names = sorted(self.operations or ())
        told = {
            "error": getattr(self.error, "__name__", self.error),
            "seconds": self.seconds,
            "operations": "+".join(names) or None,
            "keys": self.keys,
            "probability": None if self.probability == 1 else self.probability,
            "seed": self.seed,
        }
        more = ", ".join(f"{name}={value}" for name, value in told.items() if value is not None)
        return f"{self.effect.name.lower()}({more})"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _require(sound: bool, name: str, value: object, wanted: str) -> None:
    if not sound:
        raise ValueError(f"{name} is {value!r}; write {wanted}")
