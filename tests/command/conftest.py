"""The command with a frozen clock, and with a fleet of plain data."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_resilient_cache.management import arguments
from django_resilient_cache.management.commands import breakers
from tests.command.frozen_fleet import NOW, FakeControl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django_resilient_cache.fleet.console.view import Fleet

CHAIN = {
    "default": {
        "BACKEND": "django_resilient_cache.backend.ResilientCache",
        "LOCATION": ["memory", "redis"],
    },
    "memory": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "redis": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://none"},
}


class Run:
    """What one call of the command wrote, and how it ended."""

    def __init__(self, *args: str, **options: Any) -> None:
        out, err = StringIO(), StringIO()
        self.error = ""
        try:
            call_command("breakers", *args, stdout=out, stderr=err, **options)
            self.code = 0
        except CommandError as error:
            self.code, self.error = error.returncode, str(error)
        except SystemExit as end:
            self.code = int(end.code or 0)
        self.out = out.getvalue()
        assert err.getvalue() == ""


@pytest.fixture(autouse=True)
def _frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """03:06:20 in Berlin; ada sits at web1, before 80 columns, and nobody else uses it."""
    monkeypatch.setattr(breakers, "now", lambda: NOW)
    monkeypatch.setattr(arguments, "user", lambda: "ada")
    monkeypatch.setattr(breakers, "others_in_use", lambda config: [])
    monkeypatch.setattr("socket.gethostname", lambda: "web1")
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    with override_settings(CACHES=CHAIN, TIME_ZONE="Europe/Berlin"):
        yield


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeControl]:
    """Have the command see this fleet."""

    def show(fleet: Fleet, **behaviour: Any) -> FakeControl:
        control = FakeControl(fleet, **behaviour)
        monkeypatch.setattr(breakers, "Control", lambda: control)
        return control

    return show
