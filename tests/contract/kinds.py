"""The kinds of layer that the contract is run against, and the chains made of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.core.cache import BaseCache, caches
from django.core.management import call_command
from django.test import override_settings

from tests.entries import (
    CHAIN,
    DATABASE,
    DJANGO_REDIS,
    DJANGO_VALKEY,
    FILE,
    MEMORY,
    PYLIBMC,
    PYMEMCACHE,
    REDIS,
)

TABLE = "contract_cache"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of layer."""

    name: str
    backend: str
    service: str | None = None
    """The fixture of the server that it needs, or "tmp_path", or "db"."""
    resilience: dict[str, Any] = field(default_factory=dict)
    strategy: str = "direct"
    """The limit that it gets."""
    whole_seconds: bool = False
    """Whether it cannot keep an entry for a part of a second."""

    def entry(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        """Its entry in CACHES."""
        service: Any = request.getfixturevalue(self.service) if self.service else None
        location: Any = "contract"
        if self.service == "db":
            call_command("createcachetable", TABLE)
            location = TABLE
        elif self.service == "tmp_path":
            location = str(service)
        elif self.service == "valkey":
            scheme = "valkey" if self.backend == DJANGO_VALKEY else "redis"
            location = service.url.replace("redis://", f"{scheme}://")
        elif self.service == "memcached":
            location = service.location
        return {"BACKEND": self.backend, "LOCATION": location, "RESILIENCE": self.resilience}


# A limit so long that a busy machine does not reach it.
LONG = {"OPERATION_TIMEOUT": 20}
THREAD = {**LONG, "TIMEOUT_STRATEGY": "thread"}

KINDS = (
    Kind(name="memory", backend=MEMORY),
    Kind(name="memory, thread", backend=MEMORY, resilience=THREAD, strategy="thread"),
    Kind(name="file", backend=FILE, service="tmp_path"),
    Kind(
        name="file, thread",
        backend=FILE,
        service="tmp_path",
        resilience=THREAD,
        strategy="thread",
    ),
    Kind(name="database", backend=DATABASE, service="db", whole_seconds=True),
    Kind(
        name="redis",
        backend=REDIS,
        service="valkey",
        resilience=LONG,
        strategy="sockets",
        whole_seconds=True,
    ),
    Kind(
        name="django-redis",
        backend=DJANGO_REDIS,
        service="valkey",
        resilience=LONG,
        strategy="sockets",
    ),
    Kind(
        name="django-redis, thread",
        backend=DJANGO_REDIS,
        service="valkey",
        resilience=THREAD,
        strategy="thread",
    ),
    Kind(
        name="django-valkey",
        backend=DJANGO_VALKEY,
        service="valkey",
        resilience=LONG,
        strategy="sockets",
        whole_seconds=True,
    ),
    Kind(
        name="pymemcache",
        backend=PYMEMCACHE,
        service="memcached",
        resilience=LONG,
        strategy="thread",
        whole_seconds=True,
    ),
    Kind(
        name="pylibmc",
        backend=PYLIBMC,
        service="memcached",
        resilience=LONG,
        strategy="thread",
        whole_seconds=True,
    ),
)
BY_NAME = {kind.name: kind for kind in KINDS}

_MODULES = {
    DJANGO_REDIS: "django_redis",
    DJANGO_VALKEY: "django_valkey",
    REDIS: "redis",
    PYMEMCACHE: "pymemcache",
    PYLIBMC: "pylibmc",
}

#: What stands above the kind under test.
ABOVE = {"alone": (), "below memory": ("near",)}


@dataclass(frozen=True)
class Bench:
    """A bare alias and a chain over it."""

    kind: Kind
    above: tuple[str, ...]
    entry: dict[str, Any]

    @contextmanager
    def caches(
        self,
        *,
        chain: dict[str, Any] | None = None,
        layer: dict[str, Any] | None = None,
        near: dict[str, Any] | None = None,
    ) -> Iterator[Callable[[str], BaseCache]]:
        """CACHES with the aliases "chain", "layer" and "near", each with more options."""
        settings = {
            "default": {"BACKEND": MEMORY, "LOCATION": "default"},
            "chain": {"BACKEND": CHAIN, "LOCATION": [*self.above, "layer"], **(chain or {})},
            "layer": {**self.entry, **(layer or {})},
            "near": {"BACKEND": MEMORY, "LOCATION": "near", **(near or {})},
        }
        with override_settings(CACHES=settings):
            yield caches.__getitem__
            caches.close_all()

    def empty(self) -> None:
        for alias in ("layer", "near"):
            caches[alias].clear()


def available(kind: Kind) -> None:
    if kind.backend in _MODULES:
        pytest.importorskip(_MODULES[kind.backend])


@contextmanager
def all_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Collect warnings instead of raising them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def attempt(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a call returned, or the type of what it raised."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return type(error)


#: BaseCache promises no result of these; some backends return one nevertheless.
_YES_OR_NO = ("add", "touch", "delete", "has_key")
_VOID = ("set", "delete_many", "clear", "close", "validate_key")


class Recorder:
    """Stands before a cache and notes what each call returned, or the type of what it raised."""

    def __init__(self, cache: BaseCache) -> None:
        self._cache = cache
        self.log: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            what = f"{name}{args!r}{kwargs or ''}"
            return self._note(what, getattr(self._cache, name), *args, **kwargs)

        return call

    def __contains__(self, key: object) -> bool:
        return bool(self._note(f"{key!r} in", self._cache.__contains__, key))

    def note(self, what: str, value: object) -> None:
        self.log.append((re.sub(r" at 0x\w+", "", what)[:150], value))

    def _note(self, what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = attempt(call, *args, **kwargs)
        if what.startswith(_VOID) and not isinstance(result, type):
            result = result or None if what.startswith("set_many") else None
        elif what.startswith(_YES_OR_NO) and not isinstance(result, type):
            result = bool(result)
        self.note(what, result)
        return None if isinstance(result, type) else result


Scenario = Callable[[Recorder], None]


def differences(
    run: Scenario, oracle: BaseCache, cache: BaseCache, empty: Callable[[], None]
) -> str:
    """What a scenario gets from the cache that it does not get from the oracle; "": nothing."""
    logs = []
    for each in (oracle, cache):
        empty()
        recorder = Recorder(each)
        run(recorder)
        logs.append(recorder.log)
    return "".join(
        f"\n{call}: {value!r}, not {expected!r}"
        for (_, expected), (call, value) in zip(*logs, strict=True)
        if not _same(value, expected)
    )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    # Some clients make 1 of True, or -1.0 of -1; a near copy is what the caller set.
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return bool(one == other) and (numbers or type(one) is type(other))
