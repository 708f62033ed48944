"""What layers tell the world: signals and log lines, each change once, off the data path."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.cache import caches
from django.dispatch import Signal

from django_resilient_cache import State, breakers
from django_resilient_cache.concurrency.background import background
from django_resilient_cache.signals import breaker_state_changed, layer_failed
from django_resilient_cache.testing import faults
from tests import services
from tests.entries import CHAIN, MEMORY
from tests.simulated_chain import FAULTY


@pytest.fixture
def cache(settings: Any) -> Any:
    settings.CACHES = {
        "default": {"BACKEND": CHAIN, "LOCATION": ["layer"]},
        "layer": {
            "BACKEND": FAULTY,
            "LOCATION": "behind",
            "RESILIENCE": {"OPERATION_TIMEOUT": None, "MAX_FAILURES": 3, "RESET_TIMEOUT": 0.2},
        },
        "behind": {"BACKEND": MEMORY, "LOCATION": "telling"},
    }
    return caches["default"]


@contextmanager
def heard(signal: Signal) -> Iterator[list[dict[str, Any]]]:
    """What a receiver is told of the layer, with the thread it is told in."""
    told: list[dict[str, Any]] = []

    def receive(**kwargs: Any) -> None:
        if kwargs["sender"] == "layer":
            told.append({**kwargs, "thread": threading.current_thread().name})

    signal.connect(receive)
    try:
        yield told
    finally:
        signal.disconnect(receive)


@pytest.mark.slow
def test_a_breakers_changes_are_told_in_order_and_in_the_agents_thread(cache):
    with heard(breaker_state_changed) as told:
        with faults("layer").fail(OSError("gone")):
            for _ in range(3):
                cache.get("key")
        assert services.wait_until(lambda: breakers["layer"].state is State.CLOSED, 10)
        assert services.wait_until(lambda: len(told) == 3, 5)
    assert [(change["old"], change["new"]) for change in told] == [
        (State.CLOSED, State.OPEN),
        (State.OPEN, State.HALF_OPEN),
        (State.HALF_OPEN, State.CLOSED),
    ]
    assert told[0]["reason"] == "3 failures in a row"
    assert isinstance(told[0]["error"], OSError)
    assert {change["thread"] for change in told} == {"resilient-cache-background"}


def test_the_first_failure_is_told_and_not_each(cache):
    with heard(layer_failed) as told, faults("layer").fail(OSError("gone")):
        cache.get("key")
        cache.set("key", 1)
        assert services.wait_until(lambda: len(told) == 1, 5)
        background.flush()
    assert len(told) == 1
    assert told[0]["operation"] == "get"
    assert str(told[0]["error"]) == "gone"


def test_a_receiver_that_raises_hurts_nobody(cache):
    def raises(**kwargs: Any) -> None:
        raise LookupError("in a receiver")

    breaker_state_changed.connect(raises)
    try:
        with heard(breaker_state_changed) as told:
            breakers["layer"].force_open()
            breakers["layer"].reset()
            assert services.wait_until(lambda: len(told) == 2, 5)
        cache.set("key", 1)
        assert cache.get("key") == 1
    finally:
        breaker_state_changed.disconnect(raises)


def test_the_log_has_a_line_for_each_transition_and_the_first_failure(cache, caplog):
    caplog.set_level(logging.INFO, "django_resilient_cache")
    with faults("layer").fail(OSError("gone")):
        for _ in range(20):
            cache.get("key")
    breakers["layer"].reset()
    assert services.wait_until(lambda: "closed (reset)" in caplog.text, 5)
    lines = [line for line in caplog.records if "layer" in line.getMessage()]
    assert [(line.levelname, line.getMessage().partition(";")[0]) for line in lines] == [
        ("WARNING", "get on 'layer' failed (OSError: gone)"),
        ("WARNING", "layer: closed -> open (3 failures in a row)"),
        ("INFO", "layer: open -> closed (reset)"),
    ]


def test_the_log_says_once_that_calls_found_no_place(settings, cache, caplog):
    one_thread = {"OPERATION_TIMEOUT": 0.1, "TIMEOUT_STRATEGY": "thread", "MAX_CONCURRENCY": 1}
    settings.CACHES = {
        **settings.CACHES,
        "layer": {**settings.CACHES["layer"], "RESILIENCE": one_thread},
    }
    with faults("layer").hang():
        for _ in range(4):
            caches["default"].get("key")
    background.flush()
    lines = [line.getMessage() for line in caplog.records if "was not made" in line.getMessage()]
    assert lines == [
        "get on 'layer' was not made "
        "(OperationTimeout: get on 'layer': calls that hang hold all places)"
    ]
