"""Spans and names as the page says them."""

from __future__ import annotations

import pytest

from django_resilient_cache.admin import translated


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (0.2, "1 s"),
        (6.0, "6 s"),
        (119.0, "119 s"),
        (119.5, "2 min"),
        (145, "2 min"),
        (120, "2 min"),
        (300, "5 min"),
        (3569, "59 min"),
        (3597, "1 h"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (86300, "1 d"),
        (82800, "23 h"),
        (84300, "23 h 25 min"),
        (86400, "1 d"),
        (90000, "1 d 1 h"),
        (float("inf"), "0 s"),
        (float("nan"), "0 s"),
    ],
)
def test_a_span(seconds: float, said: str):
    assert translated.duration(seconds) == said.replace(" ", "\N{NO-BREAK SPACE}")


@pytest.mark.parametrize(
    ("error", "name"),
    [
        ("OperationTimeout: no answer", "OperationTimeout"),
        ("OSError", "OSError"),
        ("redis.exceptions.ConnectionError: x: y", "redis.exceptions.ConnectionError"),
        ("x" * 100, "x" * 60),
        ("", None),
        (None, None),
    ],
)
def test_the_name_of_an_error(error: str | None, name: str | None):
    assert translated.error_name(error) == name


def test_a_long_error_is_cut():
    assert translated.error_text("x" * 1000) == "x" * 299 + "…"


def test_names():
    assert translated.some(["a", "b"]) == "a, b"
    assert translated.some(["a", "b", "c", "d"]) == "a, b, c and 1 more"
