"""A Django cache backend that survives the loss of a cache: see README.md.

Importing this needs neither configured settings nor, for the circuit breaker alone, Django.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_resilient_cache.breaker import BreakerConfig, CircuitBreaker, State
from django_resilient_cache.exceptions import (
    CacheUnavailable,
    CircuitOpenError,
    OperationTimeout,
    ResilientCacheError,
    is_circuit_open,
)
from django_resilient_cache.timeouts.deadline import deadline

if TYPE_CHECKING:
    from django_resilient_cache.layer.registry import breakers

__all__ = [
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
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "breakers":  # needs Django, which the rest does without
        from django_resilient_cache.layer.registry import breakers

        return breakers
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
