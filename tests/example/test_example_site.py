"""The example site works as configured, with Redis and without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.example.conftest import Manage
    from tests.services import ValkeyServer


@pytest.mark.slow
def test_the_sites_own_tests_pass_with_a_real_server(manage: Manage, valkey: ValkeyServer) -> None:
    done = manage("test", "programme", REDIS_URL=valkey.url)
    assert done.returncode == 0, done.stderr
    assert "skipped" not in done.stderr


def test_its_settings_pass_all_checks(manage: Manage) -> None:
    done = manage("check", "--fail-level", "WARNING")
    assert done.returncode == 0, done.stderr


def test_its_migrations_are_complete(manage: Manage) -> None:
    done = manage("makemigrations", "--check", "--dry-run")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_fill_makes_a_programme_once(manage: Manage) -> None:
    assert "240 talks" in manage("fill").stdout
    assert "nothing was changed" in manage("fill").stdout
