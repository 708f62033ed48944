"""Imports point one way, and what is not installed is not imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import django_resilient_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "django_resilient_cache"
ROOT = Path(django_resilient_cache.__file__).parent

#: Each room (a folder, or a module at the front), and the rooms that it may import.
#: Rooms stand in an order: each imports only rooms that stand before it.
ROOMS: dict[str, set[str]] = {
    # the standard library only
    "exceptions": set(),
    "concurrency": set(),
    "breaker": {"concurrency", "exceptions"},
    # what is configured, and what one call to one layer means
    "signals": set(),
    "conf": {"breaker"},
    "adapters": {"concurrency", "conf", "exceptions"},
    "timeouts": {"adapters", "concurrency", "conf", "exceptions"},
    # one alias, several aliases, Django's cache API
    "chain": {"adapters", "concurrency", "conf", "exceptions"},
    "layer": {
        *("adapters", "breaker", "concurrency", "conf", "exceptions", "signals", "timeouts"),
    },
    "backend": {
        *("adapters", "breaker", "chain", "concurrency", "conf", "exceptions"),
        *("layer", "timeouts"),
    },
    # workers seen and steered, and the faces of that
    "fleet": {
        *("adapters", "breaker", "concurrency", "conf", "exceptions", "layer", "signals"),
        "timeouts",
    },
    "models": set(),
    "migrations": set(),
    "checks": {"conf", "timeouts"},
    "apps": {"checks", "fleet"},
    "admin": {"breaker", "conf", "exceptions", "fleet", "models"},
    "management": {"breaker", "conf", "exceptions", "fleet"},
    "testing": {"adapters", "concurrency", "conf", "layer"},
}
#: What these import at the top of a module is the standard library or each other.
WITHOUT_DJANGO = {"exceptions", "concurrency", "breaker"}

MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix()
    for path in ROOT.rglob("*.py")
    if path.parent != ROOT or path.name != "__init__.py"
)


def room(module: str) -> str:
    """`timeouts/direct` -> `timeouts`."""
    return module.partition("/")[0]


def imported(module: str) -> Iterator[str]:
    """The dotted names that a module imports anywhere; `from x import y` gives `x.y`."""
    for node in ast.walk(ast.parse((ROOT / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_rooms(module: str) -> set[str]:
    inside = (name.split(".") for name in imported(module) if name.split(".")[0] == PACKAGE)
    return {parts[1] for parts in inside}


def test_rooms_stand_in_an_order():
    rooms = list(ROOMS)
    for name, others in ROOMS.items():
        for other in others:
            assert rooms.index(other) < rooms.index(name), f"{name} may not import {other}"


@pytest.mark.parametrize("name", sorted({room(module) for module in MODULES}))
def test_a_room_imports_only_what_it_may(name: str):
    assert name in ROOMS, f"{name} has no place in ROOMS yet"
    for module in MODULES:
        if room(module) == name:
            strange = imported_rooms(module) - {name} - ROOMS[name]
            assert not strange, f"{module} imports {strange}"


def test_inside_the_fleet_the_board_knows_neither_workers_nor_the_console():
    inside = {"board": {"console", "worker"}, "worker": {"console"}, "console": {"worker"}}
    for module in MODULES:
        parts = module.split("/")
        if parts[0] == "fleet" and len(parts) > 2:
            names = [name.split(".") for name in imported(module)]
            found = {name[2] for name in names if name[:2] == [PACKAGE, "fleet"]}
            assert not found & inside[parts[1]], module


@pytest.mark.parametrize("folder", [ROOT, Path(__file__).parent], ids=["package", "tests"])
def test_no_file_name_stands_twice(folder: Path):
    fixed = ("__init__.py", "__main__.py", "conftest.py")
    names = Counter(path.name for path in folder.rglob("*.py") if path.name not in fixed)
    assert [name for name, times in names.items() if times > 1] == []


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) in WITHOUT_DJANGO])
def test_the_breaker_needs_the_standard_library_only(module: str):
    outside = {name.split(".")[0] for name in imported(module)} - {PACKAGE}
    assert outside <= sys.stdlib_module_names


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) != "conf"])
def test_only_conf_reads_caches(module: str):
    source = (ROOT / f"{module}.py").read_text(encoding="utf-8")
    assert "settings.CACHES" not in source


def run(code: str) -> None:
    """Run code in a new Python without this one's settings; its error is the test's."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_importing_needs_neither_settings_nor_django_nor_a_client():
    run(
        "import sys\n"
        f"import {PACKAGE}\n"
        "for name in ('django', 'redis', 'valkey', 'django_redis', 'django_valkey', 'pymemcache'):\n"
        "    assert name not in sys.modules, name\n"
    )


def test_every_public_name_can_be_imported_without_settings():
    run(f"from {PACKAGE} import *")


def test_a_site_without_any_client_package_runs():
    run(
        "import sys\n"
        "for name in ('redis', 'valkey', 'django_redis', 'django_valkey', 'pymemcache'):\n"
        "    sys.modules[name] = None\n"
        "import django\n"
        "from django.conf import settings\n"
        "settings.configure(\n"
        f"    INSTALLED_APPS=[{PACKAGE!r}],\n"
        "    CACHES={\n"
        "        'default': {\n"
        f"            'BACKEND': '{PACKAGE}.backend.ResilientCache',\n"
        "            'LOCATION': ['memory'],\n"
        "        },\n"
        "        'memory': {'BACKEND': 'django.core.cache.backends.locmem.LocMemCache'},\n"
        "    },\n"
        ")\n"
        "django.setup()\n"
        "from django.core.cache import cache\n"
        "cache.set('key', 1)\n"
        "assert cache.get('key') == 1\n"
    )
