"""A DatabaseCache from async code: in the ORM's thread and transactions, or on threads of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.cache import caches
from django.core.cache.backends.db import DatabaseCache
from django.db import DatabaseError, connections, transaction
from django.test import override_settings

from django_resilient_cache.layer.registry import registry
from tests.contract.api import InALoopEach
from tests.entries import MEMORY, chain
from tests.services import wait_until
from tests.services.cache_tables import ROUTERS
from tests.test_transactions import (
    ALIAS,
    CHANGES,
    READS,
    moved_away,
    refusing,
    table,
    usable,
)

pytestmark = pytest.mark.usefixtures("still_agent")

__all__ = ["table"]


@pytest.fixture
def resilience() -> dict[str, Any]:
    """As a DatabaseCache is by default: without a limit."""
    return {}


@pytest.fixture
def orm(table: str) -> Iterator[str]:
    """The table; what async code has opened is closed afterwards."""
    yield table
    asyncio.run(sync_to_async(connections.close_all)())


def cache_of(alias: str) -> Any:
    """The chain, through its async methods, from sync code."""
    return InALoopEach()(caches[alias])


@pytest.mark.parametrize("alias", ["default", "near"])
@pytest.mark.parametrize("name", READS)
def test_a_read_that_ended_the_callers_transaction_is_passed_on(
    name: str, alias: str, orm: str
) -> None:
    layer = registry.layer("table")
    with moved_away(orm):
        with pytest.raises(DatabaseError, match="does not exist"), transaction.atomic(ALIAS):
            READS[name](cache_of(alias))
        assert layer.guard.counters.failures == 1
    assert usable()


@pytest.mark.parametrize("alias", ["default", "near"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_fails_leaves_the_callers_transaction_as_it_was(
    name: str, alias: str, orm: str
) -> None:
    cache, layer = cache_of(alias), registry.layer("table")
    cache.set("key", "old")
    with refusing(orm, "INSERT", "UPDATE", "DELETE"), transaction.atomic(ALIAS):
        CHANGES[name](cache)
        assert usable()
    assert layer.guard.counters.failures == (0 if name in ("add", "touch") else 1)
    if name not in ("add", "touch"):
        caches["memory"].clear()
        assert cache.get("key") is None
        registry.tend()
        assert caches["table"].get("key") is None


@pytest.mark.parametrize("name", ["set", "set_many", "delete", "delete_many", "clear"])
def test_what_is_rolled_back_was_seen_in_the_transaction_alone(name: str, orm: str) -> None:
    cache = cache_of("default")
    cache.set("key", "old")
    with pytest.raises(LookupError), transaction.atomic(ALIAS):
        CHANGES[name](cache)
        assert cache.get("key") == ("new" if "set" in name else None)
        raise LookupError
    assert cache.get("key") == "old"


@pytest.mark.parametrize("name", ["set", "set_many", "delete", "delete_many", "clear"])
def test_a_rollback_brings_back_what_was_missed_and_no_reader_sees_it(name: str, orm: str) -> None:
    cache = cache_of("near")
    cache.set("key", "old")
    with refusing(orm, "INSERT", "UPDATE", "DELETE"):
        cache.set("key", "newer")
    with pytest.raises(LookupError), transaction.atomic(ALIAS):
        CHANGES[name](cache)
        raise LookupError
    assert caches["table"].get("key") == "old"
    caches["memory"].clear()
    assert cache.get("key") is None
    registry.tend()
    assert caches["table"].get("key") is None


def test_sync_code_in_the_orms_thread_that_calls_async_code(orm: str) -> None:
    def view() -> Any:
        with transaction.atomic(ALIAS):
            async_to_sync(caches["default"].aset)("key", "value")
            return async_to_sync(caches["default"].aget)("key")

    async def main() -> Any:
        return await sync_to_async(view)(), await caches["default"].aget("key")

    assert asyncio.run(main()) == ("value", "value")


# On SQLite, with calls that take as long as the test wants


class Slow(DatabaseCache):
    """Waits before it writes."""

    begun = threading.Event()
    go_on = threading.Event()
    threads: list[str] = []

    def set(self, *args: Any, **kwargs: Any) -> Any:
        self.threads.append(threading.current_thread().name)
        self.begun.set()
        assert self.go_on.wait(20.0)
        return super().set(*args, **kwargs)


def slow(table: str, **resilience: Any) -> Any:
    return override_settings(
        DATABASE_ROUTERS=ROUTERS,
        CACHES={
            "default": chain("memory", "table"),
            "memory": {"BACKEND": MEMORY, "LOCATION": "async database"},
            "table": {"BACKEND": f"{__name__}.Slow", "LOCATION": table, "RESILIENCE": resilience},
        },
    )


@pytest.fixture
def sqlite(sqlite_table: str, monkeypatch: Any) -> Iterator[str]:
    for name in ("begun", "go_on"):
        monkeypatch.setattr(Slow, name, threading.Event())
    Slow.threads.clear()
    with slow(sqlite_table):
        caches["table"].clear()
    yield sqlite_table
    asyncio.run(sync_to_async(connections.close_all)())


def test_it_is_called_where_the_orm_is(sqlite: str) -> None:
    async def main() -> Any:
        cache = caches["default"]
        Slow.go_on.set()
        await cache.aset("key", "value")
        caches["memory"].clear()
        found = [
            await cache.aget("key"),
            await cache.aget_many(["key"]),
            await cache.aadd("key", 0),
            await cache.aincr("n") if await cache.aadd("n", 1) else None,
            await cache.aget_or_set("computed", lambda: 3),
            await cache.adelete("key"),
            await cache.aclear(),
        ]
        return found, await sync_to_async(threading.current_thread)()

    with slow(sqlite):
        found, thread = asyncio.run(main())
    assert found == ["value", {"key": "value"}, False, 2, 3, True, None]
    assert set(Slow.threads) == {thread.name}


def test_with_a_limit_it_is_called_on_threads(sqlite: str) -> None:
    async def main() -> Any:
        Slow.go_on.set()
        await caches["default"].aset("key", "value")
        caches["memory"].clear()
        return await caches["default"].aget("key")

    with slow(sqlite, OPERATION_TIMEOUT=10):
        assert asyncio.run(main()) == "value"
        registry.reset()
        assert wait_until(lambda: "resilient-cache-table" not in threads())
    assert set(Slow.threads) == {"resilient-cache-table"}


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


async def until(event: threading.Event) -> None:
    while not event.is_set():  # noqa: ASYNC110 - set by a thread
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("end", ["cancelled", "closed"])
def test_a_call_whose_caller_is_ended_goes_on_and_is_waited_for(sqlite: str, end: str) -> None:
    """Its key is not read, nor repaired, before it has really ended."""

    async def main() -> None:
        cache, layer = caches["default"], registry.layer("table")
        caches["memory"].set("key", "older")
        coroutine = cache.aset("key", "value")
        if end == "cancelled":
            task = asyncio.create_task(coroutine)
            await until(Slow.begun)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            coroutine.send(None)
            await until(Slow.begun)
            coroutine.close()
        assert layer.missed_changes.is_stale(":1:key")
        assert caches["memory"].get("key") is None
        assert not layer.missed_changes.pending(10), "a repair now would come before it"
        Slow.go_on.set()
        while not layer.missed_changes.pending(10):  # noqa: ASYNC110 - the thread's doing
            await asyncio.sleep(0.001)
        await sync_to_async(registry.tend)()
        assert await sync_to_async(caches["table"].get)("key") is None
        assert layer.missed_changes.in_sync
        assert layer.guard.counters.failures == 0

    with slow(sqlite):
        asyncio.run(main())


@pytest.mark.parametrize("end", ["cancelled", "closed"])
def test_a_call_whose_caller_is_ended_before_it_began_is_not_made(sqlite: str, end: str) -> None:
    async def main() -> None:
        cache = caches["default"]
        first = asyncio.create_task(cache.aset("first", "value"))
        await until(Slow.begun)
        coroutine = cache.aset("key", "value")
        if end == "cancelled":
            second = asyncio.create_task(coroutine)
            await asyncio.sleep(0.01)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
        else:
            coroutine.send(None)
            await asyncio.sleep(0.01)
            coroutine.close()
        Slow.go_on.set()
        await first
        assert await sync_to_async(caches["table"].get)("key") is None
        assert registry.layer("table").missed_changes.is_stale(":1:key"), (
            "nobody knows, so it is repaired"
        )
        assert registry.layer("table").guard.counters.failures == 0

    with slow(sqlite):
        asyncio.run(main())
    assert len(Slow.threads) == 1


def test_a_read_whose_caller_is_cancelled_leaves_nothing(sqlite: str) -> None:
    async def main() -> None:
        cache = caches["default"]
        writes = asyncio.create_task(cache.aset("first", "value"))
        await until(Slow.begun)
        reads = asyncio.create_task(cache.aget("key"))
        await asyncio.sleep(0.01)
        reads.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reads
        Slow.go_on.set()
        await writes
        assert registry.layer("table").missed_changes.in_sync

    with slow(sqlite):
        asyncio.run(main())
