"""What ends a caller from outside while it is in a cache call: the limit of a task, an alarm.

Cancellation, KeyboardInterrupt and SystemExit are told by their type.  Celery's soft time limit,
rq's job time-out and the alarms of projects are plain exceptions, raised by a signal's handler
wherever the main thread happens to be, or thrown in by another thread.  They are for the caller
and say nothing about the layer.  Standard library only.
"""

from __future__ import annotations

from inspect import CO_VARARGS
from itertools import pairwise
from traceback import walk_tb
from types import CodeType, FrameType

_NOTED = "_resilient_cache_interruption"

#: Packages that limit the time of tasks (billiard: Celery's); no cache client raises their errors.
_TASK_LIMITS = frozenset({"billiard", "rq", "stopit"})


def note(error: BaseException) -> None:
    """Note that `error` came from outside: it was raised where nothing but waiting was done."""
    error.__dict__[_NOTED] = True


def interrupts(error: BaseException) -> bool:
    """Whether `error` ends the caller, rather than telling of what it called."""
    if not isinstance(error, Exception) or _NOTED in error.__dict__ or _limits_a_task(error):
        return True
    frames = (frame for frame, _ in walk_tb(error.__traceback__))
    return any(_handles(inner, outer) for outer, inner in pairwise(frames))


def _limits_a_task(error: Exception) -> bool:
    return any(str(cls.__module__).partition(".")[0] in _TASK_LIMITS for cls in type(error).__mro__)


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
