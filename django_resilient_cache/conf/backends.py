"""What is known of a cache backend from its class: which client it uses, what it can keep.

Decided by the dotted names in the class's MRO, so that no optional client is imported to ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Backends that are guarded alike."""

    name: str
    title: str
    """As the documentation calls it."""
    operation_timeout: float | None
    """Default limit in seconds; None: no limit."""
    sockets: bool = False
    """Whether the sockets strategy knows its client."""
    asks_server: bool = False
    """Whether it asks a server that ends entries by its own clock, and whose client may be limited
    on its sockets."""
    memcached: bool = False
    """Whether its client, as callers configure it, may take a lost server for an empty one."""
    database: bool = False
    """Whether its entries are rows that the caller's transactions reach."""
    in_place: bool = False
    """Whether an event loop may call it as it is: nothing there waits for a server."""
    per_process: bool = False
    """Whether each process has contents of its own."""
    keeps_nothing: bool = False
    """Whether it keeps no entries, and stands where another backend was."""
    stateless: bool = False
    """Whether one instance does for all threads and tasks.  Not so its subclasses, perhaps."""
    validates_keys: bool = False
    """Whether it is known to look at every key."""
    silence_option: str | None = None
    """The name in OPTIONS that makes the client swallow its errors."""
    silence_setting: str | None = None
    """The setting that does so for every alias without that option."""


CHAIN = Family(name="chain", title="chain", operation_timeout=None)
OTHER = Family(name="other", title="other backends", operation_timeout=0.5)

_BACKENDS = "django.core.cache.backends"

#: The first class of the MRO that is named here decides.
FAMILIES = {
    "django_resilient_cache.backend.ResilientCache": CHAIN,
    f"{_BACKENDS}.redis.RedisCache": Family(
        name="redis",
        title="Redis",
        operation_timeout=0.25,
        sockets=True,
        asks_server=True,
        validates_keys=True,
    ),
    "django_redis.cache.RedisCache": Family(
        name="django_redis",
        title="Redis",
        operation_timeout=0.25,
        sockets=True,
        asks_server=True,
        silence_option="IGNORE_EXCEPTIONS",
        silence_setting="DJANGO_REDIS_IGNORE_EXCEPTIONS",
    ),
    "django_valkey.base.BaseValkeyCache": Family(
        name="django_valkey",
        title="Valkey",
        operation_timeout=0.25,
        sockets=True,
        asks_server=True,
        silence_option="IGNORE_EXCEPTIONS",
        silence_setting="DJANGO_VALKEY_IGNORE_EXCEPTIONS",
    ),
    f"{_BACKENDS}.memcached.PyMemcacheCache": Family(
        name="pymemcache",
        title="Memcached",
        operation_timeout=0.25,
        sockets=True,
        asks_server=True,
        memcached=True,
        silence_option="ignore_exc",
    ),
    f"{_BACKENDS}.memcached.PyLibMCCache": Family(
        name="pylibmc",
        title="Memcached",
        operation_timeout=0.25,
        asks_server=True,
        memcached=True,
    ),
    f"{_BACKENDS}.memcached.BaseMemcachedCache": Family(
        name="memcached",
        title="Memcached",
        operation_timeout=0.25,
        asks_server=True,
        memcached=True,
    ),
    f"{_BACKENDS}.db.DatabaseCache": Family(
        name="database",
        title="database",
        operation_timeout=None,
        database=True,
        stateless=True,
        validates_keys=True,
    ),
    f"{_BACKENDS}.filebased.FileBasedCache": Family(
        name="file",
        title="file",
        operation_timeout=None,
        in_place=True,
        stateless=True,
        validates_keys=True,
    ),
    f"{_BACKENDS}.locmem.LocMemCache": Family(
        name="local_memory",
        title="local memory",
        operation_timeout=None,
        in_place=True,
        per_process=True,
        stateless=True,
        validates_keys=True,
    ),
    f"{_BACKENDS}.dummy.DummyCache": Family(
        name="dummy",
        title="dummy",
        operation_timeout=None,
        in_place=True,
        per_process=True,
        keeps_nothing=True,
        stateless=True,
        validates_keys=True,
    ),
}


@lru_cache(maxsize=128)
def family_of(backend: type) -> Family:
    """Return the family of a backend class; `OTHER` where nothing is known of it."""
    for cls in backend.__mro__:
        family = FAMILIES.get(f"{cls.__module__}.{cls.__qualname__}")
        if family is not None:
            return family
    return OTHER


def is_stateless(path: str) -> bool:
    """Whether one instance of the backend with this dotted path does for all threads and tasks."""
    return FAMILIES.get(path, OTHER).stateless


def default_limits() -> str:
    """Return the default limits of all families in words, for the options table."""
    titles: dict[float | None, dict[str, None]] = {}
    for family in (*FAMILIES.values(), OTHER):
        if family is not CHAIN:
            titles.setdefault(family.operation_timeout, {})[family.title] = None
    return "; ".join(f"{', '.join(named)}: `{limit}`" for limit, named in titles.items())
