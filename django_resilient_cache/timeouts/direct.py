"""No limit: the layer is called in place."""

from __future__ import annotations

import threading
from contextlib import suppress

from django.core.cache import BaseCache, caches

from django_resilient_cache.adapters.instances import private_instance
from django_resilient_cache.concurrency import forks
from django_resilient_cache.timeouts.time_limit import Call, T, WithoutPlaces


class DirectLimit(WithoutPlaces):
    """Calls the context's own instance, the one that ``caches[alias]`` gives, which Django closes."""

    strategy = "direct"

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def call(self, call: Call[T], budget: float | None, *, trial: bool) -> T:
        """Make the call; there is no budget to keep."""
        backend: BaseCache = caches[self._alias]
        return call.run(backend)


class OwnDirectLimit(WithoutPlaces):
    """Calls in place an instance of our own, one in each thread.

    For clients that, as callers configure them, take a lost server for an empty one.
    """

    strategy = "direct, own client"

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._here = threading.local()
        forks.reset_in_child(self._reset_after_fork)

    def call(self, call: Call[T], budget: float | None, *, trial: bool) -> T:
        """Make the call; nothing keeps it to a budget."""
        own: _Own | None = getattr(self._here, "own", None)
        if own is None:
            self._here.own = own = _Own(self._alias)
        return call.run(own.backend)

    def close(self) -> None:
        """Close the instances of all threads; the next calls make new ones."""
        self._here = threading.local()

    def _reset_after_fork(self) -> None:
        """Forget the parent's connections."""
        _of_the_parent.append(self._here)
        self._here = threading.local()


#: Kept in a forked child: pylibmc's client says goodbye on the parent's connection when it goes.
_of_the_parent: list[threading.local] = []


class _Own:
    """An instance of our own, closed with the thread that it is for."""

    def __init__(self, alias: str) -> None:
        self.backend = private_instance(alias)

    def __del__(self) -> None:
        with suppress(Exception):
            self.backend.close()
