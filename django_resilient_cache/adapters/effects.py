"""What an operation changes in a layer, so that the ledger can tell what was missed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django_resilient_cache.adapters import operations, remaining_ttl
from django_resilient_cache.adapters.outcome import Outcome

#: The operations that the ledger answers for.  Not add, incr, decr and touch: whoever asked was
#: told that they were not confirmed, and to delete their key later could end another worker's lock.
_KEYS: dict[Callable[..., Outcome], Callable[..., Iterable[Any]]] = {
    operations.set: lambda key, value, timeout, version: (key,),
    operations.delete: lambda key, version: (key,),
    operations.set_many: lambda data, timeout, version: data,
    operations.delete_many: lambda keys, version: keys,
    operations.fill: lambda entries, version: [key for key, _, _ in entries],
    operations.fill_free: lambda entries, version: [key for key, _, _ in entries],
}

#: What decides on an entry that is there, and cannot while that entry is obsolete.
DECISIONS = frozenset({operations.add, operations.incr, operations.decr, operations.touch})

#: Written by a backfill: only what a call that was made may have done is missed.
BACKFILLS = frozenset({operations.fill, operations.fill_free})

#: What asks a layer for its word; without one there is no answer, whatever the ledger holds.
ASKING = DECISIONS | {
    operations.get,
    operations.get_many,
    operations.has_key,
    remaining_ttl.get_with_ttl,
    remaining_ttl.get_many_with_ttl,
}

#: What leaves nothing older behind.
REPLACING = frozenset(_KEYS) - BACKFILLS

#: Whatever may leave something else in a layer than was there.
CHANGES = frozenset(_KEYS) | DECISIONS | {operations.clear}

#: Where an operation has the timeout of what it writes.
_TIMEOUT_AT: dict[Callable[..., Outcome], int] = {
    operations.set: 2,
    operations.add: 2,
    operations.set_many: 1,
    operations.touch: 1,
}


def changed_keys(operation: Callable[..., Outcome], args: tuple[Any, ...]) -> Iterable[Any]:
    """Return the keys that this call changes."""
    return (args[0],) if operation in DECISIONS else _KEYS[operation](*args)


def timeouts(operation: Callable[..., Outcome], args: tuple[Any, ...]) -> Iterable[Any]:
    """Return the timeouts that this call writes."""
    index = _TIMEOUT_AT.get(operation)
    if index is not None:
        return (args[index],)
    return (timeout for _, _, timeout in args[0]) if operation in BACKFILLS else ()
