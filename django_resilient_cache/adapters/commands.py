"""What a chain asks of one layer: a command that says what, of which keys, and makes the call.

`run(backend)` makes the call, inside the layer's limit and perhaps on another thread.  `name` is
how log lines and errors call it.  The four kinds of change differ in what a layer owes after a
call that it did not confirm:

* `Replacement`: the layer missed it, and may hold something older until it is repaired;
* `Backfill`: as a replacement if it was sent, else nothing was missed;
* `Decision`: its caller was told; a later repair could end another worker's lock or counter;
* `Clear`: the layer missed it, and it is made up for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.core.cache import BaseCache

from django_resilient_cache.adapters import remaining_ttl
from django_resilient_cache.adapters.database import delivers_errors, set_or_raise, survivable
from django_resilient_cache.adapters.error_classification import ErrorClass, classify
from django_resilient_cache.adapters.outcome import DONE, MISS, Kind, Outcome

#: Told apart from every value that can be cached, ``None`` included.
MISSING: Any = object()

#: `type`, as caches of functions will have it for a key.
_class: Callable[[Any], Any] = type

#: Looking up a member costs as much as the rest of the call.
_HIT, _DONE = Kind.HIT, Kind.DONE


class Command(ABC):
    """One request to one layer.  Keys, versions and timeouts are as the layer is given them."""

    name: ClassVar[str]
    #: Whether it may leave something else in the layer than was there.
    changes: ClassVar[bool] = False
    #: The call, where its caller gave it up and it may still be made.
    abandoned: Any = None

    version: Any = None

    @abstractmethod
    def run(self, backend: BaseCache) -> Outcome:
        """Make the call; raises what the backend raises."""


# Reading


@dataclass(eq=False)
class Read(Command):
    """A command that asks for one key."""

    key: Any
    version: Any


class Get(Read):
    """HIT with the value, or MISS."""

    name = "get"

    def run(self, backend: BaseCache) -> Outcome:
        value = backend.get(self.key, MISSING, version=self.version)
        return MISS if value is MISSING else Outcome(_HIT, value)


class GetWithTtl(Get):
    """HIT with the value and its `ttl`, or MISS."""

    name = "get_with_ttl"

    def run(self, backend: BaseCache) -> Outcome:
        pipelined = remaining_ttl.pipelined(backend, self.key)
        if pipelined is not None:
            return pipelined.get_with_ttl(self.key, self.version)
        outcome = super().run(backend)
        if outcome.kind is Kind.HIT:
            (outcome.ttl,) = remaining_ttl.remaining(backend, [self.key], self.version)
        return outcome


class HasKey(Read):
    """HIT (with True) or MISS."""

    name = "has_key"

    def run(self, backend: BaseCache) -> Outcome:
        return Outcome(_HIT, True) if backend.has_key(self.key, version=self.version) else MISS


@dataclass(eq=False)
class ReadMany(Command):
    """A command that asks for several keys."""

    keys: Sequence[Any]
    version: Any

    def nothing(self) -> Outcome:
        """Return the answer where none of the keys is there."""
        return Outcome(_DONE, {})


class GetMany(ReadMany):
    """DONE with a dictionary of the entries found; `error`: why others cannot be read back."""

    name = "get_many"

    def run(self, backend: BaseCache) -> Outcome:
        try:
            return Outcome(_DONE, backend.get_many(list(self.keys), version=self.version))
        except Exception as error:
            if classify(error, "get_many") is not ErrorClass.UNDECODABLE:
                raise
            return Outcome(_DONE, self._decodable(backend), error=error)

    def _decodable(self, backend: BaseCache) -> dict[Any, Any]:
        """Return the entries that can be read back; one that cannot must not hide the others."""
        found = {}
        for key in self.keys:
            try:
                value = backend.get(key, MISSING, version=self.version)
            except Exception as error:
                if classify(error, "get") is not ErrorClass.UNDECODABLE:
                    raise
            else:
                if value is not MISSING:
                    found[key] = value
        return found


class GetManyWithTtl(GetMany):
    """DONE with the entries found and a dictionary of how many seconds they have left to live."""

    name = "get_many_with_ttl"

    def run(self, backend: BaseCache) -> Outcome:
        outcome = super().run(backend)
        found = list(outcome.value)
        left = remaining_ttl.remaining(backend, found, self.version) if found else []
        outcome.value = outcome.value, dict(zip(found, left, strict=True))
        return outcome

    def nothing(self) -> Outcome:
        return Outcome(_DONE, ({}, {}))


# Changing


class Change(Command):
    """A command that may leave something else in the layer than was there."""

    changes = True

    def changed_keys(self) -> Iterable[Any]:
        """Return the keys that it changes."""
        return ()

    def timeouts(self) -> Iterable[Any]:
        """Return the timeouts that it writes."""
        return ()


class Replacement(Change):
    """Leaves nothing older behind under its keys."""


@dataclass(eq=False)
class Set(Replacement):
    """DONE."""

    name = "set"

    key: Any
    value: Any
    timeout: Any
    version: Any

    def run(self, backend: BaseCache) -> Outcome:
        _set(backend, self.key, self.value, self.timeout, self.version)
        return DONE

    def changed_keys(self) -> Iterable[Any]:
        return (self.key,)

    def timeouts(self) -> Iterable[Any]:
        return (self.timeout,)


@dataclass(eq=False)
class SetMany(Replacement):
    """DONE with the keys that the layer did not take."""

    name = "set_many"

    data: Mapping[Any, Any]
    timeout: Any
    version: Any

    def run(self, backend: BaseCache) -> Outcome:
        if delivers_errors(_class(backend)):
            refused = backend.set_many(dict(self.data), self.timeout, version=self.version)
            return Outcome(_DONE, refused or [])
        for key, value in self.data.items():  # as DatabaseCache does it
            set_or_raise(backend, key, value, self.timeout, self.version)
        return Outcome(_DONE, [])

    def changed_keys(self) -> Iterable[Any]:
        return self.data

    def timeouts(self) -> Iterable[Any]:
        return (self.timeout,)


@dataclass(eq=False)
class Delete(Replacement):
    """DONE with whether the key was there."""

    name = "delete"

    key: Any
    version: Any

    def run(self, backend: BaseCache) -> Outcome:
        deleted = survivable(backend, backend.delete, self.key, version=self.version)
        return Outcome(_DONE, bool(deleted))

    def changed_keys(self) -> Iterable[Any]:
        return (self.key,)


@dataclass(eq=False)
class DeleteMany(Replacement):
    """DONE."""

    name = "delete_many"

    keys: Collection[Any]
    version: Any

    def run(self, backend: BaseCache) -> Outcome:
        survivable(backend, backend.delete_many, list(self.keys), version=self.version)
        return DONE

    def changed_keys(self) -> Iterable[Any]:
        return self.keys


class Clear(Change):
    """DONE."""

    name = "clear"

    def run(self, backend: BaseCache) -> Outcome:
        survivable(backend, backend.clear)
        return DONE


@dataclass(eq=False)
class Backfill(Change):
    """Writes entries that were read below, each (key, value, timeout); DONE."""

    name = "backfill"

    entries: Sequence[tuple[Any, Any, Any]]
    version: Any
    only_free: bool = field(kw_only=True)
    """Whether other processes write the layer too, so that only free keys are written."""

    def run(self, backend: BaseCache) -> Outcome:
        for key, value, timeout in self.entries:
            if self.only_free:
                backend.add(key, value, timeout, version=self.version)
            else:
                _set(backend, key, value, timeout, self.version)
        return DONE

    def changed_keys(self) -> Iterable[Any]:
        return [key for key, _, _ in self.entries]

    def timeouts(self) -> Iterable[Any]:
        return [timeout for _, _, timeout in self.entries]


class Decision(Change):
    """Decides on the entry that is there, and cannot while that entry is obsolete."""

    key: Any

    def changed_keys(self) -> Iterable[Any]:
        return (self.key,)


@dataclass(eq=False)
class Add(Decision):
    """DONE with whether the key was free."""

    name = "add"

    key: Any
    value: Any
    timeout: Any
    version: Any

    def run(self, backend: BaseCache) -> Outcome:
        added = backend.add(self.key, self.value, self.timeout, version=self.version)
        return Outcome(_DONE, bool(added))

    def timeouts(self) -> Iterable[Any]:
        return (self.timeout,)


@dataclass(eq=False)
class Touch(Decision):
    """DONE with whether the key was there."""

    name = "touch"

    key: Any
    timeout: Any
    version: Any

    def run(self, backend: BaseCache) -> Outcome:
        touched = backend.touch(self.key, self.timeout, version=self.version)
        return Outcome(_DONE, bool(touched))

    def timeouts(self) -> Iterable[Any]:
        return (self.timeout,)


@dataclass(eq=False)
class Count(Decision):
    """DONE with the new value; raises ValueError where the key is missing."""

    key: Any
    delta: Any
    version: Any


class Incr(Count):
    """Adds `delta`."""

    name = "incr"

    def run(self, backend: BaseCache) -> Outcome:
        return Outcome(_DONE, backend.incr(self.key, self.delta, version=self.version))


class Decr(Count):
    """Subtracts `delta`."""

    name = "decr"

    def run(self, backend: BaseCache) -> Outcome:
        return Outcome(_DONE, backend.decr(self.key, self.delta, version=self.version))


def _set(backend: BaseCache, key: Any, value: Any, timeout: Any, version: Any) -> None:
    if delivers_errors(_class(backend)):
        backend.set(key, value, timeout, version=version)
    else:
        set_or_raise(backend, key, value, timeout, version)
