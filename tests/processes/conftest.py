"""A site for each test, or one that a module's tests share."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests.processes.site_processes import Site
from tests.services import unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def sites(directories: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    with ExitStack() as stack:
        yield lambda **environment: Site(directories.mktemp("site"), stack, **environment)


@pytest.fixture(scope="module")
def make_shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """As `make_site`, for all tests of a module."""
    with sites(tmp_path_factory) as make:
        yield make


@pytest.fixture
def make_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """`make_site(SITE_BOARD=...)`: a site of the test's own, whose processes end with it."""
    with sites(tmp_path_factory) as make:
        yield make


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A site of the test's own, on the default board."""
    return make_site()


@pytest.fixture(scope="session")
def needs() -> Callable[[str], None]:
    """`needs("celery")`: or else the test is skipped, or fails where services are required."""

    def check(package: str) -> None:
        if find_spec(package) is None:
            unavailable(f"no {package}: pip install {package}")

    return check
