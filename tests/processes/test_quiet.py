"""Who uses no chain takes part in nothing."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.processes.site_processes import boards_in

if TYPE_CHECKING:
    from tests.processes.site_processes import Site

LOOKS = """
import threading, time
import django
django.setup()
from django.core.cache import cache, caches
from django.core.management import call_command
import django_resilient_cache, django_resilient_cache.backend, django_resilient_cache.fleet
caches["far"], caches["memory"].get("key")
call_command("check")
time.sleep(1.5)
print([thread.name for thread in threading.enumerate()])
"""

USES = """
import django
django.setup()
from django.core.cache import cache
cache.set("key", 1)
print(cache.get("key"))
"""


def run(site: Site, *command: str) -> str:
    """What `python ...` prints."""
    done = subprocess.run(
        [sys.executable, *command],
        env={**site.environment, "SITE_DATABASES": DATABASES},
        cwd=site.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


DATABASES = '{"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}'


@pytest.mark.slow
def test_without_a_use_there_is_no_thread_and_no_board(site):
    assert run(site, "-c", LOOKS).splitlines()[-1] == "['MainThread']"
    assert boards_in(site.directory) == []


@pytest.mark.parametrize("command", ["check", "migrate"])
def test_commands_of_djangos_leave_no_board(site, command):
    run(site, "-m", "django", command)
    assert boards_in(site.directory) == []


def test_a_short_command_that_uses_the_cache_leaves_no_board(site):
    assert run(site, "-c", USES) == "1\n"
    assert boards_in(site.directory) == []


def test_looking_makes_no_worker_of_the_one_who_looks(site):
    assert site.seen()["workers"] == []
    assert site.breakers("--reset").code == 1
    assert site.seen()["workers"] == []
