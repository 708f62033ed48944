"""A fleet in memory behind the page, and people with different rights."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import translation

from tests.admin.fleets import FakeControl, fleet, layer, worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.test import Client

PAGE = "/admin/django_resilient_cache/breaker/"
CHAIN = "django_resilient_cache.backend.ResilientCache"


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    """The language that one test's request has asked for is not the next one's."""
    with translation.override("en"):
        yield


@pytest.fixture
def three_at_night(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """It is half past 03:02 in UTC, and stays so."""
    from tests.admin.reading import AT

    settings.TIME_ZONE = "UTC"
    monkeypatch.setattr(time, "time", lambda: AT)


@pytest.fixture
def control(settings: Any, monkeypatch: pytest.MonkeyPatch) -> FakeControl:
    """Two healthy workers; `control.seen` is the fleet that the page will see."""
    settings.CACHES = {
        "default": {"BACKEND": CHAIN, "LOCATION": ["memory", "redis"]},
        "memory": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "redis": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "redis://:s3cret@cache.internal:6379/0",
            "OPTIONS": {"password": "0ther"},
        },
    }
    healthy = [worker(number, memory=layer(), redis=layer()) for number in (1, 2)]
    fake = FakeControl(fleet(*healthy))
    monkeypatch.setattr("django_resilient_cache.admin.control", fake)
    return fake


@pytest.fixture
def person(db: None, client: Client) -> Callable[..., Client]:
    """`person("view_breaker")`: a client, logged in as staff with these permissions."""

    def log_in(*permissions: str, **values: Any) -> Client:
        from django.contrib.auth.models import Permission, User

        user = User.objects.create_user("ada", is_staff=True, **values)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def viewer(person: Callable[..., Client]) -> Client:
    """May look."""
    return person("view_breaker")


@pytest.fixture
def operator(person: Callable[..., Client]) -> Client:
    """May look and give orders."""
    return person("view_breaker", "change_breaker")
