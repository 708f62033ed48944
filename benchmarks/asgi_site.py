"""The site that `python -m benchmarks uvicorn` puts under load: one view, one process.

What it is made of comes from the environment: where its Redis is, and how that layer is called
from the event loop (see `WAYS` in asgi.py).  Every cache call is timed, and a heartbeat tells how
late the event loop comes to what is due.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
from array import array
from io import BytesIO
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

if os.environ["SITE_WAY"] == "sockets-on-threads":
    sys.modules["greenlet"] = None  # type: ignore[assignment]  # as where it is not installed

import django
from django.conf import settings
from django.core.cache import caches
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

#: Keys of one request that are there; one more is not, and so is looked for in every layer.
THERE = [f"key-{number}" for number in range(4)]
#: Every so many requests one of them is written.
WRITES = 10
BODY = b"x" * 100
#: Seconds between two beats.
BEAT = 0.002

MEMORY = "django.core.cache.backends.locmem.LocMemCache"
CHAIN = "django_resilient_cache.backend.ResilientCache"


def _caches() -> dict[str, dict[str, Any]]:
    url = os.environ["SITE_REDIS"]
    redis = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"{url}/0"}
    guard: dict[str, Any] = {"OPERATION_TIMEOUT": float(os.environ["SITE_LIMIT"])}
    if os.environ["SITE_WAY"] == "thread":
        guard["TIMEOUT_STRATEGY"] = "thread"
    return {
        "default": {"BACKEND": CHAIN, "LOCATION": ["memory", "redis"]},
        "without": {"BACKEND": CHAIN, "LOCATION": ["other_memory"]},
        "one_layer": {"BACKEND": CHAIN, "LOCATION": ["redis"]},
        # redis-py's own maximum of connections (100) makes requests fail here.  A database of its
        # own, because django-redis shares pools between aliases of one URL.
        "bare": {
            **redis,
            "LOCATION": f"{url}/1",
            "OPTIONS": {"CONNECTION_POOL_KWARGS": {"max_connections": 1000}},
        },
        "redis": {**redis, "RESILIENCE": guard},
        "memory": {"BACKEND": MEMORY, "LOCATION": "memory"},
        "other_memory": {"BACKEND": MEMORY, "LOCATION": "other"},
    }


class Record:
    """What happened since it was last read: when, and for how many seconds.

    `calls`: of the caches.  `lags`: how late the event loop was.  `own`: the same without what its
    thread waited for the processor, which other programs may have had.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.calls, self.lags, self.own = array("d"), array("d"), array("d")

    def read(self) -> dict[str, list[float]]:
        """Return it, times and seconds by turns, and begin anew."""
        found = {"calls": list(self.calls), "lags": list(self.lags), "own": list(self.own)}
        self.forget()
        return found


record = Record()
numbers = count()


async def page(request: HttpRequest, alias: str, pause: int) -> HttpResponse:
    """Use the cache a few times, after having done something else for about `pause` ms."""
    if pause:
        await asyncio.sleep(random.uniform(0.5, 1.5) * pause / 1000)
    cache = caches[alias]
    for key in THERE:
        await timed(cache.aget(key))
    await timed(cache.aget("absent"))
    number = next(numbers)
    if number % WRITES == 0:
        await timed(cache.aset(THERE[number // WRITES % len(THERE)], "value", None))
    return HttpResponse(BODY, headers={"Content-Length": len(BODY)} if alias == "bare" else None)


async def timed(call: Any) -> None:
    began = monotonic()
    await call
    ended = monotonic()
    record.calls.extend((ended, ended - began))


async def heartbeat() -> None:
    with Path("/proc/thread-self/schedstat").open("rb", 0) as statistics:  # noqa: ASYNC230  # no disk is behind it

        def queued() -> float:
            return int(os.pread(statistics.fileno(), 100, 0).split()[1]) / 1e9

        while True:
            due, before = monotonic() + BEAT, queued()
            await asyncio.sleep(BEAT)
            now = monotonic()
            record.lags.extend((now, now - due))
            record.own.extend((now, max(0.0, now - due - (queued() - before))))


async def figures(request: HttpRequest) -> HttpResponse:
    """What happened since this was last asked for, and how the layer is doing."""
    from django_resilient_cache.layer.registry import registry

    layer = registry.snapshot().get("redis")
    return JsonResponse({**record.read(), "layer": layer})


async def ready(request: HttpRequest) -> HttpResponse:
    """Close the breaker again, and have all entries there."""
    from django_resilient_cache import breakers

    breakers["redis"].reset()
    for alias in ("default", "without", "one_layer", "bare"):
        await caches[alias].aset_many(dict.fromkeys(THERE, "value"), None)
    return HttpResponse(json.dumps(breakers["redis"].state.value))


urlpatterns = [
    path("page/<slug:alias>/<int:pause>", page),
    path("figures", figures),
    path("ready", ready),
]

settings.configure(
    ALLOWED_HOSTS=["*"],
    CACHES=_caches(),
    INSTALLED_APPS=["django_resilient_cache"],
    LOGGING={
        "version": 1,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "loggers": {
            "django.request": {"handlers": ["console"], "level": "ERROR"},
            "django_resilient_cache": {"level": "CRITICAL"},
        },
    },
    MIDDLEWARE=[],
    ROOT_URLCONF=__name__,
    SECRET_KEY="measured",
)
django.setup()
gc.collect()
gc.freeze()  # collecting what is there for good takes tens of milliseconds

_site = ASGIHandler()
_tasks: list[asyncio.Task[None]] = []


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request; the first one starts the heartbeat.

    By Django's handler without its ASGI frame, which starts two threads for each request, for sync
    code that is not here, and has the event loop wait for them to start.
    """
    if not _tasks:
        _tasks.append(asyncio.create_task(heartbeat()))
    if "/bare/" in scope["path"]:  # its calls need the frame: a thread for each request
        await _site(scope, receive, send)
        return
    response: Any = await _site.get_response_async(ASGIRequest(scope, BytesIO()))
    headers = [(name.lower().encode(), value.encode()) for name, value in response.items()]
    headers.append((b"content-length", str(len(response.content)).encode()))
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})
