"""A site on Valkey whose page is looked at; what differs from test to test is in the environment."""

from __future__ import annotations

import os
from typing import Any

from tests import settings
from tests.settings import *  # noqa: F403  # the same settings, but for what follows

SECRET_KEY = "for browser tests only " + "x" * 40
ROOT_URLCONF = "tests.browser.browser_views"
DATABASES: dict[str, dict[str, Any]] = {  # type: ignore[no-redef]  # in place of those
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["SITE_DATABASE"],
        "OPTIONS": {"timeout": 20},
    }
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
TIME_ZONE = "UTC"
MIDDLEWARE = ["tests.browser.browser_views.strict", *settings.MIDDLEWARE]

CHAIN = "django_resilient_cache.backend.ResilientCache"
CACHES: dict[str, dict[str, Any]] = {  # type: ignore[no-redef]  # in place of those
    "default": {"BACKEND": CHAIN, "LOCATION": ["memory", "redis"]},
    "sessions": {"BACKEND": CHAIN, "LOCATION": ["redis"]},
    "memory": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": 10_000},
    },
    "redis": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": os.environ["SITE_VALKEY"],
        # Longer than a test looks: nothing closes before the order that it gives.
        "RESILIENCE": {"RESET_TIMEOUT": 60, "MAX_RESET_TIMEOUT": 60},
    },
}
if board := os.environ.get("SITE_BOARD"):
    CACHES["board"] = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": board,
    }
    RESILIENT_CACHE_CONTROL_ALIAS = "board"
