"""For pytest: each test is a rehearsal, and the fixture `cache_faults` is `faults`.

In the top-level conftest.py::

    pytest_plugins = ["django_resilient_cache.testing.pytest_plugin"]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from django_resilient_cache.testing import Faults, faults, rehearsal


@pytest.fixture(autouse=True)
def _cache_rehearsal() -> Iterator[None]:
    """Begin and end each test with nothing broken: see `rehearsal`."""
    with rehearsal():
        yield


@pytest.fixture
def cache_faults(_cache_rehearsal: None) -> Callable[[str], Faults]:
    """Return `faults`: what goes wrong with the `FaultyCache` of an alias."""
    return faults
