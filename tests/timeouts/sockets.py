"""What the tests of the sockets limit share."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
import time

import pytest
from django.test import override_settings

from django_resilient_cache.timeouts.sockets.socket_limit import SocketsLimit
from django_resilient_cache.timeouts.time_limit import TimedOut
from tests.calls import FunctionCall

from .in_loop import MOST_LAG, InALoop, called

LIMIT = 0.1

#: What a call may take beyond its limit.
GRACE = 0.05

DJANGO = "django.core.cache.backends.redis.RedisCache"
DJANGO_REDIS = "django_redis.cache.RedisCache"
DJANGO_VALKEY = "django_valkey.cache.ValkeyCache"

BACKENDS = [
    pytest.param(
        backend,
        id=package,
        marks=pytest.mark.skipif(
            any(importlib.util.find_spec(each) is None for each in needs), reason=f"no {package}"
        ),
    )
    for backend, package, needs in (
        (DJANGO, "django", ["redis"]),
        (DJANGO_REDIS, "django_redis", ["django_redis", "redis"]),
        (DJANGO_VALKEY, "django_valkey", ["django_valkey", "valkey"]),
    )
]


@contextlib.contextmanager
def limit_for(backend, url, **options):
    """A limit for a cache at `url`, whose OPTIONS are given in Django's own flat form."""
    if backend == DJANGO_VALKEY:
        url = url.replace("redis", "valkey", 1)
    if backend != DJANGO:
        pool_class = options.pop("pool_class", None)
        options = {"CONNECTION_POOL_KWARGS": options}
        if pool_class:
            options["CONNECTION_POOL_CLASS"] = pool_class
    cache = {"BACKEND": backend, "LOCATION": url, "OPTIONS": options}
    with override_settings(CACHES={"default": cache}):
        limit = SocketsLimit("default")
        try:
            yield called(limit)
        finally:
            limit.close()


def package_of(backend):
    """The client package under a backend."""
    return "valkey" if backend == DJANGO_VALKEY else "redis"


def get(raw, key):
    return raw.get(key)


def put(raw, key, value):
    return raw.set(key, value)


def call(limit, operation=get, *args, budget=LIMIT):
    return limit.call(FunctionCall(operation, *(args or ("key",))), budget, trial=False)


def timed(function, *args, **kwargs):
    """What the function returned or raised, and how many seconds it took."""
    start = time.monotonic()
    try:
        outcome = function(*args, **kwargs)
    except Exception as error:
        outcome = error
    return outcome, time.monotonic() - start


def assert_cut(limit, operation=get, *args, given=0.9, tries=4, budget=LIMIT):
    """Calls end with TimedOut, in time; a machine busy elsewhere gets more than one try."""
    seen = []
    for _ in range(tries):
        outcome, seconds = timed(call, limit, operation, *args, budget=budget)
        assert isinstance(outcome, TimedOut), outcome
        lag = limit.lag if isinstance(limit, InALoop) else 0.0
        seen.append((seconds, outcome.server_seconds, lag))
        if (
            seconds <= budget + GRACE
            and outcome.server_seconds >= given * budget
            and lag < MOST_LAG
        ):
            return
    pytest.fail(f"(seconds, given, lag of the loop): {seen}")


def until_answered(limit, seconds=5.0, key="key"):
    """The first answer of a server that has come back."""
    end = time.monotonic() + seconds
    while True:
        outcome, _ = timed(call, limit, get, key)
        if not isinstance(outcome, Exception) or time.monotonic() > end:
            return outcome
        time.sleep(0.02)


@contextlib.contextmanager
def burning(count):
    """So many threads that compute, for the time of the block."""
    stop = threading.Event()

    def burn():
        while not stop.is_set():
            sum(range(2000))

    threads = [threading.Thread(target=burn, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
