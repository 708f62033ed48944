"""Where and when this process runs, in terms that another process can make use of.

Clocks of two hosts are never compared.  Processes of one boot share a clock that nobody sets, so
among them a moment is told exactly; and among those that see the same process ids, whether one
is still there.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Time since the boot in seconds, suspended or not, as all processes of this host have it.
if hasattr(time, "CLOCK_BOOTTIME"):

    def _elapsed() -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:
    _elapsed = time.monotonic

_LONGEST_PROGRAM = 40
_NAMES_OF_NOTHING = ("__main__.py", "-c", "-m", "")
_STOPPED_FOR_GOOD = ("Z", "X")


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """The time of one host."""

    boot: str
    """Equal for processes that have `elapsed` in common."""
    elapsed: Callable[[], float]
    """Seconds since some moment; only ever goes forward."""
    wall: Callable[[], float]
    """Seconds since the epoch, as set by whoever sets it: to be shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """One process, as others may find it."""

    host: str
    pid: int
    boot: str
    space: str
    """Equal, with the same boot, for processes that see the same process ids."""
    born: str
    """Tells apart two processes that have the id one after the other; empty: not known."""
    started: float
    """Seconds since the epoch, on the host's clock."""
    program: str

    def exists(self, observer: Process) -> bool | None:
        """Return whether it is still there; None: `observer` cannot tell from where it is."""
        if (self.boot, self.space) != (observer.boot, observer.space):
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except (OSError, OverflowError):  # not allowed, for one: it is there
            pass
        state, born = _state_and_birth(self.pid)
        if state in _STOPPED_FOR_GOOD:
            return False
        return not (self.born and born) or self.born == born


def this_clock() -> Clock:
    """Return the clock of this host."""
    return Clock(boot=_boot(), elapsed=_elapsed, wall=time.time)


def this_process() -> Process:
    """Return this process; `started` is now."""
    return Process(
        host=socket.gethostname(),
        pid=os.getpid(),
        boot=_boot(),
        space=_namespace("pid"),
        born=_state_and_birth(os.getpid())[1],
        started=time.time(),
        program=_program(sys.argv),
    )


def _boot() -> str:
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{_namespace('time')}"
    return f"host {socket.gethostname()}"


def _namespace(kind: str) -> str:
    with suppress(OSError):
        return str(Path(f"/proc/self/ns/{kind}").stat().st_ino)
    return ""


def _state_and_birth(pid: int) -> tuple[str, str]:
    """Return a process's state and when it began, where /proc tells; else empty texts."""
    with suppress(OSError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = stat.rpartition(")")[2].split()
        return fields[0], fields[19]
    return "", ""


def _program(argv: list[str]) -> str:
    """Return what runs here, shortened: "gunicorn", "celery", "manage.py shell"."""
    path = Path(argv[0] if argv else "")
    name = path.name
    if name in _NAMES_OF_NOTHING:
        name = path.parent.name or "python"
    words = [name]
    if name in ("manage.py", "django-admin", "django") and len(argv) > 1:
        words.append(argv[1])
    return " ".join(words)[:_LONGEST_PROGRAM]
