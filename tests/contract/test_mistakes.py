"""What the caller does wrong, and how a caller is ended, says nothing about a layer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from django.core.cache import BaseCache, caches
from django.core.cache.backends.base import InvalidCacheKey
from django.test import override_settings

from django_resilient_cache import (
    State,
    deadline,
)
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.testing import faults
from tests.contract.api import Api
from tests.contract.every_method import CALLS, made
from tests.contract.scene import entries

pytestmark = pytest.mark.usefixtures("still_agent")

MISTAKES: dict[str, tuple[Callable[[BaseCache], Any], type[Exception]]] = {
    "unpicklable": (lambda c: c.set("k", threading.Lock()), TypeError),
    "missing counter": (lambda c: c.incr("missing"), ValueError),
    "no counter": (lambda c: c.incr("text"), TypeError),
    "wrong timeout": (lambda c: c.set("k", 1, timeout=cast("int", "soon")), TypeError),
    "computation": (lambda c: c.get_or_set("c", lambda: 1 // 0), ZeroDivisionError),
}


@pytest.mark.parametrize("location", [["far"], ["near", "far"], ["near", "middle", "far"]], ids=str)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_callers_own_mistakes_pass_on_uncounted(
    mistake: str, location: list[str], api: Api
) -> None:
    call, error = MISTAKES[mistake]
    for mode in ("miss", "raise"):
        with override_settings(CACHES=entries(location, mode)):
            chain = api(caches["default"])
            chain.set("text", "abc")
            with pytest.raises(error):
                call(chain)
            for alias in location:
                assert registry.layer(alias).guard.counters.failures == 0
                assert registry.layer(alias).breaker.last_error is None


def test_a_mistake_leaves_no_copy_above_that_the_authority_refused(api: Api) -> None:
    with override_settings(CACHES=entries(["near", "middle", "far"])):
        chain = api(caches["default"])
        chain.set("k", 1)
        with pytest.raises(TypeError):
            chain.set("k", threading.Lock())
        assert chain.get("k") == 1, "as the authority has it"
        caches["real"].delete("k")
        with pytest.raises(ValueError, match="not found"):
            chain.incr("k")
        assert chain.get("k") is None, "no layer above contradicts the authority"


def test_a_layers_error_of_the_same_type_is_no_mistake(api: Api) -> None:
    """A garbage reply can surface as TypeError or AttributeError."""
    for error in (TypeError, AttributeError, KeyError, IndexError, UnicodeDecodeError):
        arguments = ("utf-8", b"", 0, 1, "garbage") if error is UnicodeDecodeError else ("garbage",)
        with override_settings(CACHES=entries(["far"])):
            faults("far").fail(error(*arguments))
            assert api(caches["default"]).get("k") is None
            assert registry.layer("far").guard.counters.failures == 1


def test_an_interrupt_passes_through_uncounted_and_leaves_nothing_above(api: Api) -> None:
    for interrupt in (KeyboardInterrupt, SystemExit):
        with override_settings(CACHES=entries(["near", "far"])):
            chain = api(caches["default"])
            chain.set("k", 1)
            layer = registry.layer("far")
            faults("far").fail(interrupt, operations=["set"])  # type: ignore[arg-type]  # a mistake on purpose
            with pytest.raises(interrupt):
                chain.set("k", 2)
            assert caches["near"].get("k") is None
            assert layer.guard.counters.failures == 0
            assert layer.breaker.state is State.CLOSED


def test_a_spent_deadline_still_reaches_the_direct_layers(api: Api) -> None:
    resilience = {"OPERATION_TIMEOUT": 20, "TIMEOUT_STRATEGY": "thread"}
    with override_settings(CACHES=entries(["near", "far"], "miss", resilience)):
        chain = api(caches["default"])
        chain.set("k", 1)
        with deadline(0):
            assert chain.get("k") == 1
            assert chain.get("other", "default") == "default"
            chain.set("k", 2)
            assert chain.get("k") == 2
            chain.delete("k")
            assert chain.get("k") is None
        layer = registry.layer("far")
        assert layer.guard.counters.failures == 0
        assert layer.breaker.last_error is None


def test_invalid_keys_of_a_layer_pass_on(api: Api) -> None:
    settings = entries(["strict"])
    settings["strict"] = {"BACKEND": "tests.contract.test_mistakes.Strict", "LOCATION": "strict"}
    with override_settings(CACHES=settings):
        chain = api(caches["default"])
        for name in CALLS.keys() - {"clear"}:  # it has no key
            assert made(name, chain) is InvalidCacheKey
        assert registry.layer("strict").guard.counters.failures == 0


class Strict(caches["default"].__class__):  # type: ignore[misc]  # a class found at run time
    def validate_key(self, key: str) -> None:
        raise InvalidCacheKey(key)
