from __future__ import annotations

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import include, path

urlpatterns = [
    path("", include("programme.urls")),
    path("admin/", admin.site.urls),
    # One style sheet, served by Django so that the example needs no web server in front.
    path("static/<path:path>", serve, {"insecure": True}),
]
