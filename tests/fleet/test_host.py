"""Who this process is, and whether another one is still there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from django_resilient_cache.fleet.board.host import _program, this_clock, this_process
from tests import services


def test_the_clock_goes_on_for_all_processes_alike():
    clock = this_clock()
    code = (
        "from django_resilient_cache.fleet.board.host import this_clock\n"
        "clock = this_clock(); print(clock.boot, clock.elapsed())\n"
    )
    before = clock.elapsed()
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    boot, elapsed = said.rsplit(maxsplit=1)
    assert boot == clock.boot
    assert before < float(elapsed) < clock.elapsed()


def test_this_process_is_there():
    here = this_process()
    assert here.exists(here) is True
    assert here.pid == os.getpid()
    assert abs(here.started - time.time()) < 60


@pytest.mark.parametrize("field", ["boot", "space"])
def test_of_a_process_elsewhere_nothing_can_be_told(field):
    here = this_process()
    elsewhere = replace(here, boot="other") if field == "boot" else replace(here, space="other")
    assert elsewhere.exists(here) is None


def test_a_process_is_there_until_it_ends_frozen_or_not():
    here = this_process()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        seen = replace(here, pid=child.pid, born="")
        assert seen.exists(here) is True
        os.kill(child.pid, signal.SIGSTOP)
        assert seen.exists(here) is True
        os.kill(child.pid, signal.SIGKILL)
        # Until its parent has looked it is there, and dead.
        assert services.wait_until(lambda: seen.exists(here) is False, 10)
    finally:
        child.kill()
        child.communicate()
    assert seen.exists(here) is False


def test_another_process_with_its_id_is_not_it():
    here = this_process()
    if not here.born:
        pytest.skip("nothing tells when a process began")
    assert replace(here, born="1").exists(here) is False


@pytest.mark.parametrize("error", [PermissionError, OverflowError])
def test_one_that_may_not_be_asked_is_there(monkeypatch, error):
    def refuse(pid: int, signal: int) -> None:
        raise error

    here = this_process()
    monkeypatch.setattr(os, "kill", refuse)
    assert here.exists(here) is True


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/srv/venv/bin/gunicorn", "site.wsgi"], "gunicorn"),
        (["/srv/venv/lib/gunicorn/__main__.py"], "gunicorn"),
        (["manage.py", "shell"], "manage.py shell"),
        (["/srv/manage.py"], "manage.py"),
        (["/srv/venv/bin/django-admin", "runserver", "8000"], "django-admin runserver"),
        (["-c"], "python"),
        ([""], "python"),
        ([], "python"),
        (["x" * 100], "x" * 40),
    ],
)
def test_what_it_runs_is_told_shortly(argv, name):
    assert _program(argv) == name
