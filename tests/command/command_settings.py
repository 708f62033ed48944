"""Settings of a site whose workers are real processes; its board is the default one."""

from __future__ import annotations

import os
from typing import Any

SECRET_KEY = "for tests only"
USE_TZ = True
TIME_ZONE = "UTC"
INSTALLED_APPS = ["django_resilient_cache"]

CACHES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "django_resilient_cache.backend.ResilientCache",
        "LOCATION": ["memory", "redis"],
    },
    "memory": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "memory",
    },
    # What stands for Redis here never fails by itself: a worker opens its breaker when told.
    "redis": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "redis",
        "RESILIENCE": {"RESET_TIMEOUT": 600},
    },
}

if "SITE_SHARING" in os.environ:
    RESILIENT_CACHE_CONTROL_ALIAS = os.environ["SITE_SHARING"] or None

if "SITE_BROKEN" in os.environ:  # a chain without layers: `manage.py check` fails
    CACHES["broken"] = {"BACKEND": "django_resilient_cache.backend.ResilientCache"}
