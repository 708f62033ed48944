"""The circuit breaker, which stands alone.  Standard library only, no Django."""

from django_resilient_cache.breaker.circuit_breaker import CircuitBreaker, Permit
from django_resilient_cache.breaker.states import BreakerConfig, State, Transition

__all__ = ["BreakerConfig", "CircuitBreaker", "Permit", "State", "Transition"]
