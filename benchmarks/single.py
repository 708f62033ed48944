"""The rows with one caller: what a call takes through a chain, and what it takes without."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import cycle

from benchmarks.measure import AsyncWork, Work, compare
from benchmarks.paths import hold_open
from benchmarks.result import NotMeasuredError, Result, ratio
from benchmarks.servers import NoServerError
from benchmarks.setup import Bench, cache


def nearest_hit(bench: Bench) -> Result:
    memory, chain = cache("memory"), cache("nearest")
    memory.set("key", "value", None)
    statement = "cache.get('key')"
    return ratio(Work(statement, cache=chain), Work(statement, cache=memory), bench)


def get_many(bench: Bench) -> Result:
    memory, chain = cache("memory"), cache("nearest")
    keys = [f"many-{number}" for number in range(100)]
    memory.set_many(dict.fromkeys(keys, "value"), None)
    statement = "cache.get_many(keys)"
    subject, reference = (Work(statement, cache=one, keys=keys) for one in (chain, memory))
    return ratio(subject, reference, bench)


def aget_nearest(bench: Bench) -> Result:
    return _aget(bench, "nearest", "memory")


def aget_redis(bench: Bench) -> Result:
    return _aget(bench, "one_layer", "redis")


def aget_django_redis_backend(bench: Bench) -> Result:
    return _aget(bench, "one_layer_django", "redis_django")


def _aget(bench: Bench, alias: str, bare: str) -> Result:
    """Await one call after another in one event loop."""
    cache(bare).set("key", "value", None)
    with asyncio.Runner() as runner:
        subject, reference = (
            AsyncWork(partial(cache(one).aget, "key"), runner) for one in (alias, bare)
        )
        return ratio(subject, reference, bench)


def redis_sockets(bench: Bench) -> Result:
    return _get_through(bench, "one_layer", "redis", "sockets")


def redis_thread(bench: Bench) -> Result:
    return _get_through(bench, "one_layer_threads", "redis", "thread", "redis_threads")


def memcached_sockets(bench: Bench) -> Result:
    try:
        with bench.memcached:
            return _get_through(bench, "one_layer_memcached", "memcached", "sockets")
    except NoServerError as error:
        raise NotMeasuredError(str(error)) from None


def _get_through(
    bench: Bench, alias: str, bare: str, strategy: str, layer: str | None = None
) -> Result:
    from django_resilient_cache.layer.registry import registry

    if registry.layer(layer or bare).guard.strategy != strategy:
        raise NotMeasuredError(f"the {strategy} strategy does not know this client")
    reference, chain = cache(bare), cache(alias)
    reference.set("key", "value", None)
    statement = "cache.get('key')"
    subject, other = (Work(statement, waits=True, cache=one) for one in (chain, reference))
    return ratio(subject, other, bench)


def backfill(bench: Bench) -> Result:
    memory, redis, chain = cache("memory"), cache("redis"), cache("nearest")
    keys = [f"below-{number}" for number in range(200)]
    redis.set_many(dict.fromkeys(keys, "value"), 3600)
    # The near copies go before each batch, and no key is asked for twice in one.
    statement, before, names = "cache.get(next(keys))", "memory.clear()", cycle(keys)
    subject, reference = (
        Work(statement, before, len(keys), waits=True, cache=one, keys=names, memory=memory)
        for one in (chain, redis)
    )
    return ratio(subject, reference, bench)


def open_layer(bench: Bench) -> Result:
    return _open_layer(bench, "away_last", "memory_only")


def open_layer_between(bench: Bench) -> Result:
    return _open_layer(bench, "away_between", "two_memories")


def _open_layer(bench: Bench, alias: str, other: str) -> Result:
    from django_resilient_cache import breakers

    hold_open("away")
    statement = "cache.get('missing')"
    subject, reference = (Work(statement, cache=cache(one)) for one in (alias, other))
    found = compare(subject, reference, bench.seconds)
    assert breakers["away"].retry_after > 0, "a trial came in between"
    return Result(found.extra, found.subject.median, found.reference.median)
