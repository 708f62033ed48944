"""Whose fault a time-out is.

A layer is blamed for the time that it really had, never for time that its caller could not spare or
that this process lost to its own busy threads.  So each limit tells how many `server_seconds` the
other side had of a wait, and `blame` turns them into a failure, a part of one, or nothing.

What a wait gave the other side is computed here alone, because it takes some guessing.  A process
short of processor time sends late, reads late and wakes late, and cannot tell the server's share
of what it measures from its own.  There are two signs of that: it takes long to get the processor
back after offering it (`processor_delay`), and a thread wakes long after it was to.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum
from math import inf

#: A layer that had this share of its limit has used it up; the rest went to other things in this
#: process.
USED_UP = 0.5

#: Seconds.  Whoever gets the processor back later than this is starved: in a healthy process that
#: takes microseconds, beside other threads that compute the interpreter's switch interval of 5 ms.
STARVED_AFTER = 0.002
#: Seconds for which such a measurement holds.
_MEASUREMENT_HOLDS = 0.005

#: How often a call must get the processor until it is done.  Each time it may have to wait for it
#: as long as its waiter did.
_HANDOVERS_OF_A_CALL = 4
#: The same for a helper that looks up a name, connects and shakes hands.
_HANDOVERS_OF_CONNECTING = 3


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


# What the other side had of a wait


def in_exchanges(outstanding: float, completed: float) -> float:
    """Return the server's seconds in a call of several requests and answers.

    `outstanding`: for so long it surely owed an answer.  `completed`: what the exchanges before
    took, which nobody can divide in a starved process.
    """
    if completed > 0.0 and not is_starved():
        return outstanding + completed
    return outstanding


def in_endless_exchange(seconds: float) -> float:
    """Return the server's seconds in an exchange that goes on and on: a starved process does that."""
    return 0.0 if is_starved() else seconds


def in_connecting(joined: float, asked: float, has_answered: Callable[[], bool] | None) -> float:
    """Return the server's seconds while a helper connects for a caller that `joined` it then.

    `asked`: when the helper's last step began.  `has_answered`: whether the answer to its last
    request is there; None: it has sent none, it looks up the name or is in TCP or TLS.
    """
    delay = processor_delay()
    now = time.monotonic()
    if delay < STARVED_AFTER:
        return now - joined
    # The helper starves as well, so that its progress says little.  What counts is how long its
    # last request has been out, provided that no answer is there for it to find.
    out = now - max(joined, asked)
    if has_answered is None:
        return max(0.0, out - _HANDOVERS_OF_CONNECTING * delay)
    return 0.0 if has_answered() else out


def on_a_thread(planned: float, waited: float) -> float:
    """Return the other side's seconds where a caller planned to wait for a thread, and has waited.

    Where it woke late, the thread waited for the processor about as long each time.
    """
    late = max(0.0, waited - planned)
    return max(0.0, min(planned, waited) - _HANDOVERS_OF_A_CALL * late)


def is_starved() -> bool:
    """Whether this process is short of processor time at the moment."""
    return processor_delay() >= STARVED_AFTER


class ProcessorDelay:
    """How many seconds it takes to get the processor back after offering it to others.

    Calls that end at the same time ask once for all of them: in an event loop each would keep all
    others waiting.
    """

    def __init__(self) -> None:
        self._measured = (-inf, 0.0)

    def __call__(self) -> float:
        at, delay = self._measured
        start = time.monotonic()
        if start - at < _MEASUREMENT_HOLDS:
            return delay
        time.sleep(0)
        end = time.monotonic()
        self._measured = (end, end - start)
        return end - start


processor_delay = ProcessorDelay()
