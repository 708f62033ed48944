"""The rows about the breaker alone, beside others that guard a call in the same process."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Work
from benchmarks.result import Result, ratio
from benchmarks.setup import Bench

_CALL = "breaker.call(nothing)"


def circuitbreaker(bench: Bench) -> Result:
    from circuitbreaker import CircuitBreaker

    return _against(bench, CircuitBreaker(name="reference"))


def pybreaker(bench: Bench) -> Result:
    from pybreaker import CircuitBreaker

    return _against(bench, CircuitBreaker())


def aiobreaker(bench: Bench) -> Result:
    from aiobreaker import CircuitBreaker

    return _against(bench, CircuitBreaker())


def purgatory(bench: Bench) -> Result:
    from purgatory import SyncCircuitBreakerFactory

    breaker = SyncCircuitBreakerFactory().get_breaker("reference")
    return _against(bench, breaker, "with breaker: nothing()")


def _against(bench: Bench, other: Any, statement: str = _CALL) -> Result:
    from django_resilient_cache import CircuitBreaker

    def nothing() -> None: ...

    ours = CircuitBreaker("subject")
    subject = Work(_CALL, breaker=ours, nothing=nothing)
    return ratio(subject, Work(statement, breaker=other, nothing=nothing), bench)
