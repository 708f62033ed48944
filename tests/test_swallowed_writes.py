"""DatabaseCache keeps failed writes to itself; a chain notices them all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection

from django_resilient_cache import State, breakers
from django_resilient_cache.concurrency.background import background
from django_resilient_cache.layer.registry import registry
from tests.entries import CHAIN, DATABASE, MEMORY

TABLE = "swallowing"


@pytest.fixture(params=["alone", "below memory"])
def cache(request: pytest.FixtureRequest, db: None, settings: Any) -> Iterator[Any]:
    near = request.param == "below memory"
    settings.CACHES = {
        "default": {"BACKEND": CHAIN, "LOCATION": ["memory", "table"] if near else ["table"]},
        "memory": {"BACKEND": MEMORY, "LOCATION": "swallowing"},
        "table": {"BACKEND": DATABASE, "LOCATION": TABLE},
    }
    call_command("createcachetable")
    with mock.patch.multiple(
        background, wake=mock.DEFAULT, ensure_running=mock.DEFAULT, send=mock.DEFAULT
    ):
        yield caches["default"]
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {TABLE}")


def refuse(*, writes: bool) -> None:
    """Let the database refuse writes of this table, or take them again."""
    with connection.cursor() as cursor:
        for event in ("INSERT", "UPDATE"):
            if writes:
                cursor.execute(
                    f"CREATE TRIGGER no_{event} BEFORE {event} ON {TABLE} "
                    "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
                )
            else:
                cursor.execute(f"DROP TRIGGER no_{event}")


@pytest.mark.parametrize(
    "write",
    [
        lambda cache: cache.set("key", "new"),
        lambda cache: cache.set_many({"key": "new", "other": 1}),
    ],
    ids=["set", "set_many"],
)
def test_what_it_did_not_write_is_missed_and_never_read_again(cache, write):
    cache.set("key", "old")
    refuse(writes=True)
    write(cache)
    assert registry.layer("table").snapshot()["failures"] == 1
    assert caches["table"].get("key") == "old"
    assert cache.get("key") in (None, "new")
    refuse(writes=False)
    caches["memory"].clear()
    assert cache.get("key") is None
    registry.tend()
    assert caches["table"].get("key") is None, "repaired, should this transaction be committed"
    assert cache.get("key") is None


def test_such_failures_open_the_breaker(cache):
    refuse(writes=True)
    for n in range(5):
        cache.set(f"key{n}", n)
    assert breakers["table"].state is State.OPEN


def test_an_add_that_it_did_not_write_is_not_won(cache):
    refuse(writes=True)
    assert cache.add("lock", 1) is False
    refuse(writes=False)
    assert cache.add("lock", 1) is True
