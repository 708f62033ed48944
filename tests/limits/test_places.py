"""Tasks that queue for one of the places of a layer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from django_resilient_cache.limits import NoPlace, loops
from django_resilient_cache.limits.sockets import SocketsLimit
from tests.entries import MEMORY, chain, layer

pytestmark = pytest.mark.skipif(not loops.AVAILABLE, reason="no greenlet")


def test_who_waited_while_the_breaker_opened_is_not_let_in(settings: Any) -> None:
    """They would wait once more, each for a connection that has to be made first."""
    settings.CACHES = {"default": chain("layer"), "layer": layer(MEMORY)}
    limit = SocketsLimit("layer", 1)
    limit._raw = object()  # type: ignore[assignment]  # nobody looks at it
    made: list[str] = []

    async def call(name: str, *, trial: bool = False) -> None:
        await limit.acall(lambda raw: made.append(name), (), 60, trial=trial)

    async def scene() -> None:
        assert await limit._room.enter(0)
        queued = [asyncio.create_task(call("queued")) for _ in range(3)]
        await asyncio.sleep(0)
        limit.refused = lambda: True
        limit._room.leave()
        for task in queued:
            with pytest.raises(NoPlace):
                await task
        await call("trial", trial=True)

    asyncio.run(scene())
    assert made == ["trial"]
