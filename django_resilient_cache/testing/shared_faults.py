"""Faults that hold in every process, switched through a directory with a small file for each.

A file appears whole (it is renamed into place) and is never changed; to end a fault is to remove
its file.  So no process waits for another, and none can leave a half-written word behind.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from django_resilient_cache.testing.active_faults import Active, Faults, Healing
from django_resilient_cache.testing.fault import Fault
from django_resilient_cache.testing.fault_file import dump, load

logger = logging.getLogger("django_resilient_cache")

#: Seconds between two looks of a call that waits.
POLL_SECONDS = 0.02

#: Seconds after its last change in which a directory may change again with the same time.
UNSETTLED_SECONDS = 0.1


class SharedFaults(Faults):
    """What goes wrong in all processes whose `FaultyCache` names this directory as ``SHARED``.

    Needs neither settings nor a cache: a test, a script or a shell switches a site's faults with
    ``SharedFaults("/run/faults/redis").hang()``.  The directory is made with the first fault.  A
    fault holds from a process's next call on and stays until it is healed, by whatever process.
    Raises ImproperlyConfigured where the directory is none or cannot be read.
    """

    _every = POLL_SECONDS

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        super().__init__()
        self.directory = Path(directory)
        if not self.directory.is_absolute():
            raise ImproperlyConfigured(
                f'SHARED is "{directory}"; write an absolute path, '
                "since each process would look for another one where it happens to be"
            )
        self._seen: object = None
        self._own: set[str] = set()
        self._told: dict[str, str] = {}

    def add(self, fault: Fault) -> Healing:
        """Put `fault` in force; raises ValueError where its error cannot be told to others."""
        text = dump(fault)
        self._look()
        name = f"{time.time_ns():020}-{secrets.token_hex(4)}.json"
        active = Active(fault, name)
        with self._changed:
            self.directory.mkdir(parents=True, exist_ok=True)
            draft = self.directory / f".{name}"
            draft.write_text(text, encoding="utf-8")
            draft.rename(self.directory / name)
            self._own.add(name)
            self._active.append(active)
        return Healing(self, active)

    def heal(self) -> None:
        """End all faults, whoever added them; what is late in this process has landed then."""
        for name in self._names():
            (self.directory / name).unlink(missing_ok=True)
        self._look()

    def discard(self) -> None:
        """As `Faults.discard`, of those that were added here; others' stay."""
        with self._changed:
            own = [active for active in self._active if active.name in self._own]
        self._end(own, discard=True)
        self._wait_until_left()

    def _end(self, ended: Sequence[Active], *, discard: bool = False) -> None:
        with self._changed:
            for active in ended:
                (self.directory / active.name).unlink(missing_ok=True)
                self._own.discard(active.name)
        super()._end(ended, discard=discard)

    def _wait_for(self, active: Active) -> None:
        seconds = active.fault.seconds
        until = inf if seconds is None else time.monotonic() + seconds
        while not active.ended.wait(max(0.0, min(POLL_SECONDS, until - time.monotonic()))):
            if time.monotonic() >= until:
                return
            self._look()

    def _look(self) -> None:
        if self._seen is not None and self._signature() == self._seen:
            return
        with self._changed:
            self._seen = self._signature()  # before the names: what comes between is seen again
            names = self._names()
            known = {active.name: active for active in self._active}
            self._active = [
                active for name in names if (active := known.get(name) or self._read(name))
            ]
            gone = [active for name, active in known.items() if name not in names]
        if gone:
            super()._end(gone)

    def _signature(self) -> object:
        """Return what differs once a file has come or gone; None: that cannot be told yet."""
        try:
            found = self.directory.stat()
        except FileNotFoundError:
            return "no directory"
        except OSError:
            return None  # which is told when it is to be read
        if time.time() - found.st_mtime < UNSETTLED_SECONDS:
            return None
        return found.st_mtime_ns, found.st_ino

    def _names(self) -> list[str]:
        try:
            names = [entry.name for entry in self.directory.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            self._seen = None
            raise ImproperlyConfigured(
                f'SHARED is "{self.directory}", which cannot be read ({error}); '
                "write a directory that this user may list"
            ) from error
        return sorted(name for name in names if name.endswith(".json") and name[0] != ".")

    def _read(self, name: str) -> Active | None:
        """Return the fault in a file; None: it is none, or has just gone."""
        try:
            text = (self.directory / name).read_text(encoding="utf-8")
            return Active(load(text), name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self._seen = None  # whoever writes by hand may not be done
            if self._told.get(name) != str(error):
                self._told[name] = str(error)
                logger.error("%s is no fault: %s", self.directory / name, error)  # noqa: TRY400 - told by its text
            return None

    def _reset_after_fork(self) -> None:
        super()._reset_after_fork()
        self._own.clear()
