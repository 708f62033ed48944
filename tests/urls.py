"""The admin, on the default site and on another; tests that need more bring their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.urls import path

from django_resilient_cache.admin import BreakerAdmin
from django_resilient_cache.models import Breaker

if TYPE_CHECKING:
    from django.urls import URLPattern, URLResolver

staff_site = admin.AdminSite(name="staff")
staff_site.register(Breaker, BreakerAdmin)

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("staff/", staff_site.urls),
]
