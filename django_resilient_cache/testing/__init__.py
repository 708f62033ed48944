"""`FaultyCache`: a cache that fails on demand, to rehearse an outage.

It stands before another alias and passes every call on, until it is told what to do instead::

    CACHES = {
        "default": {
            "BACKEND": "django_resilient_cache.backend.ResilientCache",
            "LOCATION": ["memory", "redis"],
        },
        "memory": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "redis": {
            "BACKEND": "django_resilient_cache.testing.FaultyCache",
            "LOCATION": "real redis",
            "RESILIENCE": {"OPERATION_TIMEOUT": 0.1, "MAX_FAILURES": 3},
        },
        "real redis": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://..."},
    }

A test then asks for the faults of that alias::

    from django_resilient_cache.testing import faults

    def test_the_front_page_does_without_redis(client):
        with faults("redis").fail():  # refused, until the block is left
            assert client.get("/").status_code == 200

    def test_a_slow_redis_does_not_slow_the_front_page(client):
        redis = faults("redis")
        redis.hang(operations=["get"], keys="views.*", probability=0.5, seed=1)
        ...
        redis.heal()  # what hung goes on

Faults hold in all threads of this process, for every `FaultyCache` before the same alias, until
they are healed, a `rehearsal` ends or ``CACHES`` changes (`override_settings`).  Where several
match a call, each has its say, in the order in which they were asked for.  With
``OPTIONS["SHARED"]``, a directory, they hold in every process that names the same one.

docs/testing.md has recipes.
"""

from __future__ import annotations

from django_resilient_cache.testing.active_faults import Faults, Healing
from django_resilient_cache.testing.fault import Effect, Fault
from django_resilient_cache.testing.faulty_cache import FaultyCache, faults
from django_resilient_cache.testing.rehearsal_frame import rehearsal
from django_resilient_cache.testing.shared_faults import SharedFaults
from django_resilient_cache.testing.unreadable import Unreadable

__all__ = [
    "Effect",
    "Fault",
    "Faults",
    "FaultyCache",
    "Healing",
    "SharedFaults",
    "Unreadable",
    "faults",
    "rehearsal",
]
