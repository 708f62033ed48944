"""The example's pages, and one to freeze and resume Valkey by hand."""

from __future__ import annotations

from django.urls import include, path

from demo import views

urlpatterns = [
    path("valkey/", views.valkey, name="valkey"),
    path("", include("conference.urls")),
]
