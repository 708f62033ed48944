"""An interrupt that strikes the async driver anywhere leaves no copy that is older."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import BaseCache, caches
from django.test import override_settings

from django_resilient_cache.backend import drivers
from tests.contract.api import at_once
from tests.entries import MEMORY, chain
from tests.in_thread import in_thread

pytestmark = pytest.mark.usefixtures("still_agent")


@pytest.fixture
def cache() -> Iterator[BaseCache]:
    settings = {
        "default": chain("near", "far"),
        "near": {"BACKEND": MEMORY, "LOCATION": "near"},
        "far": {"BACKEND": MEMORY, "LOCATION": "far"},
    }
    with override_settings(CACHES=settings):
        yield caches["default"]


def strike_at(line: int, strikes: list[int]) -> Any:
    """A trace that raises at that line of those that the driver runs."""
    driver = drivers.arun.__code__
    passed = 0

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal passed
        # At the line of a `try` itself no signal is looked for, and no handler is in force.
        if frame.f_code is driver and event == "line" and not is_try(frame):
            passed += 1
            if passed == line:
                sys.settrace(None)
                strikes.append(line)
                raise KeyboardInterrupt
        return trace

    return trace


def is_try(frame: Any) -> bool:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() == "try:"


@pytest.mark.parametrize("name", ["aset", "adelete"])
@in_thread
def test_anywhere(cache: BaseCache, name: str) -> None:
    strikes: list[int] = []
    args = ("key", "new") if name == "aset" else ("key",)
    for line in range(1, 200):
        cache.set("key", "old")
        sys.settrace(strike_at(line, strikes))
        try:
            at_once(getattr(cache, name), *args)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        assert caches["near"].get("key") in (None, caches["far"].get("key"))
        if line not in strikes:
            break
    assert len(strikes) > 10
