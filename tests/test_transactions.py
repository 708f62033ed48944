"""A DatabaseCache inside the caller's transaction: what fails there, and what is rolled back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.cache import BaseCache, caches
from django.db import DatabaseError, connections, transaction
from django.test import override_settings

from django_resilient_cache import State
from django_resilient_cache.concurrency.background import background
from django_resilient_cache.layer.registry import registry
from tests.entries import DATABASE, MEMORY, chain
from tests.services import wait_until
from tests.services.cache_tables import ROUTERS, cache_table
from tests.services.postgresql import PostgreSQLServer

pytestmark = pytest.mark.usefixtures("still_agent")

ALIAS = "shop"

#: Each connection to this database but the one that says so.
END_THE_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture(params=["in place", "thread"])
def resilience(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "thread":
        return {"OPERATION_TIMEOUT": 20}
    return {}


@pytest.fixture
def table(
    shared_postgresql: PostgreSQLServer, resilience: dict[str, Any], django_db_blocker: Any
) -> Iterator[str]:
    """The cache's table on PostgreSQL, behind the chains "default" and "near"."""
    with (
        django_db_blocker.unblock(),
        override_settings(DATABASE_ROUTERS=ROUTERS),
        cache_table(ALIAS, shared_postgresql.databases_entry(ALIAS)) as table,
    ):
        settings = {
            "default": chain("table"),
            "near": chain("memory", "table"),
            "memory": {"BACKEND": MEMORY, "LOCATION": "transactions"},
            "table": {"BACKEND": DATABASE, "LOCATION": table, "RESILIENCE": resilience},
        }
        with override_settings(CACHES=settings):
            yield table
            registry.reset()
            names = [f"resilient-cache-{alias}" for alias in settings]
            assert wait_until(lambda: not any(t.name in names for t in threading.enumerate()))


def run(statement: str) -> Any:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else None


def usable() -> bool:
    return bool(run("SELECT 1") == [(1,)])


@contextmanager
def moved_away(table: str) -> Iterator[None]:
    """The table is not there for a while."""
    run(f"ALTER TABLE {table} RENAME TO elsewhere")
    try:
        yield
    finally:
        run(f"ALTER TABLE elsewhere RENAME TO {table}")


@contextmanager
def refusing(table: str, *events: str) -> Iterator[None]:
    """The table takes no changes of these kinds for a while."""
    run(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'disk full'; END $$"
    )
    run(f"CREATE TRIGGER refuse BEFORE {' OR '.join(events)} ON {table} EXECUTE FUNCTION refuse()")
    try:
        yield
    finally:
        run(f"DROP TRIGGER refuse ON {table}")


READS: dict[str, Callable[[BaseCache], Any]] = {
    "get": lambda cache: cache.get("key"),
    "get_many": lambda cache: cache.get_many(["key", "other"]),
    "has_key": lambda cache: "key" in cache,
    "get_or_set": lambda cache: cache.get_or_set("key", lambda: 1),
}
CHANGES: dict[str, Callable[[BaseCache], Any]] = {
    "set": lambda cache: cache.set("key", "new"),
    "set_many": lambda cache: cache.set_many({"key": "new"}),
    "delete": lambda cache: cache.delete("key"),
    "delete_many": lambda cache: cache.delete_many(["key"]),
    "clear": lambda cache: cache.clear(),
    "add": lambda cache: cache.add("another", 1),
    "touch": lambda cache: cache.touch("key", 900),
}


@pytest.mark.parametrize("alias", ["default", "near"])
@pytest.mark.parametrize("name", READS)
def test_a_read_that_ended_the_callers_transaction_is_passed_on(
    name: str, alias: str, table: str
) -> None:
    """To hide it would only move it to the next query, which is about something else."""
    layer = registry.layer("table")
    with moved_away(table):
        with pytest.raises(DatabaseError, match="does not exist"), transaction.atomic(ALIAS):
            READS[name](caches[alias])
        assert layer.guard.counters.failures == 1
        assert READS[name](caches[alias]) in (None, {}, False, 1), "hidden where it can be"
    assert usable()


@pytest.mark.parametrize("alias", ["default", "near"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_fails_leaves_the_callers_transaction_as_it_was(
    name: str, alias: str, table: str
) -> None:
    cache, layer = caches[alias], registry.layer("table")
    cache.set("key", "old")
    with refusing(table, "INSERT", "UPDATE", "DELETE"), transaction.atomic(ALIAS):
        CHANGES[name](cache)
        assert usable()
        if name not in ("add", "touch"):
            assert cache.get("key") in (None, "new"), "what is in the table is not read"
    assert layer.guard.counters.failures == (0 if name in ("add", "touch") else 1)
    assert usable()
    if name not in ("add", "touch"):
        caches["memory"].clear()
        assert cache.get("key") is None
        registry.tend()
        assert caches["table"].get("key") is None


def test_once_its_breaker_is_open_a_transaction_meets_no_failure(table: str) -> None:
    with moved_away(table):
        for _ in range(5):
            caches["default"].get("key")
        assert registry.layer("table").breaker.state is State.OPEN
        with transaction.atomic(ALIAS):
            assert caches["default"].get("key", "default") == "default"
            assert usable()


def test_a_lock_that_is_not_to_be_had(table: str, postgresql: PostgreSQLServer) -> None:
    """As a deadlock ends: PostgreSQL gives the statement up, and with it the transaction."""
    import psycopg

    cache = caches["default"]
    cache.set("key", "old")
    entry = postgresql.databases_entry(ALIAS)
    where = f"host={entry['HOST']} port={entry['PORT']} user={entry['USER']} dbname={ALIAS}"
    with psycopg.connect(where) as other:
        other.execute(f"UPDATE {table} SET value = value")
        with transaction.atomic(ALIAS):
            run("SET LOCAL lock_timeout = 50")
            assert cache.delete("key") is False
            assert usable()
        other.rollback()
    assert cache.get("key") is None
    registry.tend()
    assert caches["table"].get("key") is None


def test_a_server_that_is_lost_takes_the_transaction_along(
    own_postgresql: PostgreSQLServer, django_db_blocker: Any
) -> None:
    with (
        django_db_blocker.unblock(),
        override_settings(DATABASE_ROUTERS=ROUTERS),
        cache_table(ALIAS, own_postgresql.databases_entry(ALIAS)) as table,
        override_settings(
            CACHES={"default": chain("table"), "table": {"BACKEND": DATABASE, "LOCATION": table}}
        ),
    ):
        with pytest.raises(DatabaseError), transaction.atomic(ALIAS):
            assert usable()
            own_postgresql.kill()
            caches["default"].get("key")
        assert caches["default"].get("key", "default") == "default"
        assert registry.layer("table").guard.counters.failures == 2


def test_a_thread_gets_over_a_connection_that_the_server_has_ended(table: str) -> None:
    """At the next call, however many are waiting."""
    cache = caches["default"]
    for _ in range(3):
        cache.set("key", "value")
        run(END_THE_OTHERS)
        if registry.layer("table").guard.direct:
            connections[ALIAS].close()
        cache.get("key")
        assert cache.get("key") == "value"


# What is rolled back


@pytest.mark.parametrize("name", ["set", "set_many", "delete", "delete_many", "clear"])
def test_a_rollback_brings_back_what_was_missed_and_no_reader_sees_it(
    name: str, table: str
) -> None:
    cache = caches["near"]
    cache.set("key", "old")
    with refusing(table, "INSERT", "UPDATE", "DELETE"):
        cache.set("key", "newer")
    with pytest.raises(LookupError), transaction.atomic(ALIAS):
        CHANGES[name](cache)
        raise LookupError
    assert caches["table"].get("key") == "old"
    caches["memory"].clear()
    assert cache.get("key") is None
    registry.tend()
    assert caches["table"].get("key") is None


@pytest.fixture
def _no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that runs no threads: callers repair, in their own transactions."""
    monkeypatch.setattr(type(background), "cannot_run", True)


@pytest.mark.parametrize("name", ["set", "delete_many", "clear"])
@pytest.mark.usefixtures("_no_agent")
def test_a_rollback_takes_back_what_a_caller_repaired(name: str, table: str) -> None:
    cache = caches["default"]
    cache.set("key", "old")
    with refusing(table, "INSERT", "UPDATE", "DELETE"):
        CHANGES[name](cache)
    with pytest.raises(LookupError), transaction.atomic(ALIAS):
        assert cache.get("key") is None
        assert caches["table"].get("key") is None, "repaired"
        raise LookupError
    assert caches["table"].get("key") == "old"
    assert cache.get("key") is None
    assert registry.layer("table").missed_changes.in_sync
    assert caches["table"].get("key") is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["set", "clear"])
@pytest.mark.usefixtures("_no_agent")
def test_what_a_caller_could_not_repair_is_kept(
    name: str, own_postgresql: PostgreSQLServer, django_db_blocker: Any
) -> None:
    """The server is lost while a caller repairs, and with it the transaction."""
    with (
        django_db_blocker.unblock(),
        override_settings(DATABASE_ROUTERS=ROUTERS),
        cache_table(ALIAS, own_postgresql.databases_entry(ALIAS)) as table,
        override_settings(
            CACHES={"default": chain("table"), "table": {"BACKEND": DATABASE, "LOCATION": table}}
        ),
    ):
        cache, ledger = caches["default"], registry.layer("table").missed_changes
        cache.set("key", "old")
        with refusing(table, "INSERT", "UPDATE", "DELETE"):
            CHANGES[name](cache)
        with pytest.raises(DatabaseError), transaction.atomic(ALIAS):
            assert usable()
            own_postgresql.kill()
            cache.get("other")
        assert ledger.is_stale(":1:key")


def test_a_commit_makes_up_for_what_was_missed(table: str) -> None:
    cache = caches["default"]
    cache.set("key", "old")
    with refusing(table, "INSERT", "UPDATE", "DELETE"):
        cache.set("key", "newer")
    with transaction.atomic(ALIAS):
        cache.set("key", "newest")
    assert registry.layer("table").missed_changes.in_sync
    assert cache.get("key") == "newest"
