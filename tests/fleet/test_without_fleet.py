"""The caches do without the fleet, the admin and the command: what is deleted is not missed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import django_resilient_cache

pytestmark = pytest.mark.slow

PACKAGE = Path(django_resilient_cache.__file__).parent
TESTS = Path(__file__).parents[1]

#: What operators see, and what it is made of.
FOR_OPERATORS = ("fleet", "admin", "management", "templates", "static", "locale")

#: Tests of the cache itself that take seconds.
OF_THE_CACHE = (
    "test_backend.py",
    "test_chain.py",
    "test_registry.py",
    "test_telling.py",
    "test_layer.py",
    "test_background.py",
)

#: Not the starts and ends of processes, which take most of the time.
QUICK = ("-k", "not process and not command")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package and its tests, without what is for operators."""
    without = shutil.ignore_patterns("__pycache__", *FOR_OPERATORS, "fleet", "command", "browser")
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=without)
    shutil.copytree(TESTS, tmp_path / "tests", ignore=without)
    shutil.copy(TESTS.parent / "pyproject.toml", tmp_path)
    assert not (tmp_path / PACKAGE.name / "fleet").exists()
    return tmp_path


def test_its_tests_pass(copy: Path) -> None:
    tests = [str(copy / "tests" / name) for name in OF_THE_CACHE]
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-x",
            *QUICK,
            *tests,
        ],
        cwd=copy,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_checks_run_and_no_thread_is_started(copy: Path) -> None:
    code = (
        "import threading\n"
        "import django\n"
        "from django.core.management import call_command\n"
        "from django.core.cache import cache\n"
        "django.setup()\n"
        "import django_resilient_cache\n"
        f"assert django_resilient_cache.__file__.startswith({str(copy)!r})\n"
        "call_command('check')\n"
        "cache.set('key', 1)\n"
        "assert cache.get('key') == 1\n"
        "assert threading.active_count() == 1\n"
    )
    (copy / "plain.py").write_text(
        "SECRET_KEY = 'x'\n"
        "INSTALLED_APPS = ['django_resilient_cache']\n"
        "CACHES = {\n"
        "    'default': {'BACKEND': 'django_resilient_cache.backend.ResilientCache',\n"
        "                'LOCATION': ['memory']},\n"
        "    'memory': {'BACKEND': 'django.core.cache.backends.locmem.LocMemCache'},\n"
        "}\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=copy,
        env={"PYTHONPATH": str(copy), "DJANGO_SETTINGS_MODULE": "plain"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
