"""The kinds of layer that the contract is run against, and the limits that each can be under.

    kind                direct  sockets   thread
    memory                *                 x
    file                  *                 x
    database              *                 x
    PostgreSQL            *                 x
    another backend       x                 *
    redis                 x        *        x
    django-redis          x        *        x
    django-valkey         x        *        x
    pymemcache            x        *        x
    pylibmc               x                 *

`*` is what TIMEOUT_STRATEGY "auto" picks where the layer's default limit stands.  "database" is
SQLite, "redis" Django's own backend, "another backend" one that nothing is known of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.entries import (
    DATABASE,
    DJANGO_REDIS,
    DJANGO_VALKEY,
    FAULTY,
    FILE,
    MEMORY,
    PYLIBMC,
    PYMEMCACHE,
    REDIS,
)

#: Options that put a layer under each limit; so long a one that a busy machine does not reach it.
_UNDER: dict[str, dict[str, Any]] = {
    "direct": {"OPERATION_TIMEOUT": None},
    "sockets": {"OPERATION_TIMEOUT": 20, "TIMEOUT_STRATEGY": "sockets"},
    "thread": {"OPERATION_TIMEOUT": 20, "TIMEOUT_STRATEGY": "thread"},
}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of layer, under one limit."""

    name: str
    backend: str
    limits: tuple[str, ...]
    """Those it can be under; the first is what "auto" picks."""
    place: str | None = None
    """The fixture that says where its entries are kept; None: in this process."""
    module: str | None = None
    """The client that it needs."""
    whole_seconds: bool = False
    """Whether it cannot keep an entry for a part of a second."""
    under: str = "auto"

    @property
    def strategy(self) -> str:
        """The limit that it is under."""
        return self.limits[0] if self.under == "auto" else self.under

    @property
    def label(self) -> str:
        return self.name if self.under == "auto" else f"{self.name}, {self.under}"

    def entry(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        """Its entry in CACHES."""
        place: Any = request.getfixturevalue(self.place) if self.place else self.name
        return self.entry_at(place)

    def entry_at(self, place: Any) -> dict[str, Any]:
        """Its entry in CACHES with its entries in a server, a folder, a table or a name."""
        resilience = _UNDER[self.strategy]
        return {
            "BACKEND": self.backend,
            "LOCATION": self._location(place),
            "RESILIENCE": resilience,
        }

    def _location(self, place: Any) -> str:
        if self.place == "valkey":
            scheme = "valkey" if self.backend == DJANGO_VALKEY else "redis"
            return str(place.url).replace("redis://", f"{scheme}://")
        return str(place.location if self.place == "memcached" else place)


#: Under the limit that "auto" picks.
KINDS = (
    Kind(name="memory", backend=MEMORY, limits=("direct", "thread")),
    Kind(name="file", backend=FILE, limits=("direct", "thread"), place="tmp_path"),
    Kind(
        name="database",
        backend=DATABASE,
        limits=("direct", "thread"),
        place="sqlite_table",
        whole_seconds=True,
    ),
    Kind(
        name="PostgreSQL",
        backend=DATABASE,
        limits=("direct", "thread"),
        place="postgresql_table",
        module="psycopg",
        whole_seconds=True,
    ),
    Kind(name="another backend", backend=FAULTY, limits=("thread", "direct")),
    Kind(
        name="redis",
        backend=REDIS,
        limits=("sockets", "direct", "thread"),
        place="valkey",
        module="redis",
        whole_seconds=True,
    ),
    Kind(
        name="django-redis",
        backend=DJANGO_REDIS,
        limits=("sockets", "direct", "thread"),
        place="valkey",
        module="django_redis",
    ),
    Kind(
        name="django-valkey",
        backend=DJANGO_VALKEY,
        limits=("sockets", "direct", "thread"),
        place="valkey",
        module="django_valkey",
        whole_seconds=True,
    ),
    Kind(
        name="pymemcache",
        backend=PYMEMCACHE,
        limits=("sockets", "direct", "thread"),
        place="memcached",
        module="pymemcache",
        whole_seconds=True,
    ),
    Kind(
        name="pylibmc",
        backend=PYLIBMC,
        limits=("thread", "direct"),
        place="memcached",
        module="pylibmc",
        whole_seconds=True,
    ),
)
BY_NAME = {kind.name: kind for kind in KINDS}


def under_each_limit(kind: Kind) -> list[Kind]:
    return [replace(kind, under=limit) for limit in kind.limits]


#: Each kind under each limit that it can be under.
EVERY = [under for kind in KINDS for under in under_each_limit(kind)]


def available(kind: Kind) -> None:
    """Skip the test where the client of this kind is not installed."""
    if kind.module is not None:
        pytest.importorskip(kind.module)
