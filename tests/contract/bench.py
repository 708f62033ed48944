"""A layer of one kind, in its place in a chain, beside the bare alias that is its oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.core.cache import BaseCache, caches
from django.test import override_settings

from tests.contract.kinds import Kind
from tests.entries import CHAIN, FAULTY, MEMORY
from tests.services.cache_tables import ROUTERS

#: Where in the chain the layer stands: what is above it, and what is below.
POSITIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "alone": ((), ()),
    "below memory": (("near",), ()),
    "above another": ((), ("far",)),
}

FAR = {
    "BACKEND": FAULTY,
    "LOCATION": "behind far",
    "RESILIENCE": {"OPERATION_TIMEOUT": None},
}


@dataclass(frozen=True)
class Bench:
    """A bare alias and a chain over it."""

    kind: Kind
    above: tuple[str, ...]
    entry: dict[str, Any]
    below: tuple[str, ...] = ()

    @contextmanager
    def caches(
        self,
        *,
        chain: dict[str, Any] | None = None,
        layer: dict[str, Any] | None = None,
        near: dict[str, Any] | None = None,
        far: dict[str, Any] | None = None,
        **others: dict[str, Any],
    ) -> Iterator[Callable[[str], BaseCache]]:
        """CACHES with the aliases "chain", "layer", "near" and "far", each with more options."""
        location = [*self.above, "layer", *self.below]
        settings = {
            "default": {"BACKEND": MEMORY, "LOCATION": "default"},
            "chain": {"BACKEND": CHAIN, "LOCATION": location, **(chain or {})},
            "layer": {**self.entry, **(layer or {})},
            "near": {"BACKEND": MEMORY, "LOCATION": "near", **(near or {})},
            # Shared, as far as a chain can tell: a per-process authority would be refused.
            "far": {**FAR, **(far or {})},
            "behind far": {"BACKEND": MEMORY, "LOCATION": "far"},
            # What a layer of the kind "another backend" stands before.
            "another backend": {"BACKEND": MEMORY, "LOCATION": "another"},
            **others,
        }
        with override_settings(CACHES=settings, DATABASE_ROUTERS=ROUTERS):
            yield caches.__getitem__
            caches.close_all()

    @property
    def authority(self) -> str:
        """The alias by which the chain has to answer."""
        return self.below[-1] if self.below else "layer"

    def empty(self) -> None:
        for alias in ("layer", "near", "far"):
            caches[alias].clear()
