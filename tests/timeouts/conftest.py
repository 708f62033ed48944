"""What the tests of the limits may ask for."""

from __future__ import annotations

import pytest

from .in_loop import WAYS, calling


@pytest.fixture(params=WAYS)
def way(request):
    """How a limit is called: by a thread that waits, or by a task."""
    with calling(request.param):
        yield request.param
