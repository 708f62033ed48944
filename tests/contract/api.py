"""The ways to call a cache: its sync methods, and its async ones through the same names.

The suite is written once, in sync code.  `Awaited` runs it through the async methods.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.core.cache import BaseCache
from django.db import close_old_connections, connections

#: The methods that Django's cache API has twice.
METHODS = frozenset(
    {
        *("get", "get_many", "has_key", "get_or_set"),
        *("set", "set_many", "delete", "delete_many", "clear"),
        *("add", "touch", "incr", "decr", "incr_version", "decr_version"),
        "close",
    }
)


class Awaited:
    """A cache whose methods await the async ones of the same name, each to its end."""

    def __init__(self, cache: BaseCache, run: Callable[..., Any]) -> None:
        self._awaited = cache
        self._run = run

    def __getattr__(self, name: str) -> Any:
        if name not in METHODS:
            return getattr(self._awaited, name)
        method = getattr(self._awaited, f"a{name}")

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._run(method, *args, **kwargs)

        return call

    def __contains__(self, key: object) -> bool:
        return bool(self.has_key(key))  # there is no other way to ask it in async code


class Api:
    """The sync methods."""

    def __call__(self, cache: BaseCache) -> Any:
        """What is called for a cache."""
        return cache

    def end_of_request(self) -> None:
        """What Django does then, where the calls were made: broken database connections go."""
        close_old_connections()


class InOneLoop(Api):
    """The async methods, in one event loop, as under ASGI."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner

    def __call__(self, cache: BaseCache) -> Any:
        return Awaited(cache, self._run)

    def end_of_request(self) -> None:
        self._run(sync_to_async(close_old_connections))
        super().end_of_request()

    def close(self) -> None:
        self._run(sync_to_async(connections.close_all))

    def _run(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # The runner has a context of its own; a deadline() is in the caller's.
        context = contextvars.copy_context()
        return self._runner.run(_result(method, *args, **kwargs), context=context)


class InALoopEach(Api):
    """The async methods, each call in an event loop of its own, as from sync code under WSGI."""

    def __call__(self, cache: BaseCache) -> Any:
        return Awaited(cache, async_to_sync(_result))


def at_once(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What the async method gives where nothing in it waits, without an event loop."""
    coroutine = method(*args, **kwargs)
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError("it waited")


async def _result(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return await method(*args, **kwargs)


@contextmanager
def called(way: str) -> Iterator[Api]:
    """One of WAYS."""
    if way == "sync":
        yield Api()
        return
    with asyncio.Runner() as runner:
        api = InOneLoop(runner)
        yield api
        api.close()


WAYS = ("sync", "async")
