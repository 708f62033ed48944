"""A PostgreSQL for tests, on loopback and on a free port; empty of what an earlier test made."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.services import HOST, RealServer, ServerDidNotStartError, unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Debian keeps the server's programs off the PATH.
_DEBIAN = "/usr/lib/postgresql"


class PostgreSQLServer(RealServer):
    """PostgreSQL; anybody on loopback may enter as `user`, `database` is always there."""

    name = "postgresql"
    host = HOST
    user = "tests"
    password = ""
    database = "postgres"

    def __init__(self, programs: Path) -> None:
        super().__init__()
        self.programs = programs
        #: The server refuses to run as root.
        self.owner = _unprivileged() if os.geteuid() == 0 else None
        self.data = self.directory / "data"
        self._made: set[str] = set()

    def databases_entry(self, name: str) -> dict[str, Any]:
        """The entry in DATABASES of the database `name`, which is made if it is not there."""
        if name != self.database and name not in self._made:
            self.run(f'CREATE DATABASE "{name}"')
            self._made.add(name)
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "USER": self.user,
            "PASSWORD": self.password,
            "HOST": self.host,
            "PORT": self.port,
        }

    def run(self, statement: str) -> None:
        """Run one statement on a connection of its own, outside any transaction."""
        import psycopg

        with psycopg.connect(
            host=self.host, port=self.port, user=self.user, dbname=self.database, autocommit=True
        ) as connection:
            connection.execute(statement)

    def empty(self) -> None:
        """Drop the databases that a test has made, whoever is still connected."""
        while self._made:
            self.run(f'DROP DATABASE IF EXISTS "{self._made.pop()}" WITH (FORCE)')

    def command(self) -> Sequence[str]:
        options = (
            f"port={self.port}",
            f"listen_addresses={HOST}",
            "unix_socket_directories=",
            "fsync=off",
            "shared_buffers=16MB",
        )
        settings = (part for option in options for part in ("-c", option))
        return (str(self.programs / "postgres"), "-D", str(self.data), *settings)

    def answers(self) -> bool:
        ready = (str(self.programs / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port))
        return subprocess.run(ready, check=False, timeout=20).returncode == 0

    def start(self) -> None:
        if not self.data.exists():
            self._initialise()
        super().start()

    def freeze(self) -> None:
        """Stop the server and every process that serves a connection."""
        super().freeze()
        for pid in self._children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self.running:
            for pid in self._children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        super().thaw()

    def kill(self) -> None:
        """End every process of the server at once."""
        if self.running:
            os.kill(self.pid, signal.SIGSTOP)  # so that it starts no more of them
        children = self._children() if self.running else []
        super().kill()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(self._refuses)
        # One that still ends holds on to the memory that they share.
        wait_until(lambda: not any(map(_is_alive, children)))
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it in order, so that it sees its own processes off."""
        if self.running:
            self.thaw()
            os.kill(self.pid, signal.SIGQUIT)
            wait_until(lambda: not self.running, 5.0)
        super().stop()

    def _children(self) -> list[int]:
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parent = status.read_text(encoding="utf-8").rpartition(")")[2].split()[1]
                if int(parent) == self.pid:
                    found.append(int(status.parent.name))
        return found

    def _refuses(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(self.address, timeout=0.2):
            return False
        return True

    def _initialise(self) -> None:
        if self.owner is not None:
            shutil.chown(self.directory, self.owner)
        made = subprocess.run(
            (
                *(str(self.programs / "initdb"), "-D", str(self.data), "-U", self.user),
                *("-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"),
            ),
            user=self.owner,
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise ServerDidNotStartError(f"initdb: {made.stderr[-2000:]}")


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for whoever reaps it."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        return not status.rpartition(")")[2].split()[0].startswith(("Z", "X"))
    return False


def postgresql_server() -> PostgreSQLServer:
    """A PostgreSQL of one's own: `with postgresql_server() as server: ...`."""
    try:
        import psycopg  # noqa: F401  # whether it is there
    except ImportError:
        unavailable("no psycopg")
    programs = _programs()
    if programs is None:
        unavailable("no PostgreSQL: neither on the PATH nor where Debian keeps it")
    return PostgreSQLServer(programs)


def _programs() -> Path | None:
    found = shutil.which("initdb")
    if found and (Path(found).parent / "postgres").exists():
        return Path(found).resolve().parent
    folders = sorted(Path(_DEBIAN).glob("*/bin"), key=lambda folder: float(folder.parent.name))
    return folders[-1] if folders else None


def _unprivileged() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
