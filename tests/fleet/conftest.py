"""What tests of the fleet share."""

from __future__ import annotations

from typing import Any

import pytest

from tests.entries import FILE, MEMORY, chain, layer
from tests.fleet.simulated_fleet import Host, World


@pytest.fixture(autouse=True)
def _two_layers(settings: Any) -> None:
    """The aliases that orders may name: "redis" and "other"."""
    settings.CACHES = {
        "default": chain("redis", "other"),
        "redis": layer(FILE, LOCATION="/nowhere"),
        "other": layer(FILE, LOCATION="/nowhere else"),
        "memory": layer(MEMORY),
    }


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def host(world: World) -> Host:
    return Host(world, "web1")
