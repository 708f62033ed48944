"""No limit: the layer is called in place."""

from __future__ import annotations

from typing import Any

from django.core.cache import BaseCache, caches

from django_resilient_cache.limits import Operation, T


class DirectLimit:
    """Calls the context's own instance, the one that ``caches[alias]`` gives."""

    strategy = "direct"

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def call(
        self, operation: Operation[T], args: tuple[Any, ...], budget: float | None, *, trial: bool
    ) -> T:
        """Run the operation; there is no budget to keep."""
        raw: BaseCache = caches[self._alias]
        return operation(raw, *args)

    def after_fork(self) -> None:
        """Nothing here belongs to a process."""

    def close(self) -> None:
        """Django closes the instances in ``caches`` itself."""
