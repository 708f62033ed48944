"""How a layer is called from an event loop where its limit has no way of its own to be awaited."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.test import override_settings

from django_resilient_cache import conf
from django_resilient_cache.timeouts.from_event_loop import (
    OrmThread,
    SocketsOnThreads,
    _CallInThread,
)
from django_resilient_cache.timeouts.sockets import greenlets
from django_resilient_cache.timeouts.sockets.socket_limit import SocketsLimit
from django_resilient_cache.timeouts.strategy import make_awaited, make_limit
from django_resilient_cache.timeouts.threads.thread_limit import ThreadLimit
from django_resilient_cache.timeouts.time_limit import TimedOut
from tests.calls import FunctionCall
from tests.entries import DATABASE, DUMMY, FAULTY, FILE, MEMORY, PYMEMCACHE, REDIS, chain


class InPlace:
    """Threads that are quick."""

    def __init__(self) -> None:
        self.closed = self.turned_away = 0

    async def acall(self, call: Any, budget: float | None, *, trial: bool) -> Any:
        return call.run(None)

    def reject_waiting(self) -> None:
        self.turned_away += 1

    def close(self) -> None:
        self.closed += 1


class Noting:
    """A sockets limit that says what it was given."""

    def call(self, call: Any, budget: float | None, *, trial: bool) -> Any:
        return call, budget, trial


def on_threads() -> tuple[SocketsOnThreads, InPlace]:
    threads: Any = InPlace()
    limit: Any = Noting()
    return SocketsOnThreads(limit, threads), threads


def test_the_sockets_limit_gets_what_is_left_of_the_budget() -> None:
    awaited, _ = on_threads()
    call = FunctionCall(print, "key")
    given: Any = asyncio.run(awaited.acall(call, 5.0, trial=True))
    assert (given[0], given[2]) == (call, True)
    assert 4.0 < given[1] <= 5.0
    given = asyncio.run(awaited.acall(call, None, trial=False))
    assert given == (call, None, False)


def test_it_is_not_called_when_nothing_is_left() -> None:
    awaited, _ = on_threads()
    with pytest.raises(TimedOut) as caught:
        asyncio.run(awaited.acall(FunctionCall(print), 0.0, trial=False))
    assert caught.value.server_seconds == 0.0


def test_the_threads_go_with_it() -> None:
    awaited, threads = on_threads()
    awaited.reject_waiting()
    awaited.close()
    assert (threads.turned_away, threads.closed) == (1, 1)


def test_a_call_is_made_once_or_not_at_all() -> None:
    made: list[Any] = []
    backend: Any = None
    call = _CallInThread(FunctionCall(lambda _: made.append(1)), backend)
    assert call.prevented()
    call()
    other = _CallInThread(FunctionCall(lambda _: made.append(2)), backend)
    told: list[str] = []
    other.when_ended(lambda: told.append("before"))
    other()
    assert not other.prevented()
    other.when_ended(lambda: told.append("after"))
    assert made == [2]
    assert told == ["before", "after"]


@pytest.mark.parametrize("available", [True, False])
@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"BACKEND": MEMORY}, None),
        ({"BACKEND": FILE, "LOCATION": "/tmp/none"}, None),
        ({"BACKEND": DUMMY}, None),
        ({"BACKEND": DATABASE, "LOCATION": "table"}, OrmThread),
        (
            {"BACKEND": DATABASE, "LOCATION": "table", "RESILIENCE": {"OPERATION_TIMEOUT": 1}},
            ThreadLimit,
        ),
        ({"BACKEND": FAULTY, "LOCATION": "default"}, ThreadLimit),
        ({"BACKEND": REDIS, "LOCATION": "redis://127.0.0.1:1/0"}, SocketsLimit),
        ({"BACKEND": PYMEMCACHE, "LOCATION": "127.0.0.1:1"}, SocketsLimit),
        (
            {
                "BACKEND": REDIS,
                "LOCATION": "redis://127.0.0.1:1/0",
                "RESILIENCE": {"OPERATION_TIMEOUT": None},
            },
            ThreadLimit,
        ),
    ],
)
def test_who_is_awaited_how(
    entry: dict[str, Any], kind: type | None, available: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greenlets, "AVAILABLE", available)
    with override_settings(CACHES={"default": chain("layer"), "layer": entry}):
        config = conf.layer_config("layer")
        limit = make_limit(config)
        awaited = make_awaited(config, limit)
        limit.close()
    if kind is None:
        assert awaited is None
    elif kind is SocketsLimit and not available:
        assert isinstance(awaited, SocketsOnThreads)
    else:
        assert isinstance(awaited, kind)
