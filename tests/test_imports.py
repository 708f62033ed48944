"""Imports point one way, and what is not installed is not imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import django_resilient_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "django_resilient_cache"
ROOT = Path(django_resilient_cache.__file__).parent

#: A module may import those before it; modules inside one of these share its place.
#: A new module gets its place here when it is written.
ORDER = (
    # the breaker: standard library only
    "exceptions",
    "states",
    "rate",
    "deadline",
    "interruption",
    "breaker",
    # what is configured
    "conf",
    # what one call to one layer means
    "outcome",
    "verdict",
    "transactions",
    "operations",
    "limits",
    # what is remembered between calls
    "late",
    "ledger",
    "ttl",
    "flight",
    "generations",
    # what is told, and in which thread
    "signals",
    "agent",
    "reports",
    # one layer, all layers, this process's layers, the backend
    "changes",
    "bookkeeper",
    "guard",
    "layer",
    "lifetimes",
    "copies",
    "chain",
    "registry",
    "keys",
    "plan",
    "planned",
    "asking",
    "async_api",
    "backend",
    # around it
    "fleet",
    "checks",
    "apps",
    "models",
    "migrations",
    "admin",
    "management",
    "testing",
    "contrib",
)
STANDARD_LIBRARY_ONLY = frozenset(takewhile(lambda name: name != "conf", ORDER))

MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix()
    for path in ROOT.rglob("*.py")
    if path.parent != ROOT or path.name != "__init__.py"
)


def place(module: str) -> str:
    """`limits/direct` -> `limits`."""
    return module.partition("/")[0]


def imported(module: str) -> Iterator[str]:
    """The dotted names that a module imports anywhere; `from x import y` gives `x.y`."""
    for node in ast.walk(ast.parse((ROOT / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = [PACKAGE, *module.split("/")][: -node.level] if node.level else []
            origin = ".".join([*folder, *filter(None, [node.module])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def own_places(module: str) -> set[str]:
    """The places in ORDER that a module imports from."""
    inside = (name.split(".") for name in imported(module) if name.split(".")[0] == PACKAGE)
    return {parts[1] for parts in inside}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_stands_before_it(module: str):
    here = place(module)
    assert here in ORDER, f"{here} has no place in ORDER yet"
    for other in own_places(module) - {here}:
        assert other in ORDER, f"{module} imports {other} from the package's front"
        assert ORDER.index(other) < ORDER.index(here), f"{module} imports {other}"


@pytest.mark.parametrize("module", sorted(STANDARD_LIBRARY_ONLY))
def test_the_breaker_needs_the_standard_library_only(module: str):
    outside = {name.split(".")[0] for name in imported(module)} - {PACKAGE}
    assert outside <= sys.stdlib_module_names


def test_the_chain_knows_outcomes_and_not_who_makes_them():
    assert own_places("chain").isdisjoint({"conf", "breaker", "limits", "ledger", "layer"})


@pytest.mark.parametrize("module", [name for name in MODULES if place(name) != "conf"])
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
