"""Where a board can be: an alias in CACHES, or else a directory of this user's on this host."""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.core.cache.backends.filebased import FileBasedCache
from django.core.signals import setting_changed

from django_resilient_cache import conf
from django_resilient_cache.adapters.commands import Command, Delete, GetMany, Set
from django_resilient_cache.conf import ControlConfig
from django_resilient_cache.fleet.board.board import Board, Store
from django_resilient_cache.timeouts.strategy import make_limit
from django_resilient_cache.timeouts.time_limit import BulkheadFull, TimedOut

_PREFIX = "resilient-cache-"
_DIGEST = 12

#: Limit of one call to an alias in seconds, where less is not left anyway.
CALL_SECONDS = 2.0

#: Seconds without a report after which a private directory is not in use any more.
_IN_USE = 60.0

#: Files in the private directory from which on expired ones are looked for.
_MANY_FILES = 1000


class DirectoryRefused(OSError):
    """The private directory is not this user's own."""


#: The stores of this process: connections and threads are shared by all who look at a board.
_stores: dict[ControlConfig, Store] = {}


def open_board(config: ControlConfig) -> Board:
    """Return the board that the settings name.  Nothing is read or written yet."""
    store = _stores.get(config)
    if store is None:
        made: Store = AliasStore(config) if config.layer else DirectoryStore(config)
        store = _stores.setdefault(config, made)
    return Board(store, config.project)


def _settings_changed(*, setting: str, **kwargs: object) -> None:
    if setting == "CACHES":
        while _stores:
            _stores.popitem()[1].close()


setting_changed.connect(_settings_changed, dispatch_uid="django_resilient_cache.fleet.board.stores")


class AliasStore:
    """An alias in CACHES, on an instance of our own, under a limit of our own.

    No breaker: a board that is away is left alone by those who use it.
    """

    def __init__(self, config: ControlConfig) -> None:
        assert config.layer is not None  # noqa: S101 - see open_board
        self.title = f"CACHES[{conf.show(config.layer.alias)}]"
        self.remedy = "See that its server is up and can be reached from here."
        self.keeps_time = config.keeps_time
        self.one_host = False
        self._limit = make_limit(config.layer)

    def get_many(self, keys: list[str], budget: float) -> dict[str, object]:
        found: dict[str, object] = self._call(GetMany(keys, None), budget)
        return found

    def set(self, key: str, value: str, seconds: float | None, budget: float) -> None:
        self._call(Set(key, value, seconds, None), budget)

    def delete(self, key: str, budget: float) -> None:
        self._call(Delete(key, None), budget)

    def close(self) -> None:
        self._limit.close()

    def _call(self, command: Command, budget: float) -> Any:
        try:
            return self._limit.call(command, min(budget, CALL_SECONDS), trial=False).value
        except (TimedOut, BulkheadFull):
            raise TimeoutError(f"no answer within {budget:.2g} s") from None


class DirectoryStore:
    """Files in a directory that only this user can read or write."""

    keeps_time = False  # a file is judged by the clock of whoever reads it
    one_host = True

    def __init__(self, config: ControlConfig) -> None:
        self.path = private_path(config)
        self.title = f"files in {self.path} (as {_user()})"
        self.remedy = (
            "See that the directory can be written by this user alone, or name an alias that all "
            f"workers share in {conf.CONTROL_SETTING}."
        )
        self._files: FileBasedCache | None = None

    def get_many(self, keys: list[str], budget: float) -> dict[str, object]:
        return GetMany(keys, None).run(self._own()).value or {}

    def set(self, key: str, value: str, seconds: float | None, budget: float) -> None:
        self._own().set(key, value, seconds)

    def delete(self, key: str, budget: float) -> None:
        self._own().delete(key)

    def close(self) -> None:
        """Nothing is kept open."""

    def _own(self) -> FileBasedCache:
        """Return the files, in a directory that was this user's own just now.

        In a directory where everybody may write, as the one for temporary files, nobody else can
        then take it away.
        """
        try:
            refusal = directory_refusal(self.path)
        except FileNotFoundError:
            self.path.mkdir(mode=0o700)
            refusal = directory_refusal(self.path)
        if refusal:
            raise DirectoryRefused(refusal)
        if self._files is None:
            self._files = _Files(str(self.path), {})
        return self._files


class _Files(FileBasedCache):
    """Where there are many, expired ones go, and never others."""

    _many = _MANY_FILES

    def _cull(self) -> None:
        names = self._list_cache_files()  # type: ignore[attr-defined]  # FileBasedCache's own
        if len(names) < self._many:
            return
        for name in names:
            with suppress(OSError), Path(name).open("rb") as file:
                self._is_expired(file)  # type: ignore[attr-defined]  # the same
        self._many = 2 * max(_MANY_FILES, len(self._list_cache_files()))  # type: ignore[attr-defined]  # as above


def private_path(config: ControlConfig) -> Path:
    """Return the private directory of this user, project and settings module."""
    identity = f"{config.path}\0{config.settings_module}"
    digest = hashlib.sha256(identity.encode(errors="replace")).hexdigest()[:_DIGEST]
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", config.settings_module)[:40] or "no-settings"
    name = f"{_PREFIX}{_user_id()}-{readable}-{digest}"
    return Path(tempfile.gettempdir()) / name


def others_in_use(config: ControlConfig) -> list[str]:
    """Return the private directories here where workers of other users or settings meet now.

    Those of the same settings come first.
    """
    mine, found = private_path(config), []
    ours, everybody = mine.name[-_DIGEST:], mine.parent.glob(f"{_PREFIX}*")
    for path in sorted(everybody, key=lambda path: (not path.name.endswith(ours), path)):
        with suppress(OSError):
            status = path.lstat()
            recent = time.time() - status.st_mtime < _IN_USE
            if path != mine and stat.S_ISDIR(status.st_mode) and recent:
                found.append(f"{path} (of {_user_name(status.st_uid)})")
    return found


def directory_refusal(path: Path) -> str | None:
    """Return why this cannot be the private directory; None: it is one.

    Raises FileNotFoundError where there is none yet.
    """
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return f"{path} is {'a link' if stat.S_ISLNK(found.st_mode) else 'no directory'}"
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        return f"{path} belongs to another user (id {found.st_uid})"
    if hasattr(os, "geteuid") and stat.S_IMODE(found.st_mode) & 0o077:
        return f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):o})"
    return None


def _user_id() -> str:
    return str(os.geteuid()) if hasattr(os, "geteuid") else _user()


def _user() -> str:
    return _user_name(os.geteuid()) if hasattr(os, "geteuid") else getpass.getuser()


def _user_name(number: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(number).pw_name
    except (KeyError, ImportError):  # a container's user without a name; not a POSIX system
        return f"user {number}"
