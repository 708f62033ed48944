"""A plain function as the call that a limit makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.cache import BaseCache

from django_resilient_cache.timeouts.time_limit import Abandoned


class FunctionCall:
    """Calls `function` with the backend and `args`; see `timeouts.time_limit.Call`."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function = function
        self.args = args
        self.abandoned: Abandoned | None = None

    def run(self, backend: BaseCache) -> Any:
        return self.function(backend, *self.args)
