"""python -m tests.django_suite DIRECTORY [pytest's arguments]: fetch Django's tests and run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.django_suite.fetch import fetch

FOLDER = Path(__file__).parent


def main(directory: str, *arguments: str) -> int:
    place = fetch(Path(directory))
    environment = {
        **os.environ,
        "RESILIENT_CACHE_DJANGO_TESTS": str(place),
        "DJANGO_SETTINGS_MODULE": "tests.django_suite.suite_settings",
    }
    command = [sys.executable, "-m", "pytest", str(FOLDER), *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
