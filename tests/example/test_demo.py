"""The demo itself, with real processes: what it claims holds, and it leaves nothing behind."""

from __future__ import annotations

import re
import signal
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from demo.errors import DemoError
from demo.processes import check_requirements

from tests.services import unavailable, wait_until

if TYPE_CHECKING:
    from tests.example.conftest import Manage

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _requirements() -> None:
    try:
        check_requirements()
    except DemoError as missing:
        unavailable(str(missing))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the demo puts its files: it must be empty again at the end."""
    made = tmp_path / "temporary"
    made.mkdir()
    return made


def processes_of(directory: Path) -> list[int]:
    """Ids of running processes with this directory in their arguments or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(directory).encode() in told:
            found.append(int(process.name))
    return found


class Switch:
    """The page that freezes and resumes Valkey, as a browser uses it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def look(self) -> str:
        with self.browser.open(self.url, timeout=10) as page:
            return page.read().decode()

    def press(self, button: str) -> str:
        token = re.search('name="csrfmiddlewaretoken" value="([^"]+)"', self.look())
        assert token is not None
        form = {"csrfmiddlewaretoken": token[1], "do": button}
        with self.browser.open(self.url, urllib.parse.urlencode(form).encode(), 10) as page:
            return page.read().decode()


def left_in(directory: Path) -> list[Path]:
    """What the demo left there; the board of its workers is the user's, and stays."""
    return [path for path in directory.iterdir() if not path.name.startswith("resilient-cache-")]


def test_the_whole_rehearsal(manage: Manage, directory: Path) -> None:
    """Throughput and times depend on what else the machine does: here they may not hold."""
    done = manage("demo", "--once", "--seconds", "4", "--workers", "2", TMPDIR=str(directory))
    report = done.stdout + done.stderr
    broken = re.findall(r"Did not hold: (.*)", report)
    assert done.returncode == bool(broken), report
    assert not [claim for claim in broken if not re.match("only|the slowest page", claim)], report
    assert re.search(r"Served while Redis was frozen +\d+% of the usual rate +\d+%", report)
    assert re.search(r"Errors; visitors hung +0;", report)
    assert re.search(r"2 of 2 open in [\d.]+ s, closed again in [\d.]+ s", report)
    assert re.search(r" frozen .* open 2/2 ", report)
    assert "\x1b" not in report
    assert max(map(len, report.splitlines())) <= 80
    assert not left_in(directory)
    assert not processes_of(directory)


@pytest.mark.parametrize(("ending", "moment"), [(signal.SIGINT, "frozen"), (signal.SIGTERM, "ok")])
def test_an_interrupted_demo_leaves_nothing_behind(
    manage: Manage, directory: Path, ending: signal.Signals, moment: str
) -> None:
    process = manage.popen(
        "demo", "--once", "--seconds", "2", "--workers", "1", TMPDIR=str(directory)
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if f" {moment} " in line:
                break
        process.send_signal(ending)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.communicate()
    assert not left_in(directory)
    assert not processes_of(directory)


def test_it_serves_the_site_until_it_is_interrupted(manage: Manage, directory: Path) -> None:
    process = manage.popen(
        "demo", "--no-comparison", "--seconds", "2", "--workers", "1", TMPDIR=str(directory)
    )
    assert process.stdout is not None
    url = ""
    try:
        for line in process.stdout:
            if found := re.search(r"The site is at (http\S+)", line):
                url = found[1]
            if "until Ctrl-C" in line:
                break
        with urllib.request.urlopen(url, timeout=10) as page:
            assert b"Tidewater Conf" in page.read()
        switch = Switch(f"{url}valkey/")
        assert "Valkey is running" in switch.look()
        assert "Valkey is frozen" in switch.press("freeze")
        assert "Valkey is running" in switch.press("resume")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    assert wait_until(lambda: not processes_of(directory))
