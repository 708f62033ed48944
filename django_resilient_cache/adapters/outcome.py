"""How one layer call ended: all that the chain knows of a layer."""

from __future__ import annotations

from enum import Enum
from typing import Any


class Kind(Enum):
    """The six ends of a layer call.

    A hit is never inferred from "no exception", a miss never from ``None``.
    """

    HIT = "hit"
    MISS = "miss"
    DONE = "done"
    REJECTED = "rejected"
    TIMED_OUT = "timed out"
    FAILED = "failed"


class Outcome:
    """The end of one layer call.

    `value`: what the layer answered (HIT, DONE).  `ttl`: seconds the entry has left to live where
    it was asked for; None: it never expires; `UNKNOWN`: the layer cannot tell.  `error`: why
    there was no answer.
    """

    __slots__ = ("error", "kind", "ttl", "value")

    #: Whether the layer may have been asked.
    attempted = True

    def __init__(
        self,
        kind: Kind,
        value: Any = None,
        ttl: float | None = -1.0,
        error: BaseException | None = None,
    ) -> None:
        self.kind = kind
        self.value = value
        self.ttl = ttl
        self.error = error

    def __repr__(self) -> str:
        return f"<Outcome {self.kind.value}>"

    @property
    def answered(self) -> bool:
        """Whether the layer said anything."""
        return self.kind in _ANSWERS


class NotAttempted(Outcome):
    """The end of a call whose time was up before the layer could be asked: nothing has happened."""

    __slots__ = ()

    attempted = False


# A tuple: finding a member by identity is quicker than hashing it.
_ANSWERS = (Kind.HIT, Kind.MISS, Kind.DONE)

#: The layer cannot tell how long the entry has left.
UNKNOWN = -1.0

MISS = Outcome(Kind.MISS)
DONE = Outcome(Kind.DONE)
REJECTED = Outcome(Kind.REJECTED)
