"""What the site answers besides the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.cache import caches
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.urls import urlpatterns as admin_urls

if TYPE_CHECKING:
    from collections.abc import Callable

POLICY = "default-src 'self'"


def strict(get_response: Callable[[HttpRequest], HttpResponse]) -> object:
    """Send the strictest policy that a page without inline code or styles can live with."""

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = POLICY
        return response

    return respond


def use(request: HttpRequest | None = None) -> HttpResponse:
    """Use each cache a little: of the near layer many hits, of Valkey some."""
    caches["default"].get_or_set("page", 1, timeout=1)
    caches["sessions"].get("session")
    caches["sessions"].set("session", 1, timeout=1)
    return HttpResponse("used")


urlpatterns = [*admin_urls, path("use/", use)]
