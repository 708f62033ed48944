"""What a layer's breaker does not take for an outage, and what it does, through a chain."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import caches

from django_resilient_cache import State, breakers
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.testing import faults
from tests.clock import Clock
from tests.entries import CHAIN, FAULTY, MEMORY
from tests.simulated_chain import SimulatedChain, simulated_chain

#: As a project has them that sets nothing.
DEFAULTS: dict[str, Any] = {"MAX_FAILURES": 5, "RESET_TIMEOUT": 5, "HALF_OPEN_SUCCESSES": 2}


def ask(sim: SimulatedChain, *, fails: bool) -> None:
    if fails:
        sim.refuse("far")
    assert sim.cache.get("absent") is None
    sim.heal("far")
    sim.clock.forward(0.05)


def test_one_error_in_ten_evenly_spread_is_no_outage() -> None:
    with simulated_chain("memory", "far", **DEFAULTS) as sim:
        for number in range(3000):
            ask(sim, fails=number % 10 == 0)
            assert sim.layer("far").breaker.state is State.CLOSED


@pytest.mark.parametrize("pattern", ["FFFSS", "FSFSF", "FFFFSSFFSS"])
@pytest.mark.parametrize("well_before", [0, 400])
def test_six_errors_in_ten_open_it_within_the_window(pattern: str, well_before: int) -> None:
    with simulated_chain("memory", "far", **DEFAULTS) as sim:
        for _ in range(well_before):
            ask(sim, fails=False)
        began = sim.clock()
        while sim.layer("far").breaker.state is State.CLOSED:
            for letter in pattern:
                ask(sim, fails=letter == "F")
            assert sim.clock() - began <= 10


def test_the_wall_clock_may_be_set_back_and_forth(
    settings: Any, monkeypatch: pytest.MonkeyPatch, still_agent: None
) -> None:
    settings.CACHES = {
        "default": {"BACKEND": CHAIN, "LOCATION": ["far", "broken"]},
        "far": {"BACKEND": FAULTY, "LOCATION": "behind far"},
        "broken": {
            "BACKEND": FAULTY,
            "LOCATION": "behind broken",
            "RESILIENCE": {"RESET_TIMEOUT": 1000, "MAX_RESET_TIMEOUT": 1000},
        },
        "behind far": {"BACKEND": MEMORY, "LOCATION": "far"},
        "behind broken": {"BACKEND": MEMORY, "LOCATION": "broken"},
    }
    wall = Clock(1_800_000_000.0)
    monkeypatch.setattr("time.time", wall)
    cache = caches["default"]
    with faults("broken").fail():
        for number in range(5):
            cache.set(f"missed{number}", 1)
    for jump in (-1e6, 2e6, -3e9, 3e9):
        wall.forward(jump)
        cache.set("key", jump)
        assert cache.get("key") == jump
        assert breakers["far"].state is State.CLOSED
        assert breakers["broken"].state is State.OPEN
        assert 700 < breakers["broken"].retry_after <= 1200
        registry.tend()
        assert len(registry.layer("broken").missed_changes) >= 5, (
            "nothing was forgotten or made up for"
        )
