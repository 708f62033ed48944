"""How long each layer of a chain may keep an entry: no upper copy outlives the one below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from django_resilient_cache.adapters.commands import Command
from django_resilient_cache.adapters.outcome import UNKNOWN


@dataclass(frozen=True, slots=True)
class LayerTraits:
    """What the chain must know of one layer."""

    direct: bool
    """Called in place: always reachable, also when the caller's time is up."""
    miss: Callable[[Command], None]
    """Notes that the layer misses a change which its caller did not wait for."""
    shared: bool
    """Other processes write it too."""
    cap: float | None
    """The longest TTL in seconds of what is written here as an upper layer; None: no cap."""
    default_timeout: float | None
    """The layer's own TIMEOUT in seconds; None: entries never expire."""


class Expiry:
    """The timeouts in seconds that these layers are given; None: for ever."""

    def __init__(self, layers: Sequence[LayerTraits]) -> None:
        self._layers = layers
        self._by_default = self._of(DEFAULT_TIMEOUT)

    def written(self, timeout: Any) -> tuple[Any, ...]:
        """Return the timeout for each layer of an entry that is written with `timeout`."""
        return self._by_default if timeout is DEFAULT_TIMEOUT else self._of(timeout)

    def of_copy(self, index: int, ttl: float | None) -> float | None:
        """Return the timeout for a copy of an entry that has `ttl` left below.

        Whole seconds where the backend knows no others; 0 or less: none is to be made.
        """
        layer = self._layers[index]
        if ttl == UNKNOWN:
            ttl = layer.default_timeout
        ttl = _shorter(ttl, layer.cap)
        return float(int(ttl)) if layer.shared and ttl is not None else ttl

    def _of(self, timeout: Any) -> tuple[Any, ...]:
        *uppers, authority = self._layers
        by_default = timeout is DEFAULT_TIMEOUT
        lifetimes = [timeout]
        below = authority.default_timeout if by_default else timeout
        for layer in reversed(uppers):
            if by_default:
                below = _shorter(below, layer.default_timeout)
            below = _whole(below)
            if below is None or isinstance(below, int | float):
                below = _shorter(below, layer.cap)
            lifetimes.append(below)
        return tuple(reversed(lifetimes))


def _whole(timeout: Any) -> Any:
    """Return a timeout as a layer below may read it: many backends know whole seconds only."""
    try:
        return timeout if timeout is None else int(timeout)
    except (TypeError, ValueError, OverflowError):
        return timeout  # for the authority to accept or refuse


def _shorter(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
