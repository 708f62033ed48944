"""Django's `BaseCacheTests` for each chain, sync and through the async methods."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.test import TestCase, override_settings

from tests.django_suite.chains import CHAIN, DJANGOS_REDIS, LAYERS, caches_for
from tests.django_suite.through_async import CachesThroughAsync, DefaultThroughAsync

if "RESILIENT_CACHE_DJANGO_TESTS" not in os.environ:
    pytest.skip(
        "Django's own cache tests come with its source only: `tox run -e django_suite` fetches them",
        allow_module_level=True,
    )

from cache import tests as django_tests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services import ValkeyServer

#: Test -> why chains are not held to it.
LEFT_OUT = {
    "test_cull_delete_when_store_empty": (
        "reaches into a private attribute of one backend; culling is the layer's own matter"
    ),
}

Base: Any = django_tests.BaseCacheTests


class ChainTests:
    """What is left of Django's tests, on the chain `layers`."""

    layers: str
    incr_decr_type_error: Any = TypeError

    @pytest.fixture(autouse=True)
    def _chain(self, request: pytest.FixtureRequest) -> Iterator[None]:
        server: ValkeyServer | None = None
        if self.layers != "one local layer":
            server = request.getfixturevalue("valkey")
        layers = LAYERS[self.layers](server.url if server else "")
        with override_settings(CACHES=caches_for(layers, django_tests._caches_setting_base)):
            if layers.get("far", {}).get("BACKEND") == DJANGOS_REDIS:
                self.incr_decr_type_error = _response_error()
            yield

    def _perform_invalid_key_test(
        self, key: Any, expected_warning: Any, key_func: Any = None
    ) -> None:
        """Which keys are warned of is the nearest layer's matter, and so is its KEY_FUNCTION."""
        own = {"KEY_FUNCTION": key_func or (lambda key, *args: key)}
        layers = {
            alias: {**params, **({} if params["BACKEND"] == CHAIN else own)}
            for alias, params in settings.CACHES.items()
        }
        with override_settings(CACHES=layers):
            super()._perform_invalid_key_test(key, expected_warning)  # type: ignore[misc]  # Base's


def _response_error() -> type[Exception]:
    import redis

    return redis.ResponseError


class AsyncChainTests(ChainTests):
    """The same through the async methods."""

    @pytest.fixture(autouse=True)
    def _through_async(self, monkeypatch: pytest.MonkeyPatch) -> None:
        caches = CachesThroughAsync(django_tests.caches)
        monkeypatch.setattr(django_tests, "caches", caches)
        monkeypatch.setattr(django_tests, "cache", DefaultThroughAsync(caches))


def _suite(layers: str, form: type[ChainTests]) -> type[TestCase]:
    words = layers.replace("-", " ").split()
    name = form.__name__ + "".join(word[0].upper() + word[1:] for word in words)
    own: dict[str, Any] = {
        "layers": layers,
        "__module__": __name__,
        "__doc__": f"{form.__doc__} ({layers})",
    }
    own["__test__"] = True
    own |= {test: pytest.mark.skip(reason=why)(_left_out) for test, why in LEFT_OUT.items()}
    return type(name, (form, Base, TestCase), own)


def _left_out(self: TestCase) -> None:
    """Named with its reason in LEFT_OUT."""


for _layers in LAYERS:
    for _form in (ChainTests, AsyncChainTests):
        _made = _suite(_layers, _form)
        globals()[_made.__name__] = _made

# Base classes of the suites, and no suites themselves.
ChainTests.__test__ = AsyncChainTests.__test__ = False  # type: ignore[attr-defined]  # pytest's own
