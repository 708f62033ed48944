"""Which keys are being changed in this process, so that late writes above can be told.

A write into an upper layer is made without a lock, and checked after it was made: if anything
else changed the key in the meantime, the upper copy may be older than the layer below and is
dropped.  Keys share stripes; two that collide drop a copy too many, never too few.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from django_resilient_cache.concurrency import forks

_STRIPES = 1024


class _Stripe:
    __slots__ = ("changing", "lock", "stamp", "started")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        #: Mutations under way.
        self.changing = 0
        #: Mutations ever begun.
        self.started = 0
        #: A token that stands for "nothing has changed since"; None while something changes.
        self.stamp: object | None = object()


class Mutation:
    """One change of a key, from before the first layer is written until after the last.

    Nothing is called with the lock held, so that no signal is handled there: its handler may use
    the cache, or raise and leave things half done.
    """

    __slots__ = ("_before", "_number", "_stripe", "_under_way")

    def __init__(self, stripe: _Stripe) -> None:
        self._stripe = stripe
        self._before: object | None = None
        self._number = 0
        self._under_way = False

    def begin(self) -> None:
        """Keep readers from backfilling the key, until `end`."""
        stripe = self._stripe
        with stripe.lock:
            self._under_way = True
            self._before, stripe.stamp = stripe.stamp, None
            stripe.changing += 1
            stripe.started += 1
            # 0, which is never the latest: another change was under way.
            self._number = stripe.started if stripe.changing == 1 else 0

    def overlapped(self) -> bool:
        """Whether another change of the key overlapped with this one."""
        return self._stripe.started != self._number

    def follows(self, token: object | None) -> bool:
        """Whether nothing has changed the key between `token` and this change."""
        return token is not None and self._before is token

    def end(self) -> None:
        """Let readers backfill the key again; does nothing before `begin` or the second time."""
        stripe, stamp = self._stripe, object()
        with stripe.lock:
            if self._under_way:
                self._under_way = False
                stripe.changing -= 1
                if not stripe.changing:
                    stripe.stamp = stamp


class Mutations:
    """One change of several keys."""

    __slots__ = ("_mutations",)

    def __init__(self, stripes: Iterable[_Stripe]) -> None:
        self._mutations = [Mutation(stripe) for stripe in stripes]

    def begin(self) -> None:
        """Keep readers from backfilling the keys, until `end`."""
        for mutation in self._mutations:
            mutation.begin()

    def overlapped(self) -> bool:
        """Whether another change of one of the keys overlapped with this one."""
        return any(mutation.overlapped() for mutation in self._mutations)

    def end(self) -> None:
        """Let readers backfill the keys again; as `Mutation.end`."""
        for mutation in self._mutations:
            mutation.end()


class Generations:
    """The stripes of this process; keys are those that callers of a chain use."""

    def __init__(self) -> None:
        self.reset()
        forks.reset_in_child(self.reset)

    def mutation(self, key: Any) -> Mutation:
        """Return a change of `key` that is to begin."""
        return Mutation(self._stripes[self._index(key)])

    def mutations(self, keys: Iterable[Any] | None) -> Mutation | Mutations:
        """Return a change of `keys` that is to begin; None: of every key."""
        if keys is None:
            return Mutations(self._stripes)
        indexes = {self._index(key) for key in keys}
        if len(indexes) == 1:
            return Mutation(self._stripes[indexes.pop()])
        return Mutations(self._stripes[index] for index in indexes)

    def version_stamp(self, key: Any) -> object | None:
        """Return what stays the same until the key is changed; None: it is changing now."""
        # `_index` written out: a backfill asks three times.
        return self._stripes[hash(key if type(key) is str else str(key)) % _STRIPES].stamp

    def reset(self) -> None:
        """Forget what is changing now: in a forked child, those threads are the parent's."""
        self._stripes = [_Stripe() for _ in range(_STRIPES)]

    @staticmethod
    def _index(key: Any) -> int:
        # Backends format keys into strings: 1 and "1" are one entry.
        return hash(key if type(key) is str else str(key)) % _STRIPES
