"""The example project's modules, importable as its manage.py finds them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import django_resilient_cache

PROJECT = Path(__file__).resolve().parents[2] / "example_project"
if not PROJECT.is_dir():
    pytest.skip("the example project is not part of this archive", allow_module_level=True)
sys.path.append(str(PROJECT))


class Manage:
    """Runs the example's manage.py as a user does, in a process of its own."""

    def __init__(self, database: Path) -> None:
        self.environment = {
            **os.environ,
            "DATABASE": str(database),
            "DJANGO_SETTINGS_MODULE": "conference.settings",
            "NO_COLOR": "1",
            # The package that these tests test, installed or not.
            "PYTHONPATH": str(Path(django_resilient_cache.__file__).parents[1]),
        }

    def popen(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(PROJECT / "manage.py"), *arguments],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.popen(*arguments, **environment)
        try:
            output, errors = process.communicate(timeout=150)
        except BaseException:  # whatever it was: nothing is left running
            process.terminate()  # it stops what it has started
            process.communicate(timeout=30)
            raise
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


@pytest.fixture
def manage(tmp_path: Path) -> Manage:
    return Manage(tmp_path / "db.sqlite3")
