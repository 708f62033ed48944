"""Whose fault a time-out is.

A layer is blamed for the time that it really had, never for time that its caller or this process
could not spare.  So each limit tells how many `server_seconds` the other side had, and the rule
here turns them into a failure, a part of one, or nothing.
"""

from __future__ import annotations

from enum import Enum

#: A layer that had this share of its limit has used it up; the rest went to other things in this
#: process.
USED_UP = 0.5


class Blame(Enum):
    """What a time-out counts against the layer."""

    NONE = "nothing: it was not asked, or nobody waits for a limit"
    PARTIAL = "a part of a failure: parts add up until they reach the limit"
    FULL = "a failure"


def blame(limit: float | None, budget: float | None, server_seconds: float) -> Blame:
    """Tell what a time-out counts.  All in seconds.

    `limit`: the layer's own, None: there is none.  `budget`: what the call was given, which a
    caller's deadline may have made shorter.  `server_seconds`: what the other side had of it.
    """
    if limit is None or not server_seconds:
        return Blame.NONE
    if budget is None or budget < limit or server_seconds < USED_UP * limit:
        return Blame.PARTIAL
    return Blame.FULL
