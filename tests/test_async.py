"""The async methods mean what the sync ones do, in an outage too."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.core.cache import BaseCache, caches

from django_resilient_cache import CacheUnavailable
from django_resilient_cache.testing import faults


@pytest.fixture
def cache(settings: Any) -> BaseCache:
    settings.CACHES = {
        "default": {
            "BACKEND": "django_resilient_cache.backend.ResilientCache",
            "LOCATION": ["near", "far"],
        },
        "near": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "near"},
        "far": {"BACKEND": "django_resilient_cache.testing.FaultyCache", "LOCATION": "real"},
        "real": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "real"},
    }
    made: BaseCache = caches["default"]
    return made


def test_every_method(cache: BaseCache) -> None:
    async def calls() -> list[Any]:
        await cache.aset("n", 1, 60)
        return [
            await cache.aget("n"),
            await cache.aincr("n", 4),
            await cache.adecr("n"),
            await cache.aadd("n", 0),
            await cache.atouch("n", 30),
            await cache.ahas_key("n"),
            await cache.aset_many({"a": 1, "b": 2}),
            await cache.aget_many(["a", "b", "c"]),
            await cache.aget_or_set("c", lambda: 3),
            await cache.aincr_version("c"),
            await cache.adecr_version("c", version=2),
            await cache.adelete_many(["a"]),
            await cache.adelete("b"),
            await cache.aget_many(["a", "b", "c"]),
            await cache.aclear(),
            await cache.aget("c", "gone"),
        ]

    assert asyncio.run(calls()) == [
        *(1, 5, 4, False, True, True, [], {"a": 1, "b": 2}, 3, 2, 1),
        *(None, True, {"c": 3}, None, "gone"),
    ]


def test_counters_are_the_authoritys_alone(cache: BaseCache) -> None:
    cache.set("n", 1)
    faults("far").fail()
    with pytest.raises(CacheUnavailable):
        asyncio.run(cache.aincr("n"))


def test_counts_made_at_once_all_count(cache: BaseCache) -> None:
    cache.set("n", 0)

    async def count() -> None:
        await asyncio.gather(*(cache.aincr("n") for _ in range(50)))

    asyncio.run(count())
    assert cache.get("n") == 50


def test_without_the_authority_a_value_is_computed_once(cache: BaseCache) -> None:
    computed: list[str] = []
    faults("far").fail()

    def compute() -> str:
        computed.append("value")
        return "value"

    async def ask() -> list[Any]:
        return [await cache.aget_or_set("k", compute) for _ in range(3)]

    assert asyncio.run(ask()) == ["value"] * 3
    assert len(computed) == 1
