"""The benches: each kind of layer, alone and below local memory."""

from __future__ import annotations

import pytest

from tests.contract.kinds import ABOVE, KINDS, Bench, Kind, available


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    available(found)
    return found


@pytest.fixture(params=ABOVE)
def bench(request: pytest.FixtureRequest, kind: Kind) -> Bench:
    """A kind of layer, alone and below local memory."""
    return Bench(kind, ABOVE[request.param], kind.entry(request))
