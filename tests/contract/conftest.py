"""The benches: each kind of layer, in each place in a chain; and the ways to call them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.api import WAYS, Api, called
from tests.contract.bench import POSITIONS, Bench
from tests.contract.kinds import KINDS, Kind, available


@pytest.fixture(params=KINDS, ids=lambda kind: kind.label)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    available(found)
    return found


@pytest.fixture(params=["alone", "below memory"])
def position(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bench(request: pytest.FixtureRequest, kind: Kind, position: str) -> Bench:
    """A kind of layer, alone and below local memory."""
    above, below = POSITIONS[position]
    return Bench(kind, above, kind.entry(request), below)


@pytest.fixture(params=WAYS)
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    """The sync methods, and the async ones through the same names."""
    with called(request.param) as made:
        yield made
