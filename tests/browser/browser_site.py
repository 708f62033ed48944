"""The site's processes: gunicorn with two workers, and two workers of another kind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import django_resilient_cache
from tests import services

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Processes that report: gunicorn's two and the two loops.
WORKERS = 4

MADE = """
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import Permission, User
rights = {p.codename: p for p in Permission.objects.filter(content_type__model="breaker")}
User.objects.create_superuser("ada", password="ada")
viewer = User.objects.create_user("val", password="val", is_staff=True)
viewer.user_permissions.add(rights["view_breaker"])
operator = User.objects.create_user("otto", password="otto", is_staff=True)
operator.user_permissions.set(rights.values())
"""


class Site:
    """A site that runs; `url` is its front."""

    def __init__(
        self, directory: Path, valkey: services.ValkeyServer, board: str = "", *, many: bool = False
    ) -> None:
        self.valkey = valkey
        self.directory = directory
        self.port = services.free_port()
        self.url = f"http://{services.HOST}:{self.port}"
        self.page = f"{self.url}/admin/django_resilient_cache/breaker/"
        self.loops: list[subprocess.Popen[bytes]] = []
        # The package that these tests test, installed or not; then the tests themselves.
        package = Path(django_resilient_cache.__file__).parents[1]
        self._environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.browser.browser_settings",
            "PYTHONPATH": os.pathsep.join([str(package), str(Path(__file__).parents[2])]),
            "SITE_DATABASE": str(directory / "db.sqlite3"),
            "SITE_VALKEY": valkey.url,
            "SITE_BOARD": board,
            "SITE_MANY": "yes" if many else "",
            "TMPDIR": str(directory),  # a board of its own
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        self._over = threading.Event()

    @property
    def log(self) -> str:
        """What the processes have said."""
        return (self.directory / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start everything; returns once the site answers."""
        for _ in range(2):
            self.add_loop()
        self._run("-m", "django", "shell", "--verbosity", "0", "--command", MADE)
        self._begin("-m", "gunicorn", "tests.browser.browser_wsgi", *self._gunicorn())
        assert services.wait_until(self._answers), self.log
        threading.Thread(target=self._visit, daemon=True).start()

    def add_loop(self) -> None:
        """Start a worker that is no web server."""
        self.loops.append(self._begin("-m", "tests.browser.looping_worker"))

    def stop(self) -> None:
        """End all processes, stopped ones too."""
        self._over.set()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
                process.send_signal(signal.SIGCONT)
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)

    def _gunicorn(self) -> list[str]:
        return [
            *("--bind", f"{services.HOST}:{self.port}"),
            *("--config", "python:tests.browser.browser_gunicorn"),
        ]

    def _begin(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                env=self._environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._processes.append(process)
        return process

    def _run(self, *command: str) -> None:
        assert self._begin(*command).wait(60) == 0, self.log
        self._processes.pop()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/use/", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def _visit(self) -> None:
        """Visitors, on connections of their own, so that both of gunicorn's workers have some."""
        while not self._over.wait(0.03):
            self._answers()


@contextlib.contextmanager
def site(directory: Path, board: str = "", *, many: bool = False) -> Iterator[Site]:
    """A site with a Valkey of its own; `many`: its workers are taken for many by the page."""
    with services.valkey_server() as valkey:
        running = Site(directory, valkey, board, many=many)
        try:
            running.start()
            yield running
        finally:
            valkey.thaw()
            running.stop()
