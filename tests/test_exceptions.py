"""What the library raises, and how an open circuit is recognised."""

from __future__ import annotations

import copy
import pickle

import pytest

from django_resilient_cache.exceptions import (
    CacheUnavailable,
    CircuitOpenError,
    CounterUnavailable,
    OperationTimeout,
    ResilientCacheError,
    is_circuit_open,
)

OPEN = CircuitOpenError("redis", 3.0)


def raised_from(error: BaseException | None, cause: BaseException | None) -> RuntimeError:
    try:
        raise RuntimeError("outer") from cause
    except RuntimeError as outer:
        outer.__context__ = error
        return outer


def hide(error: Exception) -> None:
    try:
        raise error
    except Exception:
        raise ValueError("instead") from None


def test_all_have_one_base_and_the_types_that_callers_expect():
    for kind in (CircuitOpenError, OperationTimeout, CacheUnavailable, CounterUnavailable):
        assert issubclass(kind, ResilientCacheError)
    assert issubclass(OperationTimeout, TimeoutError)
    assert issubclass(CounterUnavailable, ValueError)
    assert issubclass(CounterUnavailable, CacheUnavailable)
    assert not issubclass(CacheUnavailable, ValueError)


def test_an_open_circuit_names_the_breaker_and_the_wait():
    assert OPEN.name == "redis"
    assert OPEN.retry_after == 3.0
    assert str(OPEN) == "the circuit breaker 'redis' is open; next trial in 3.0 s"
    forced = CircuitOpenError("redis", float("inf"))
    assert str(forced) == "the circuit breaker 'redis' is forced open"


def test_unavailable_holds_each_layers_error_and_says_them():
    errors = {"near": ValueError("bad"), "redis": ConnectionError("refused")}
    error = CacheUnavailable("no layer could answer", errors)
    assert error.errors == errors
    assert error.errors is not errors
    assert str(error) == "no layer could answer (near: bad; redis: refused)"
    assert str(CacheUnavailable("no layer", {})) == "no layer"


@pytest.mark.parametrize("clone", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize(
    "error",
    [
        OPEN,
        OperationTimeout("get took too long"),
        CacheUnavailable("away", {"redis": CircuitOpenError("redis", 1.0)}),
        CounterUnavailable("away", {"redis": OSError(111, "refused")}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_they_survive_copying_and_pickling(error, clone):
    """As a task queue or a process pool does with them."""
    other = clone(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert other.__dict__.keys() == error.__dict__.keys()


def test_the_error_itself_is_recognised_and_nothing_is_not():
    assert is_circuit_open(OPEN)
    assert not is_circuit_open(None)
    assert not is_circuit_open(ValueError("other"))
    assert not is_circuit_open(CacheUnavailable("away", {"redis": OSError()}))


def test_it_is_found_among_causes_and_contexts_hidden_ones_too():
    assert is_circuit_open(raised_from(None, OPEN))
    assert is_circuit_open(raised_from(OPEN, None))
    assert is_circuit_open(raised_from(OPEN, ValueError("cause")))
    assert is_circuit_open(raised_from(raised_from(None, OPEN), None))
    with pytest.raises(ValueError, match="instead") as caught:
        hide(OPEN)
    assert caught.value.__suppress_context__
    assert is_circuit_open(caught.value)


def test_it_is_found_in_exception_groups_and_in_what_hangs_on_their_members():
    assert is_circuit_open(ExceptionGroup("some", [ValueError(), OPEN]))
    assert is_circuit_open(BaseExceptionGroup("some", [KeyboardInterrupt(), OPEN]))
    nested = ExceptionGroup("outer", [ExceptionGroup("inner", [raised_from(None, OPEN)])])
    assert is_circuit_open(nested)
    assert not is_circuit_open(ExceptionGroup("some", [ValueError(), OSError()]))


def test_it_is_found_among_the_errors_of_an_unavailable_cache():
    assert is_circuit_open(CacheUnavailable("away", {"near": OSError(), "redis": OPEN}))
    assert is_circuit_open(CounterUnavailable("away", {"redis": OPEN}))
    inner = CacheUnavailable("away", {"redis": raised_from(None, OPEN)})
    assert is_circuit_open(raised_from(inner, None))


def test_a_chain_that_runs_in_a_circle_ends():
    one, two = ValueError(1), ValueError(2)
    one.__cause__, two.__context__ = two, one
    assert not is_circuit_open(one)
    away = CacheUnavailable("away", {})
    away.errors["redis"] = away
    assert not is_circuit_open(away)
    two.__cause__ = OPEN
    assert is_circuit_open(one)


def test_a_very_long_chain_is_followed_to_its_end():
    error: BaseException = OPEN
    for number in range(20_000):
        outer = ValueError(number)
        outer.__context__ = error
        error = outer
    assert is_circuit_open(error)
    while error.__context__ is not None:  # freed one by one: the interpreter would recurse
        inner = error.__context__
        error.__context__ = None
        error = inner
