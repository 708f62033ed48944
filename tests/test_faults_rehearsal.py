"""A rehearsal begins and ends with nothing broken, whatever a test leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from django_resilient_cache import State, breakers
from django_resilient_cache.concurrency.background import background
from django_resilient_cache.layer.missed_changes import MissedChanges
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.signals import layer_failed
from django_resilient_cache.testing import SharedFaults, faults, rehearsal
from tests.entries import CHAIN, MEMORY
from tests.services import wait_until
from tests.simulated_chain import FAULTY


def settings(**options: Any) -> dict[str, Any]:
    return {
        "default": {"BACKEND": CHAIN, "LOCATION": ["redis"]},
        "redis": {
            "BACKEND": FAULTY,
            "LOCATION": "real",
            "OPTIONS": options,
            "RESILIENCE": {"OPERATION_TIMEOUT": 0.2, "MAX_FAILURES": 3, "RESET_TIMEOUT": 60},
        },
        "real": {"BACKEND": MEMORY, "LOCATION": "rehearsal"},
    }


@pytest.fixture
def chain() -> Iterator[Any]:
    with override_settings(CACHES=settings()):
        yield caches["default"]


def hung_threads() -> int:
    return faults("redis").hanging


def test_it_ends_faults_breakers_and_ledgers(chain: Any) -> None:
    with rehearsal():
        chain.set("k", "old")
        faults("redis").fail()
        for _ in range(3):
            chain.set("k", "new")
        assert breakers["redis"].state is State.OPEN
        assert len(registry.layer("redis").missed_changes) == 1
    assert faults("redis").in_force == []
    assert faults("redis").calls == {}
    assert breakers["redis"].state is State.CLOSED
    assert breakers["redis"].last_error is None
    assert registry.layer("redis").missed_changes.in_sync
    assert chain.get("k") == "old", "entries are left alone"


def test_no_repair_that_is_under_way_deletes_anything_afterwards(
    chain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, repairing = threading.Event(), MissedChanges.start_repairing

    def slowly(ledger: MissedChanges, *args: Any) -> Any:
        begun.set()
        found = repairing(ledger, *args)
        time.sleep(0.3)
        return found

    with rehearsal():
        chain.set("warm", 1)
        with faults("redis").fail():
            chain.set("k", "missed")
        monkeypatch.setattr(MissedChanges, "start_repairing", slowly)
        background.wake()
        assert begun.wait(5)
    chain.set("k", "value")
    time.sleep(0.4)
    assert chain.get("k") == "value"


def test_it_begins_afresh_too(chain: Any) -> None:
    breakers["redis"].force_open()
    faults("redis").fail()
    with rehearsal():
        assert breakers["redis"].state is State.CLOSED
        chain.set("k", 1)
        assert chain.get("k") == 1


def test_it_ends_however_the_block_does(chain: Any) -> None:
    with pytest.raises(KeyboardInterrupt), rehearsal():
        faults("redis").fail()
        raise KeyboardInterrupt
    assert faults("redis").in_force == []


def test_what_hangs_or_is_late_at_the_end_is_not_made(chain: Any) -> None:
    with rehearsal():
        chain.set("warm", 1)
        faults("redis").hang(operations=["set"])
        chain.set("k", "hung")
        assert wait_until(lambda: hung_threads() == 1, 5)
        faults("redis").late(operations=["add"])
        chain.add("late", 1)
        assert faults("redis").pending == 1
    assert hung_threads() == faults("redis").pending == 0
    assert chain.get_many(["k", "late"]) == {}
    assert wait_until(lambda: registry.layer("redis").missed_changes.in_sync, 5)
    chain.set("k", "again")
    assert chain.get("k") == "again"
    assert caches["real"].get_many(["k", "late"]) == {"k": "again"}


def test_the_first_failure_of_each_is_told(chain: Any) -> None:
    """Though a layer tells of a second one within a minute only where something changed."""
    told: list[str] = []

    def hear(sender: str, operation: str, **kwargs: Any) -> None:
        told.append(operation)

    layer_failed.connect(hear)
    try:
        for number in (1, 2):
            with rehearsal(), faults("redis").fail():
                chain.get("k")
                chain.get("k")
                assert wait_until(lambda: len(told) == number, 5)  # noqa: B023 - called here
    finally:
        layer_failed.disconnect(hear)
    assert told == ["get", "get"]


def test_faults_that_others_share_stay(tmp_path: Path) -> None:
    with override_settings(CACHES=settings(SHARED=str(tmp_path))):
        others = SharedFaults(tmp_path)
        with others.fail(keys="theirs"), rehearsal():
            faults("redis").fail(keys="own")
            assert len(others.in_force) == 2
        with others.fail(keys="theirs"):
            with rehearsal():
                faults("redis").fail(keys="own")
            assert [fault.keys for fault in others.in_force] == ["theirs"]
            with pytest.raises(ConnectionError):
                caches["redis"].get("theirs")
    assert list(tmp_path.iterdir()) == []


# The pytest plugin and Django's test cases, in projects of their own

PROJECT = """
SECRET_KEY = "for tests only"
INSTALLED_APPS = ["django_resilient_cache"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CACHES = {
    "default": {
        "BACKEND": "django_resilient_cache.backend.ResilientCache", "LOCATION": ["redis"],
    },
    "redis": {
        "BACKEND": "django_resilient_cache.testing.FaultyCache", "LOCATION": "real",
        "RESILIENCE": {"OPERATION_TIMEOUT": 0.2, "MAX_FAILURES": 3, "RESET_TIMEOUT": 60},
    },
    "real": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
}
"""

LEAKY = """
    import threading
    import pytest
    from django.core.cache import cache, caches
    from django_resilient_cache import State, breakers
    from django_resilient_cache.testing import faults

    @pytest.mark.parametrize("number", range(6))
    def test_leaves_everything_broken(number, settings, cache_faults):
        if number % 3 == 1:
            settings.CACHES = {**settings.CACHES, "other": settings.CACHES["real"]}
        assert cache_faults is faults
        assert breakers["redis"].state is State.CLOSED
        assert not faults("redis").in_force and not faults("redis").hanging
        for thread in threading.enumerate():
            if thread.name == "resilient-cache-late":  # on its way out
                thread.join(5)
                assert not thread.is_alive()
        cache.set("k", number)
        assert cache.get("k") == number
        faults("redis").hang(operations=["get"])
        faults("redis").late(60, operations=["delete"])
        caches["default"].get("k")
        cache.delete("k")
        faults("redis").fail()
        for _ in range(3):
            cache.set("k", "missed")
        assert breakers["redis"].state is State.OPEN
        if number % 3 == 2:
            breakers["redis"].force_open()
"""


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(project), *sys.path]),
            "DJANGO_SETTINGS_MODULE": "leaky_settings",
        },
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "leaky_settings.py").write_text(PROJECT)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "conftest.py").write_text(
        'pytest_plugins = ["django_resilient_cache.testing.pytest_plugin"]\n'
    )
    (tmp_path / "test_leaky.py").write_text(textwrap.dedent(LEAKY))
    return tmp_path


PYTEST = ("pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey")


@pytest.mark.slow
def test_with_the_plugin_no_test_leaks_into_the_next(project: Path) -> None:
    done = run(project, *PYTEST)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout


@pytest.mark.slow
def test_without_the_plugin_they_do(project: Path) -> None:
    """The test above is worth something."""
    (project / "conftest.py").write_text(
        "import pytest\nfrom django_resilient_cache.testing import faults\n"
        "@pytest.fixture\ndef cache_faults():\n    return faults\n"
    )
    done = run(project, *PYTEST, "-p", "no:randomly")
    assert done.returncode == 1
    assert "failed" in done.stdout


def test_the_plugin_needs_no_caches_of_ours(project: Path) -> None:
    """It is harmless in tests that have nothing to do with any of this."""
    (project / "leaky_settings.py").write_text('SECRET_KEY = "x"\n')
    (project / "test_leaky.py").write_text("def test_nothing():\n    pass\n")
    done = run(project, *PYTEST)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_plugin_is_listed_with_its_fixture(project: Path) -> None:
    done = run(project, *PYTEST, "--fixtures")
    assert "cache_faults -- " in done.stdout
    assert "what goes wrong with the `FaultyCache` of an alias" in done.stdout


CASES = """
    from django.core.cache import cache
    from django.test import SimpleTestCase, TestCase, override_settings
    from django_resilient_cache import State, breakers
    from django_resilient_cache.testing import faults, rehearsal

    class Leaky:
        def setUp(self):
            super().setUp()
            self.enterContext(rehearsal())

        def check(self):
            self.assertIs(breakers["redis"].state, State.CLOSED)
            cache.set("k", 1)
            self.assertEqual(cache.get("k"), 1)
            faults("redis").hang()
            for number in range(5):
                cache.set(f"k{number}", 1)

        def test_one(self):
            self.check()

        def test_two(self):
            self.check()

        @override_settings(CACHES={
            "default": {
                "BACKEND": "django_resilient_cache.backend.ResilientCache", "LOCATION": ["redis"],
            },
            "redis": {
                "BACKEND": "django_resilient_cache.testing.FaultyCache", "LOCATION": "other",
            },
            "other": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        })
        def test_other_settings(self):
            self.check()

    class SimpleTests(Leaky, SimpleTestCase):
        pass

    class DatabaseTests(Leaky, TestCase):
        pass
"""


@pytest.mark.slow
def test_django_test_cases_do_not_leak_either(project: Path) -> None:
    (project / "test_cases.py").write_text(textwrap.dedent(CASES))
    done = run(project, "django", "test", "test_cases")
    assert done.returncode == 0, done.stderr
    assert "Ran 6 tests" in done.stderr
