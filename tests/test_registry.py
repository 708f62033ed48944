"""The layers of this process, by alias."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_resilient_cache import State
from django_resilient_cache.backend.bound_chain import process
from django_resilient_cache.layer.registry import registry
from tests.entries import MEMORY, chain, layer
from tests.mutations_by_hand import begun

CACHES = {
    "default": chain("near", "far"),
    "other": chain("far"),
    "near": layer(MEMORY, LOCATION="near"),
    "far": layer(MEMORY, LOCATION="far"),
}


@override_settings(CACHES=CACHES)
def test_a_layer_is_one_in_all_chains_and_threads() -> None:
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(registry.layer("far"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(each) for each in found} == {id(registry.layer("far"))}
    caches["other"].set("k", 1)
    caches["default"].get("k")
    assert registry.layer("far").guard.counters.hits == 1


class OwnMemory(LocMemCache):
    """May keep in its instance whatever it likes."""


def plans(alias: str = "default") -> set[Any]:
    """What this chain's backends are made of in several contexts."""
    made: list[Any] = [caches.create_connection(alias) for _ in range(2)]
    thread = threading.Thread(target=lambda: made.append(caches[alias]))
    thread.start()
    thread.join()
    return {backend._bound() for backend in made}


@override_settings(CACHES=CACHES)
def test_backends_share_what_they_are_made_of() -> None:
    """Under ASGI each request has a backend of its own."""
    (shared,) = plans()
    assert plans("other").isdisjoint({shared})
    with override_settings(CACHES={**CACHES, "far": layer(MEMORY, LOCATION="moved")}):
        caches["default"].set("key", "value")
        assert plans().isdisjoint({shared})
        assert caches["far"].get("key") == "value"
    assert caches["far"].get("key") is None


def test_a_backend_of_another_class_has_an_instance_in_each_context() -> None:
    own = layer(f"{__name__}.OwnMemory", LOCATION="near")
    with override_settings(CACHES={**CACHES, "near": own}):
        assert len(plans()) == 3
        assert len(plans("other")) == 1
    limited = layer(f"{__name__}.OwnMemory", {"OPERATION_TIMEOUT": 1, "TIMEOUT_STRATEGY": "thread"})
    with override_settings(CACHES={**CACHES, "near": limited}):
        assert len(plans()) == 1, "its limit has instances of its own"


@override_settings(CACHES=CACHES)
def test_only_layers_in_use_are_shown() -> None:
    assert registry.snapshot() == {}
    caches["other"].get("k")
    (shown,) = registry.snapshot().values()
    assert shown["state"] == "closed"
    assert shown["strategy"] == "direct"
    assert shown["misses"] == 1


@override_settings(CACHES=CACHES)
def test_a_reset_forgets_all() -> None:
    before = registry.layer("far")
    before.breaker.force_open()
    registry.reset()
    assert registry.layer("far") is not before
    assert registry.layer("far").breaker.state is State.CLOSED


@override_settings(CACHES=CACHES)
def test_an_alias_that_is_none_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="nowhere"):
        registry.layer("nowhere")


@override_settings(CACHES=CACHES)
def test_another_setting_changes_nothing() -> None:
    before = registry.layer("far")
    with override_settings(DEBUG=True):
        assert registry.layer("far") is before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@override_settings(CACHES=CACHES)
def test_a_fork_keeps_breakers_and_lets_go_of_the_parents_changes() -> None:
    caches["default"].set("k", 1)
    registry.layer("far").breaker.force_open()
    held = begun(process.generations, ["k"])
    registry._lock.acquire()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            kept = registry.layer("far").breaker.state is State.FORCED_OPEN
            free = process.generations.version_stamp("k") is not None
            registry.layer("near")
            status = 0 if kept and free and registry._lock.acquire(timeout=5) else 2
        finally:
            os._exit(status)
    registry._lock.release()
    held.end()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
