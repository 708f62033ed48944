"""python -m tests.django_suite.fetch DIRECTORY: the cache tests of the installed Django."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

import django


def fetch(directory: Path) -> Path:
    """Return where the package `cache` of the installed Django's tests can be imported from."""
    place = directory / django.__version__
    if not (place / "cache" / "tests.py").exists():
        with tempfile.TemporaryDirectory() as scratch:
            with tarfile.open(_source(Path(scratch))) as archive:
                _unpack(archive, Path(scratch) / "tests")
            place.mkdir(parents=True, exist_ok=True)
            (Path(scratch) / "tests" / "cache").rename(place / "cache")
    return place


def _source(scratch: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wanted = ["--no-deps", "--no-binary", "django", f"django=={django.__version__}"]
    subprocess.run([*pip, "download", "--dest", str(scratch), *wanted], check=True)
    return next(scratch.glob("*.tar.gz"))


def _unpack(archive: tarfile.TarFile, to: Path) -> None:
    """Write the files of tests/cache, by their last name only: nothing ends up elsewhere."""
    (to / "cache").mkdir(parents=True)
    for member in archive.getmembers():
        path = PurePosixPath(member.name)
        if member.isfile() and path.parts[1:-1] == ("tests", "cache"):
            file = archive.extractfile(member)
            assert file is not None
            (to / "cache" / path.name).write_bytes(file.read())


if __name__ == "__main__":
    sys.stdout.write(f"{fetch(Path(sys.argv[1]))}\n")
