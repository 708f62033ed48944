"""How many bytecodes a healthy call runs: counts are steady where times are not.

Counted are those of the package, of the methods that data classes generate for it, and of what it
calls in the standard library.  They depend on its code and on the Python that compiled it, and on
nothing else: not on the machine, nor on its load, nor on the versions of Django and of the clients.
"""

from __future__ import annotations

import asyncio
import os
import sys
import sysconfig
import threading
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias

from benchmarks.paths import HealthyPath

#: Python 3.12 and later have it; types are checked as for 3.11.
_monitoring: Any = getattr(sys, "monitoring", None)

Function: TypeAlias = tuple[str, str]

#: Calls of which the one with the fewest counts: what the surroundings add is not the path's.
TRIES = 20

#: The file of what a data class generates, wherever the class stands.
_GENERATED = "<string>"


class _Counter:
    """Counts the instructions of this thread while its block lasts."""

    def __init__(self) -> None:
        import django_resilient_cache

        self._package = f"{Path(str(django_resilient_cache.__file__)).parent}{os.sep}"
        self._library = sysconfig.get_path("stdlib") + os.sep
        #: By module, relative to where it is installed, and function.
        self.by_function: Counter[Function] = Counter()

    def _count(self, code: CodeType) -> None:
        file = code.co_filename.removeprefix(self._package).removeprefix(self._library)
        self.by_function[file, code.co_qualname] += 1

    def _is_counted(self, frame: FrameType) -> bool:
        file = frame.f_code.co_filename
        if file.startswith(self._package):
            return True
        called_from = frame.f_back.f_code.co_filename if frame.f_back else ""
        library = file.startswith(self._library) and "site-packages" not in file
        return (library or file == _GENERATED) and called_from.startswith(self._package)


class _Tracer(_Counter):
    """By tracing: up to Python 3.11 there is nothing else."""

    def __enter__(self) -> _Tracer:
        self._before = sys.gettrace()
        sys.settrace(self._called)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)

    def _called(self, frame: FrameType, event: str, arg: object) -> Any:
        if not self._is_counted(frame):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._runs

    def _runs(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode":
            self._count(frame.f_code)
        return self._runs


class _Monitor(_Counter):
    """By monitoring, which sees every instruction of every thread."""

    def __enter__(self) -> _Monitor:
        self._thread = threading.get_ident()
        _monitoring.use_tool_id(_monitoring.PROFILER_ID, "benchmarks")
        instruction = _monitoring.events.INSTRUCTION
        _monitoring.register_callback(_monitoring.PROFILER_ID, instruction, self._runs)
        _monitoring.set_events(_monitoring.PROFILER_ID, instruction)
        return self

    def __exit__(self, *error: object) -> None:
        _monitoring.set_events(_monitoring.PROFILER_ID, 0)
        _monitoring.free_tool_id(_monitoring.PROFILER_ID)

    def _runs(self, code: CodeType, offset: int) -> None:
        if threading.get_ident() == self._thread and self._is_counted(sys._getframe(1)):
            self._count(code)


_Counting = _Tracer if _monitoring is None else _Monitor


def count(path: HealthyPath) -> Counter[Function]:
    """Return how many bytecodes a call of this path runs in each function, once it is warm."""
    if path.asynchronous:
        return asyncio.run(_fewest_awaited(path))
    return min((_one(path) for _ in range(TRIES)), key=Counter.total)


def _one(path: HealthyPath) -> Counter[Function]:
    path.prepare()
    with _Counting() as counter:
        path.call()
    return counter.by_function


async def _fewest_awaited(path: HealthyPath) -> Counter[Function]:
    return min([await _one_awaited(path) for _ in range(TRIES)], key=Counter.total)


async def _one_awaited(path: HealthyPath) -> Counter[Function]:
    path.prepare()
    with _Counting() as counter:
        await path.call()
    return counter.by_function
