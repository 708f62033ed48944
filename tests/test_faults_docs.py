"""Every code block of docs/testing.md and of the README's section on it runs as it is written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import Parameter, signature
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from django_resilient_cache.testing import Faults
from tests.services import HOST, free_port, unavailable, wait_until

ROOT = Path(__file__).parent.parent
PAGES = {"docs": ROOT / "docs" / "testing.md", "README": ROOT / "README.md"}
DIRECTORY = "/run/faults/redis"

#: What the pages take for granted: a project with a chain.
SETTINGS = """
SECRET_KEY = "for tests only"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["django_resilient_cache"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CACHES = {
    "default": {
        "BACKEND": "django_resilient_cache.backend.ResilientCache", "LOCATION": ["redis"],
    },
    "redis": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "redis"},
}
"""
URLS = """
from django.urls import path
from shop import views
urlpatterns = [path("", views.front_page), path("buy/<int:item>", views.buy)]
"""
WSGI = """
import os
from django.core.wsgi import get_wsgi_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_wsgi_application()
"""


def blocks(page: str, language: str = "python") -> list[str]:
    path = PAGES[page]
    if not path.exists():
        pytest.skip(f"{path.name} is not beside the tests")
    text = path.read_text(encoding="utf-8")
    if page == "README":
        text = text.partition("## Rehearse the outage")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "faults"


@pytest.fixture
def project(tmp_path: Path, shared: Path) -> Path:
    """The project of docs/testing.md, each block in the file that its first line names."""
    root = tmp_path / "project"
    (root / "shop").mkdir(parents=True)
    for name, text in {"__init__": "", "settings": SETTINGS, "urls": URLS, "wsgi": WSGI}.items():
        (root / "shop" / f"{name}.py").write_text(text)
    for block in blocks("docs"):
        name = block.partition("\n")[0].removeprefix("# ")
        assert name.endswith(".py"), block
        with (root / name).open("a") as file:
            file.write(block.replace(DIRECTORY, str(shared)))
    (root / "pytest.ini").write_text(
        "[pytest]\nDJANGO_SETTINGS_MODULE = shop.settings\npythonpath = .\n"
        "python_files = test*.py\nfilterwarnings = error\n"
    )
    return root


def run(root: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment_of(root) | environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment_of(root: Path) -> dict[str, str]:
    path = os.pathsep.join([str(root), *sys.path])
    return {**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "shop.settings"}


PYTEST = ("pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey")


@pytest.mark.slow
@pytest.mark.parametrize("switch", ["in the process", "shared"])
def test_every_test_of_the_page_passes(project: Path, switch: str) -> None:
    if switch != "shared":
        settings = project / "shop" / "settings.py"
        settings.write_text(re.sub(r".*SHARED.*", "", settings.read_text()))
    told = run(project, *PYTEST, "--deselect", "shop/test_staging.py")
    assert re.search(r"\b1[0-9] passed", told), told


def test_the_test_case_passes_with_djangos_own_runner(project: Path) -> None:
    run(project, "django", "test", "shop.tests")


def test_the_settings_are_without_doubts(project: Path) -> None:
    told = run(project, "django", "check", "--fail-level", "WARNING")
    assert "no issues" in told


@pytest.mark.slow
def test_another_process_is_switched_as_described(project: Path, shared: Path) -> None:
    with gunicorn(project) as address:
        run(project, *PYTEST, "shop/test_staging.py", STAGING=address)
        assert list(shared.iterdir()) == []


@contextmanager
def gunicorn(project: Path) -> Iterator[str]:
    """The site under two real workers."""
    if find_spec("gunicorn") is None:
        unavailable("gunicorn is not installed")
    address = f"{HOST}:{free_port()}"
    # As an option on the command line only newer ones know it.
    (project / "gunicorn.conf.py").write_text("control_socket_disable = True\n")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "shop.wsgi", "--workers", "2"),
            *("--bind", address, "--graceful-timeout", "1"),
        ],
        cwd=project,
        env=environment_of(project),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        try:
            return bool(urlopen(f"http://{address}/", timeout=5).status == 200)
        except (URLError, ConnectionError):
            return False

    try:
        assert wait_until(answers), process.poll()
        yield f"http://{address}/"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
def test_the_commands_do_what_is_said(project: Path, shared: Path) -> None:
    (block,) = blocks("docs", "console")
    told = []
    for line in block.splitlines():
        assert line.startswith("$ python -m ")
        words = shlex.split(line.replace(DIRECTORY, str(shared)).replace("--for 60", "--for 0.1"))
        told.append(run(project, *words[3:]).replace(str(shared), DIRECTORY))
    assert told == [
        f"{DIRECTORY}: hang() for 0.1 s\n",
        f"{DIRECTORY}: hang(seconds=0.2, probability=0.3) until healed\n",
        f"{DIRECTORY}: corrupt(keys=menu*) until healed\n",
        f"{DIRECTORY}: hang(seconds=0.2, probability=0.3)\n{DIRECTORY}: corrupt(keys=menu*)\n",
        f"{DIRECTORY}: 2 ended\n",
    ]


@pytest.mark.slow
def test_the_readmes_section_runs_too(project: Path) -> None:
    settings, *tests = blocks("README")
    (project / "shop" / "settings.py").write_text(SETTINGS + settings)
    assert tests
    for number, block in enumerate(tests):
        (project / "shop" / f"test_readme_{number}.py").write_text(block)
    told = run(project, *PYTEST, *map(str, (project / "shop").glob("test_readme_*.py")))
    assert f"{len(tests)} passed" in told
    assert "no issues" in run(project, "django", "check", "--fail-level", "WARNING")


def test_what_the_page_says_of_each_method_is_so() -> None:
    """Every fault is in the table, with its arguments and defaults."""
    rows = re.findall(r"^\| `(\w+)\((.*?)\)` \|", PAGES["docs"].read_text(), re.MULTILINE)
    faults = [
        name
        for name, method in vars(Faults).items()
        if callable(method) and method.__annotations__.get("return") == "Healing" and name != "add"
    ]
    assert sorted(name for name, _ in rows) == sorted(faults)
    for name, arguments in rows:
        parameters = signature(getattr(Faults, name)).parameters.values()
        told = [part.partition("=") for part in arguments.split(", ") if part]
        asked = [p for p in parameters if p.name not in ("self", "narrowing")]
        assert [part[0] for part in told] == [p.name for p in asked]
        for (_, _, default), parameter in zip(told, asked, strict=True):
            if parameter.default is not Parameter.empty:
                assert default == getattr(parameter.default, "__name__", str(parameter.default))
