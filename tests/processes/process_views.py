"""What the site answers: the id of the process, and when it used its cache."""

from __future__ import annotations

import os
import time

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.urls import path


def used() -> str:
    """Use the cache a little."""
    cache.get("key")
    return f"{os.getpid()} {time.monotonic()}"


def use(request: HttpRequest) -> HttpResponse:
    said = used()
    time.sleep(0.05)  # the next request finds another worker free
    return HttpResponse(said)


async def use_async(request: HttpRequest) -> HttpResponse:
    await cache.aget("key")
    return HttpResponse(f"{os.getpid()} {time.monotonic()}")


def bare(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{os.getpid()} {time.monotonic()}")


urlpatterns = [path("use/", use), path("use-async/", use_async), path("bare/", bare)]
