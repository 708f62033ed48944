"""A site under uvicorn with 200 requests at a time while its Redis is frozen.

What `python -m benchmarks uvicorn` measures is held to here, with room for a busy machine: three
attempts, percentiles in place of extremes, and the event loop answers for its own lateness alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from benchmarks.asgi import GRACE, WAYS, Site, Window
from benchmarks.servers import Server
from benchmarks.setup import LIMIT
from tests import services
from tests.traffic import attempts

pytestmark = [pytest.mark.slow, pytest.mark.exclusive]

#: Milliseconds that each request does something else: 200 of them keep no machine busy.
PAUSE = 3000
SECONDS = 3.0


@pytest.fixture(params=WAYS)
def site(request: pytest.FixtureRequest, needs: Callable[[str], None]) -> Iterator[Site]:
    for package in ("uvicorn", "django_redis", *["greenlet"] * (request.param == "sockets")):
        needs(package)
    if services.valkey_program() is None:
        services.unavailable("no Valkey for the site")
    with Server() as redis, Site(request.param, redis) as made:
        made.window("default", 1.0)  # what is made once is there
        yield made


def percentile(seconds: Sequence[float], share: float) -> float:
    return seconds[int(len(seconds) * share)]


def broken_rules(without: Window, frozen: Window) -> Iterator[str]:
    if frozen.throughput < 0.7 * without.throughput:
        yield f"{frozen.throughput:.0f} requests/s, {without.throughput:.0f} without Redis"
    if percentile(frozen.calls, 0.99) > LIMIT + GRACE:
        yield f"cache calls took {percentile(frozen.calls, 0.99):.3f} s"
    slow = sum(1 for seconds in frozen.calls if seconds > GRACE)
    if slow > 200:  # no request more than once
        yield f"{slow} cache calls waited"
    if percentile(frozen.own_lags, 0.99) > 0.02:
        yield f"the event loop was late by {percentile(frozen.own_lags, 0.99):.3f} s"
    held_up = sum(seconds for seconds in frozen.own_lags if seconds > LIMIT / 2)
    if held_up > 4 * LIMIT:  # five calls open the breaker
        yield f"the event loop was held up for {held_up:.3f} s"


def test_a_frozen_redis_holds_up_neither_requests_nor_the_event_loop(site: Site) -> None:
    def broken_rule() -> str:
        without = site.window("without", SECONDS, PAUSE)
        frozen = site.frozen(SECONDS, PAUSE)
        return "; ".join(broken_rules(without, frozen))

    attempts(broken_rule)
    layer = site.get("figures")["layer"]
    assert layer["strategy"] == ("thread" if site.way == "thread" else "sockets")
    assert layer["rejected"] > 0
