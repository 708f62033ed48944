"""The frame of a test: it begins and ends with nothing broken, and nothing remembered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django_resilient_cache.concurrency.background import STOP_SECONDS, background
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.testing.faulty_cache import discard_all


@contextmanager
def rehearsal() -> Iterator[None]:
    """Begin and end the block afresh: no faults, all breakers closed and automatic, empty ledgers.

    What hangs at the end raises ConnectionError and is not made, nor is what is late; no thread
    is left waiting.  Of faults shared with other processes those that were begun here end.
    Entries are left alone: what a cache holds is for the test to clear.
    """
    _start_afresh()
    try:
        yield
    finally:
        _start_afresh()


def _start_afresh() -> None:
    # While the faults last: a repair that is under way must not get through at the end.
    with background.paused(STOP_SECONDS):
        for layer in list(registry._layers.values()):
            layer.missed_changes.forget()
        discard_all()
        for layer in list(registry._layers.values()):
            layer.missed_changes.forget()  # what has just been given up
            layer.breaker.reset("rehearsal")
            layer._telemetry._quiet_until.clear()  # the next failure is the first one again
