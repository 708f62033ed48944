"""Functions as what limits and layers run: calls and commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from django.core.cache import BaseCache

from django_resilient_cache.adapters.commands import Command
from django_resilient_cache.adapters.outcome import Outcome

T = TypeVar("T")


class FunctionCall(Generic[T]):
    """A function of a backend, as a limit calls it."""

    abandoned: Any = None

    def __init__(self, function: Callable[..., T], *args: Any) -> None:
        self.function = function
        self.args = args

    def run(self, backend: BaseCache) -> T:
        return self.function(backend, *self.args)


class FunctionCommand(Command):
    """A function of a backend, as a layer is asked for it."""

    name = "get"

    def __init__(self, function: Callable[..., Outcome]) -> None:
        self.function = function

    def run(self, backend: BaseCache) -> Outcome:
        return self.function(backend)
