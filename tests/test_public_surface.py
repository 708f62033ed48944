"""The names that users rely on."""

from __future__ import annotations

import inspect
import os

import pytest

import django_resilient_cache

NAMES = {
    "BreakerConfig",
    "CacheUnavailable",
    "CircuitBreaker",
    "CircuitOpenError",
    "OperationTimeout",
    "ResilientCacheError",
    "State",
    "breakers",
    "deadline",
    "is_circuit_open",
}


def test_the_front_of_the_package_offers_exactly_the_public_names():
    assert set(django_resilient_cache.__all__) == NAMES
    for name in NAMES:
        assert getattr(django_resilient_cache, name) is not None


def test_what_rehearsals_use_is_public():
    from django_resilient_cache import testing

    assert set(testing.__all__) == {
        *("FaultyCache", "faults", "Faults", "Fault", "Effect", "Healing"),
        *("SharedFaults", "Unreadable", "rehearsal"),
    }
    for name in testing.__all__:
        assert getattr(testing, name).__doc__


def test_a_misspelt_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="braekers"):
        _ = django_resilient_cache.braekers


def test_states():
    assert {state.name for state in django_resilient_cache.State} == {
        "CLOSED",
        "OPEN",
        "HALF_OPEN",
        "FORCED_OPEN",
        "FORCED_CLOSED",
    }


def test_every_error_is_a_resilient_cache_error():
    for name in ("CircuitOpenError", "OperationTimeout", "CacheUnavailable"):
        error = getattr(django_resilient_cache, name)
        assert issubclass(error, django_resilient_cache.ResilientCacheError)
    assert issubclass(django_resilient_cache.OperationTimeout, TimeoutError)


def test_the_breaker_is_made_as_documented():
    breaker = django_resilient_cache.CircuitBreaker(
        "name",
        django_resilient_cache.BreakerConfig(
            max_failures=3, reset_timeout=0.1, half_open_successes=2
        ),
        clock=lambda: 0.0,
    )
    assert breaker.call(max, 1, 2) == 2
    assert breaker.state is django_resilient_cache.State.CLOSED
    assert breaker.retry_after == 0
    for action in ("reset", "force_open", "force_closed", "auto"):
        assert callable(getattr(breaker, action))


def test_the_backend_s_public_methods_are_those_of_base_cache():
    from django.core.cache.backends.base import BaseCache

    from django_resilient_cache.backend import ResilientCache

    for name, theirs in inspect.getmembers(BaseCache, inspect.isfunction):
        if name.startswith("_"):
            continue
        ours = inspect.signature(getattr(ResilientCache, name))
        expected = list(inspect.signature(theirs).parameters.values())
        assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == [
            (p.name, p.kind, p.default) for p in expected
        ], name


def test_the_version_is_the_installed_one():
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("django-resilient-cache")
    except PackageNotFoundError:
        if "TOX_ENV_NAME" in os.environ:
            raise
        pytest.skip("running from the source")
    assert django_resilient_cache.__version__ == installed
