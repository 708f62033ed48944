"""Outages of real servers under threads: what they cost, and how they end.

Limit 0.1 s, five failures open the breaker, healthy local memory above.  Servers are real ones, so a
rule about the length of a call gets three attempts on a busy machine; a rule about what is returned
or counted gets one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.cache import caches

from django_resilient_cache import State, breakers, deadline
from django_resilient_cache.layer.registry import registry
from tests import services
from tests.contract.kinds import EVERY, Kind, available
from tests.contract.outages import WITH_SERVERS
from tests.entries import DATABASE
from tests.services.shared_servers import SharedServers
from tests.traffic import LIMIT, SLOW, absent, attempts, chain_over, too_slow, traffic, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.exclusive]

#: Every server under every limit that ends a wait for it.
SERVERS = [kind for kind in EVERY if kind.place in WITH_SERVERS and kind.strategy != "direct"]


def only(*labels: str) -> pytest.MarkDecorator:
    chosen = [kind for kind in SERVERS if kind.label in labels]
    assert len(chosen) == len(labels)
    return pytest.mark.parametrize("kind", chosen, ids=lambda kind: kind.label, indirect=True)


#: Clients with the limit on their sockets, clients on threads.
some_servers = only(
    "django-redis, sockets", "django-redis, thread", "pymemcache, sockets", "pylibmc, thread"
)
two_servers = only("django-redis, sockets", "PostgreSQL, thread")

LONG = os.environ.get("RESILIENT_CACHE_TEST_LONG") == "1"


@pytest.fixture(params=SERVERS, ids=lambda kind: kind.label)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    available(found)
    return found


@pytest.fixture
def server(kind: Kind, shared_servers: SharedServers) -> Iterator[services.RealServer]:
    yield shared_servers.healthy(str(kind.place))
    shared_servers.healthy(str(kind.place))


@pytest.fixture
def entry(kind: Kind, server: services.RealServer, shared_servers: SharedServers) -> dict[str, Any]:
    return kind.entry_at(shared_servers.place(str(kind.place)))


def layer() -> dict[str, Any]:
    return registry.snapshot()["layer"]


def test_a_frozen_server_costs_each_call_its_limit_and_few_calls_that(
    kind: Kind, entry: dict[str, Any], server: services.RealServer
) -> None:
    """No call over limit + 50 ms, no more slow calls than open the breaker or were under way."""

    def broken_rule() -> str:
        with chain_over(entry, RESET_TIMEOUT=60):
            with traffic(absent) as running:
                time.sleep(0.2)
                server.freeze()
                began = len(running.lengths)
                wait_for("layer", State.OPEN, 10)
                time.sleep(0.3)
                server.thaw()
            assert layer()["strategy"] == kind.strategy
            return too_slow(running.lengths[began:])

    attempts(broken_rule)


@some_servers
def test_the_server_is_used_again_soon_after_it_resumes(
    entry: dict[str, Any], server: services.RealServer
) -> None:
    """Closed within 1.2 times the current reset time + limit + 0.5 s."""
    with chain_over(entry, RESET_TIMEOUT=0.5) as cache:
        with traffic(absent, threads=4):
            server.freeze()
            wait_for("layer", State.OPEN, 10)
            time.sleep(0.7)  # a trial has failed: the reset time has doubled
            server.thaw()
            current = breakers["layer"]._reset_time
            took = wait_for("layer", State.CLOSED, 20)
        assert took < 1.2 * current + LIMIT + 0.5
        cache.set("key", "value")
        assert services.wait_until(lambda: caches["layer"].get("key") == "value")


@some_servers
def test_a_killed_server_opens_the_breaker_within_the_calls_under_way(
    entry: dict[str, Any], server: services.RealServer
) -> None:
    with chain_over(entry, RESET_TIMEOUT=0.5):
        with traffic(absent):
            time.sleep(0.2)
            before = layer()["failures"] + layer()["timeouts"]
            server.kill()
            wait_for("layer", State.OPEN, 10)
            assert layer()["failures"] + layer()["timeouts"] - before <= SLOW
            server.start()
            wait_for("layer", State.CLOSED, 30)


def test_packets_that_drip_cost_no_more_than_the_limit(kind: Kind) -> None:
    """A byte each 80 ms, so that no read of a socket ever times out."""
    if kind.backend == DATABASE:
        pytest.skip("its threads end with the server alone")
    start = b"VALUE key 0 1000000\r\n" if kind.place == "memcached" else b"$1000000\r\n"

    def broken_rule() -> str:
        with services.DrippingServer(every=0.08, start=start) as server:
            with chain_over(kind.entry_at(server), RESET_TIMEOUT=60), traffic(absent) as running:
                wait_for("layer", State.OPEN, 10)
                time.sleep(0.2)
            return too_slow(running.lengths)

    attempts(broken_rule)


@two_servers
def test_a_server_that_comes_and_goes(entry: dict[str, Any], server: services.RealServer) -> None:
    """No permit is lost: it is tried again each time, and no more often than the back-off says."""
    spell, reset, rounds = (3.0, 0.4, 20) if LONG else (0.8, 0.2, 2)
    with chain_over(entry, RESET_TIMEOUT=reset, MAX_RESET_TIMEOUT=4 * reset):
        with traffic(absent, threads=8):
            for _ in range(rounds):
                server.freeze()
                wait_for("layer", State.OPEN, 10)
                time.sleep(2 * LIMIT)  # calls under way have ended, and at most a trial has begun
                before = layer()["timeouts"]
                time.sleep(spell)
                assert layer()["timeouts"] - before <= trials(spell, reset) + 1
                server.thaw()
                wait_for("layer", State.CLOSED, 30)
                time.sleep(spell if LONG else 0)


def trials(spell: float, reset: float) -> int:
    """How many trials fit into a spell, each 20 % early."""
    count, longest = 0, 4 * reset
    while spell > 0:
        spell -= 0.8 * reset + LIMIT
        reset = min(2 * reset, longest)
        count += 1
    return count


@some_servers
def test_hung_layers_cost_no_more_than_the_callers_deadline(
    entry: dict[str, Any], server: services.RealServer
) -> None:
    """Every layer hung, `deadline(0.3)`: 0.35 s at most for all calls, and nobody is blamed."""
    near = {**entry, "RESILIENCE": {**entry["RESILIENCE"], "OPERATION_TIMEOUT": 4}}
    with chain_over(entry, near=near, OPERATION_TIMEOUT=5) as cache:
        cache.set("key", "value")
        server.freeze()

        def broken_rule() -> str:
            began = time.perf_counter()
            with deadline(0.3):
                assert cache.get("key") is None
                assert cache.get_many(["key", "other"]) == {}
                cache.set("key", "newer")
            took = time.perf_counter() - began
            return "" if took < 0.35 else f"{took:.3f} s"

        attempts(broken_rule)
        assert {breaker.state for breaker in breakers.values()} == {State.CLOSED}


@some_servers
def test_busy_threads_do_not_open_the_breaker_of_a_healthy_server(entry: dict[str, Any]) -> None:
    """Eight threads that compute leave its calls too little of the processor."""
    with chain_over(entry) as cache, burning(8):
        cache.set("key", "value")
        ends = time.monotonic() + 3
        while time.monotonic() < ends:
            caches["memory"].clear()
            cache.get("key")
            assert breakers["layer"].state is State.CLOSED


@contextmanager
def burning(count: int) -> Iterator[None]:
    done = threading.Event()

    def burn() -> None:
        while not done.is_set():
            sum(range(1000))

    burners = [threading.Thread(target=burn) for _ in range(count)]
    for burner in burners:
        burner.start()
    try:
        yield
    finally:
        done.set()
        for burner in burners:
            burner.join()
