"""Which keys are being changed in this process, so that late writes above can be told.

A write into an upper layer is made without a lock, and checked after it was made: if anything
else changed the key in the meantime, the upper copy may be older than the layer below and is
dropped.  Keys share stripes; two that collide drop a copy too many, never too few.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

_STRIPES = 1024


class _Stripe:
    __slots__ = ("changing", "lock", "quiet", "started")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        #: Mutations under way.
        self.changing = 0
        #: Mutations ever begun.
        self.started = 0
        #: A token that stands for "nothing has changed since"; None while something changes.
        self.quiet: object | None = object()


class Mutation:
    """One change of a key, from before the first layer is written until after the last."""

    __slots__ = ("_before", "_number", "_stripe")

    def __init__(self, stripe: _Stripe) -> None:
        self._stripe = stripe
        with stripe.lock:
            self._before, stripe.quiet = stripe.quiet, None
            stripe.changing += 1
            stripe.started += 1
            # 0, which is never the latest: another change was under way.
            self._number = stripe.started if stripe.changing == 1 else 0

    def disturbed(self) -> bool:
        """Whether another change of the key overlapped with this one."""
        return self._stripe.started != self._number

    def follows(self, token: object | None) -> bool:
        """Whether nothing has changed the key between `token` and this change."""
        return token is not None and self._before is token

    def end(self) -> None:
        """Let readers backfill the key again."""
        stripe = self._stripe
        with stripe.lock:
            stripe.changing -= 1
            if not stripe.changing:
                stripe.quiet = object()


class Mutations:
    """One change of several keys."""

    __slots__ = ("_mutations",)

    def __init__(self, stripes: Iterable[_Stripe]) -> None:
        self._mutations = [Mutation(stripe) for stripe in stripes]

    def disturbed(self) -> bool:
        """Whether another change of one of the keys overlapped with this one."""
        return any(mutation.disturbed() for mutation in self._mutations)

    def end(self) -> None:
        """Let readers backfill the keys again."""
        for mutation in self._mutations:
            mutation.end()


class Generations:
    """The stripes of this process; keys are those that callers of a chain use."""

    def __init__(self) -> None:
        self.after_fork()

    def begin(self, keys: Iterable[Any]) -> Mutation | Mutations:
        """Note that `keys` are being changed, until the mutation's `end()`."""
        indexes = {self._index(key) for key in keys}
        if len(indexes) == 1:
            return Mutation(self._stripes[indexes.pop()])
        return Mutations(self._stripes[index] for index in indexes)

    def begin_one(self, key: Any) -> Mutation:
        """Note that `key` is being changed, until the mutation's `end()`."""
        return Mutation(self._stripes[self._index(key)])

    def begin_all(self) -> Mutations:
        """As `begin`, for every key."""
        return Mutations(self._stripes)

    def token(self, key: Any) -> object | None:
        """Return what stays the same until the key is changed; None: it is changing now."""
        return self._stripes[self._index(key)].quiet

    def after_fork(self) -> None:
        """Begin anew: the parent's threads were changing something, this process is not."""
        self._stripes = [_Stripe() for _ in range(_STRIPES)]

    @staticmethod
    def _index(key: Any) -> int:
        # Backends format keys into strings: 1 and "1" are one entry.
        return hash(key if type(key) is str else str(key)) % _STRIPES
