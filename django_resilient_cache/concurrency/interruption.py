"""What ends a caller from outside while it is in a cache call: the limit of a task, an alarm.

Cancellation, KeyboardInterrupt and SystemExit are told by their type.  Celery's soft time limit,
rq's job time-out and the alarms of projects are plain exceptions, raised by a signal's handler
wherever the main thread happens to be.  They are for the caller and say nothing about the layer.
Standard library only.
"""

from __future__ import annotations

import dis
import sys
from inspect import CO_VARARGS
from itertools import pairwise
from traceback import walk_tb
from types import CodeType, FrameType

_NOTED = "_resilient_cache_interruption"

#: Statements that raise an exception; anywhere else it may have been thrown in.
_RAISES = frozenset({dis.opmap["RAISE_VARARGS"], dis.opmap["RERAISE"]})


def note(error: BaseException) -> None:
    """Note that `error` came from outside: it was raised where nothing but waiting was done."""
    error.__dict__[_NOTED] = True


def interrupts(error: BaseException) -> bool:
    """Whether `error` ends the caller, rather than telling of what it called."""
    if not isinstance(error, Exception) or _NOTED in error.__dict__:
        return True
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    handled = any(_handles(inner, outer) for outer, inner in pairwise(frames))
    return handled or _is_thrown(error, frames)


def _handles(frame: FrameType, outer: FrameType) -> bool:
    """Whether `frame` is that of a signal's handler that interrupted `outer`.

    Nothing else is called with its own caller's frame.
    """
    code = frame.f_code
    if code.co_argcount < 2 and not code.co_flags & CO_VARARGS:  # noqa: PLR2004 - signal, frame
        return False
    names = frame.f_locals
    for name in _parameters(code):
        value = names.get(name)
        if value is outer or (type(value) is tuple and any(each is outer for each in value)):
            return True
    return False


def _parameters(code: CodeType) -> tuple[str, ...]:
    named = code.co_argcount + code.co_kwonlyargcount
    return code.co_varnames[: named + bool(code.co_flags & CO_VARARGS)]


def _is_thrown(error: Exception, frames: list[FrameType]) -> bool:
    """Whether another thread has thrown `error` into this one (`PyThreadState_SetAsyncExc`).

    Such a one has no arguments, and its class is of a package that has no part in the call.
    """
    package = _package(type(error).__module__)
    if error.args or package in _OF_EVERYBODY or not frames:
        return False
    if any(_package(frame.f_globals.get("__name__")) == package for frame in frames):
        return False
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    assert innermost is not None  # noqa: S101 - there are frames
    code = innermost.tb_frame.f_code.co_code
    return code[innermost.tb_lasti] not in _RAISES


#: Packages whose exceptions any code may raise, or code that has no frames.
_OF_EVERYBODY = sys.stdlib_module_names | {"django", "hiredis", "libvalkey", "pylibmc", "_pylibmc"}


def _package(module: object) -> str:
    return str(module).partition(".")[0]
