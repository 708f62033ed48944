"""`BreakerConfig`: defaults, and errors that name field, value and remedy."""

from __future__ import annotations

import math
import random

import pytest

from django_resilient_cache.breaker import BreakerConfig, CircuitBreaker


def test_alone_only_the_in_a_row_rule_is_on():
    assert BreakerConfig() == BreakerConfig(
        max_failures=5,
        failure_rate=None,
        failure_window=10.0,
        min_calls=20,
        reset_timeout=5.0,
        max_reset_timeout=None,
        half_open_successes=2,
        half_open_max_calls=1,
        trial_timeout=None,
    )


def test_a_config_cannot_be_changed():
    config = BreakerConfig()
    with pytest.raises(AttributeError):
        config.max_failures = 3  # type: ignore[misc]  # frozen: a mistake on purpose


COUNTS = ["max_failures", "min_calls", "half_open_successes", "half_open_max_calls"]
SECONDS = ["failure_window", "reset_timeout", "max_reset_timeout", "trial_timeout"]


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [0, -1, 1.0, True, "5", None, [5], math.inf, math.nan])
def test_a_bad_count_is_refused_naming_field_value_and_remedy(name, value):
    kind = ValueError if type(value) is int else TypeError
    with pytest.raises(kind) as caught:
        BreakerConfig(**{name: value})
    assert str(caught.value) == f"{name} must be a whole number of 1 or more, got {value!r}"


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize(
    "value", [0, 0.0, -0.1, math.inf, -math.inf, math.nan, 10**400, True, "5", [5], 1j]
)
def test_bad_seconds_are_refused_naming_field_value_and_remedy(name, value):
    kind = TypeError if type(value) in {bool, str, list, complex} else ValueError
    with pytest.raises(kind) as caught:
        BreakerConfig(**{name: value})
    assert str(caught.value) == f"{name} must be a number of seconds above 0, got {value!r}"


@pytest.mark.parametrize("value", [0, -0.5, 1.01, 50, math.nan, True, "0.5"])
def test_a_bad_failure_rate_is_refused_naming_field_value_and_remedy(value):
    kind = TypeError if type(value) in {bool, str} else ValueError
    with pytest.raises(kind) as caught:
        BreakerConfig(failure_rate=value)
    assert str(caught.value) == (f"failure_rate must be a share above 0 and up to 1, got {value!r}")


def test_a_cap_below_the_start_is_refused():
    with pytest.raises(ValueError, match=r"max_reset_timeout \(3\) must not be below") as caught:
        BreakerConfig(reset_timeout=5, max_reset_timeout=3)
    assert "reset_timeout (5)" in str(caught.value)
    BreakerConfig(reset_timeout=5, max_reset_timeout=5)


@pytest.mark.parametrize("name", ["failure_window", "reset_timeout"])
def test_seconds_that_have_no_meaning_of_none_refuse_it(name):
    with pytest.raises(TypeError, match=f"{name} must be a number of seconds above 0, got None"):
        BreakerConfig(**{name: None})  # type: ignore[arg-type]  # options by name


def test_random_is_what_the_jitter_uses_by_default(monkeypatch):
    assert CircuitBreaker("cache")._rng is random.random
