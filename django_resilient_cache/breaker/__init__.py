"""The circuit breaker, which stands alone.  Standard library only, no Django."""

from django_resilient_cache.breaker.circuit_breaker import CircuitBreaker
from django_resilient_cache.breaker.permits import Permit
from django_resilient_cache.breaker.states import BreakerConfig, State, Transition

__all__ = ["BreakerConfig", "CircuitBreaker", "Permit", "State", "Transition"]
