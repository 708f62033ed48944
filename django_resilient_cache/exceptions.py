"""What this library raises.  Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class ResilientCacheError(Exception):
    """Base of everything that this library raises on purpose."""


class CircuitOpenError(ResilientCacheError):
    """A breaker refused a call without making it.

    `name` is the breaker's name, `retry_after` the seconds until it may admit a trial
    (0.0: at once; infinity: not before an operator lets it).
    """

    def __init__(self, name: str, retry_after: float) -> None:
        super().__init__(name, retry_after)
        self.name = name
        self.retry_after = retry_after

    def __str__(self) -> str:
        if self.retry_after == float("inf"):
            return f"the circuit breaker {self.name!r} is forced open"
        return f"the circuit breaker {self.name!r} is open; next trial in {self.retry_after:.1f} s"


class OperationTimeout(ResilientCacheError, TimeoutError):
    """A cache operation did not end within its limit, or within the caller's `deadline()`."""


class CacheUnavailable(ResilientCacheError):
    """No layer could say what is true.  `errors` maps each failing alias to its exception."""

    def __init__(self, message: str, errors: Mapping[str, BaseException]) -> None:
        super().__init__(message, errors)
        self.errors: dict[str, BaseException] = dict(errors)

    def __str__(self) -> str:
        causes = "; ".join(f"{alias}: {error}" for alias, error in self.errors.items())
        return f"{self.args[0]} ({causes})" if causes else str(self.args[0])


class CounterUnavailable(CacheUnavailable, ValueError):
    """`CacheUnavailable` from `incr()` and `decr()`: callers expect ValueError from those."""


def is_circuit_open(exc: BaseException | None) -> bool:
    """Whether `exc` is a `CircuitOpenError`, or holds one.

    Looked at: the error itself, its ``__cause__`` and ``__context__`` chain, the members of
    exception groups, and the errors gathered in a `CacheUnavailable`.
    """
    seen: set[int] = set()
    pending = [exc]
    while pending:
        error = pending.pop()
        if error is None or id(error) in seen:
            continue
        if isinstance(error, CircuitOpenError):
            return True
        seen.add(id(error))
        pending.extend(_related(error))
    return False


def _related(error: BaseException) -> Iterator[BaseException | None]:
    yield error.__cause__
    yield error.__context__
    if isinstance(error, BaseExceptionGroup):
        yield from error.exceptions
    if isinstance(error, CacheUnavailable):
        yield from error.errors.values()
