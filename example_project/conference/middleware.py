"""One budget for all cache calls of a request."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from django_resilient_cache import deadline

View = Callable[[HttpRequest], HttpResponse]


def cache_budget(get_response: View) -> View:
    """Let a request wait at most CACHE_SECONDS_PER_REQUEST for caches, however many it asks.

    A page asks the cache several times. Until the breaker opens, each call to a hung Redis
    takes its whole limit; the budget is what keeps these from adding up.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        with deadline(settings.CACHE_SECONDS_PER_REQUEST):
            return get_response(request)

    return middleware
