"""A Memcached layer through real outages: limits kept, misses not made up, back soon after."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from django_resilient_cache import CacheUnavailable, State, breakers
from django_resilient_cache.layer.registry import registry
from tests import services
from tests.entries import PYLIBMC, PYMEMCACHE, chain

LIMIT = 0.1
GRACE = 0.05
RESET = 1.0

#: What a call may take that waits for nobody.
AT_ONCE = 0.08

KINDS = {
    "pymemcache on sockets": (PYMEMCACHE, "auto", "sockets"),
    "pymemcache on threads": (PYMEMCACHE, "thread", "thread"),
    "pylibmc on threads": (PYLIBMC, "auto", "thread"),
}
MODULES = {PYMEMCACHE: "pymemcache", PYLIBMC: "pylibmc"}

pytestmark = [
    pytest.mark.slow,
    *(
        pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"no {module}")
        for module in MODULES.values()
    ),
]


@dataclass
class Witness:
    """Asks one chain all the time, and notes what it hears and how long that takes."""

    name: str
    servers: list[services.MemcachedServer]
    keys: list[str]
    heard: list[object] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def chain(self) -> Any:
        return caches[f"{self.name}, chain"]

    @property
    def breaker(self) -> Any:
        return breakers[self.name]

    def is_closed(self) -> bool:
        return bool(self.breaker.state is State.CLOSED)

    def put(self, data: dict[str, Any]) -> None:
        """Store entries, on a machine that may be too busy for the limit."""

        def stored() -> bool:
            try:
                return not self.chain.set_many(data)
            except CacheUnavailable:
                return False

        assert services.wait_until(stored)

    def ask(self) -> None:
        key = self.keys[len(self.heard) % len(self.keys)]
        start = time.monotonic()
        try:
            answer = self.chain.get(key, "a miss")
        except CacheUnavailable:
            answer = "unavailable"
        self.seconds.append(time.monotonic() - start)
        self.heard.append(answer)

    def ask_for(self, seconds: float) -> None:
        self.heard.clear()
        self.seconds.clear()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.ask()
            time.sleep(0.02)

    def slow(self) -> list[float]:
        return [seconds for seconds in self.seconds if seconds > AT_ONCE]

    def back_after(self, answer: object) -> float:
        """Seconds until all keys are answered again."""
        start = time.monotonic()
        while time.monotonic() < start + 10:
            self.heard.clear()
            for _ in self.keys:
                self.ask()
            if set(self.heard) == {answer}:
                break
            time.sleep(0.02)
        return time.monotonic() - start


@pytest.fixture
def witnesses(request: pytest.FixtureRequest) -> Iterator[list[Witness]]:
    """One for each kind of client, each with servers of its own: so many as the test says."""
    number: int = getattr(request, "param", 1)
    with ExitStack() as stack:
        found = []
        entries: dict[str, Any] = {"default": {"BACKEND": "tests.entries.OwnCache"}}
        for name, (backend, wanted, _) in KINDS.items():
            servers = [stack.enter_context(services.memcached_server()) for _ in range(number)]
            entries[name] = {
                "BACKEND": backend,
                "LOCATION": [server.location for server in servers],
                "RESILIENCE": {
                    "OPERATION_TIMEOUT": LIMIT,
                    "RESET_TIMEOUT": RESET,
                    "MAX_RESET_TIMEOUT": RESET,
                    "TIMEOUT_STRATEGY": wanted,
                },
            }
            entries[f"{name}, chain"] = chain(name, OPTIONS={"ON_UNAVAILABLE": "raise"})
            keys = [f"key{number}" for number in range(1 if number == 1 else 20)]
            found.append(Witness(name, servers, keys))
        stack.enter_context(override_settings(CACHES=entries))
        yield found
        for witness in found:
            for server in witness.servers:
                server.thaw()


def side_by_side(witnesses: list[Witness], method: str, *args: Any) -> list[Any]:
    """What a method of each returns, all at the same time; one may not take the others' time."""
    results: list[Any] = [None] * len(witnesses)

    def run(position: int) -> None:
        results[position] = getattr(witnesses[position], method)(*args)

    threads = [threading.Thread(target=run, args=(each,)) for each in range(len(witnesses))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def assert_soon(took: list[float]) -> None:
    """They are back with the first trial; on a busy machine one may need a second one."""
    assert min(took) <= 1.2 * RESET + 1.0, dict(zip(KINDS, took, strict=True))
    assert max(took) <= 2 * 1.2 * RESET + 1.5, dict(zip(KINDS, took, strict=True))


def test_each_kind_has_the_limit_it_is_named_for(witnesses: list[Witness]) -> None:
    for witness in witnesses:
        assert registry.layer(witness.name).guard.strategy == KINDS[witness.name][2]


def test_frozen_for_8_seconds(witnesses: list[Witness]) -> None:
    for witness in witnesses:
        witness.put({witness.keys[0]: "value", "changed": "old"})
        witness.servers[0].freeze()

    side_by_side(witnesses, "ask_for", 4.0)
    for witness in witnesses:
        with pytest.raises(CacheUnavailable):
            witness.chain.set("changed", "new")
    first_half = [(list(witness.heard), list(witness.seconds)) for witness in witnesses]
    side_by_side(witnesses, "ask_for", 4.0)
    for witness, (heard, seconds) in zip(witnesses, first_half, strict=True):
        witness.heard += heard
        witness.seconds += seconds
        assert set(witness.heard) == {"unavailable"}, witness.name
        assert not witness.is_closed(), witness.name
        # Five open it; then one for each trial, of which there is one in 0.8 s at most.
        assert 5 <= len(witness.slow()) <= 5 + 15, (witness.name, witness.slow())
        within = sorted(witness.slow())[len(witness.slow()) // 3]  # others: a busy machine
        assert within <= LIMIT + GRACE, (witness.name, witness.slow())
    for witness in witnesses:
        witness.servers[0].thaw()
    took = side_by_side(witnesses, "back_after", "value")

    assert_soon(took)
    for witness in witnesses:
        assert witness.chain.get("changed") in (None, "new"), witness.name
        assert services.wait_until(witness.is_closed, 3.0)


def test_killed_and_started_again(witnesses: list[Witness]) -> None:
    for witness in witnesses:
        witness.put({witness.keys[0]: "value"})
        witness.servers[0].kill()

    side_by_side(witnesses, "ask_for", 3.0)
    for witness in witnesses:
        # The first read over its lost connection is a miss for pylibmc, of which check W011 speaks.
        unnoticed = 1 if KINDS[witness.name][0] == PYLIBMC else 0
        assert set(witness.heard[unnoticed:]) == {"unavailable"}, witness.name
        assert not witness.is_closed(), witness.name
        assert len(witness.slow()) <= 5 + 15, (witness.name, witness.slow())
    for witness in witnesses:
        witness.servers[0].start()
    took = side_by_side(witnesses, "back_after", "a miss")

    assert_soon(took)


@pytest.mark.parametrize("witnesses", [2], indirect=True)
def test_one_of_two_servers_frozen(witnesses: list[Witness]) -> None:
    """The layer is one: what the other server has is not asked for while the breaker is open."""
    for witness in witnesses:
        witness.put(dict.fromkeys(witness.keys, "value"))
        witness.servers[1].freeze()

    side_by_side(witnesses, "ask_for", 4.0)
    for witness in witnesses:
        assert set(witness.heard) == {"unavailable", "value"}, witness.name
    for witness in witnesses:
        witness.servers[1].thaw()
    took = side_by_side(witnesses, "back_after", "value")

    assert_soon(took)
