"""Whose fault a time-out is."""

from __future__ import annotations

import pytest

from django_resilient_cache.timeouts import blame
from tests.clock import Clock


def test_calls_that_end_together_ask_once_whether_the_process_starves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In an event loop each one that asks keeps all others waiting."""
    clock = Clock()
    asked: list[float] = []

    def sleep(seconds: float) -> None:
        asked.append(clock())
        clock.forward(0.004)

    monkeypatch.setattr("time.monotonic", clock)
    monkeypatch.setattr("time.sleep", sleep)
    processor_delay = blame.ProcessorDelay()
    assert [processor_delay() for _ in range(200)] == [pytest.approx(0.004)] * 200
    assert len(asked) == 1
    clock.forward(0.1)
    processor_delay()
    assert len(asked) == 2
