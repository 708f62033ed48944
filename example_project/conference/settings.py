"""Settings of the example project: what to copy is CACHES, at the end of this file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parent.parent

# A real project keeps its key out of the repository, and DEBUG off in production.
SECRET_KEY = os.environ.get("SECRET_KEY", "example-project-only-" + "x" * 40)
DEBUG = os.environ.get("DEBUG", "1") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_resilient_cache",
    "programme",
    "demo",  # only for `manage.py demo`; nothing to copy
]

MIDDLEWARE = [
    # First, so that every cache call of a request is inside: see CACHE_SECONDS_PER_REQUEST.
    "conference.middleware.cache_budget",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "conference.urls"
WSGI_APPLICATION = "conference.wsgi.application"
ASGI_APPLICATION = "conference.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE", BASE_DIR / "db.sqlite3"),
        "OPTIONS": {
            # Several workers write: wait for each other, and let readers read meanwhile.
            "timeout": 10,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"

# Sessions are written to the database and read through the cache, so that losing the cache
# logs nobody out. "shared" has no per-process layer: a log-out is seen by all workers at once.
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
SESSION_CACHE_ALIAS = "shared"

# All cache calls of one request together may wait this long (seconds) for a cache that has
# stopped answering. Optional: without it each single call is limited, by OPERATION_TIMEOUT.
CACHE_SECONDS_PER_REQUEST = 0.3

CACHES: dict[str, dict[str, Any]] = {
    # What the site uses: memory first, then Redis. While Redis is away, memory goes on
    # answering and what it does not have is computed again.
    "default": {
        "BACKEND": "django_resilient_cache.backend.ResilientCache",
        "LOCATION": ["memory", "redis"],
    },
    # For what all workers must agree on (sessions, counters, throttles): the same Redis
    # without a per-process layer, which would show another worker's change some seconds late.
    "shared": {
        "BACKEND": "django_resilient_cache.backend.ResilientCache",
        "LOCATION": ["redis"],
    },
    "memory": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "near",
        # At most this long (seconds) does a worker show what another one has changed.
        "TIMEOUT": 5,
        # Django keeps 300 entries by default: too few to carry a site through an outage.
        "OPTIONS": {"MAX_ENTRIES": 10_000},
    },
    # Redis (or Valkey) as it was. Its `set`s, `get`s and keys stay as they are.
    "redis": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
        "TIMEOUT": 300,
        # Optional, and short here so that nobody waits for the demo: most sites are well off
        # with the defaults, a first trial after 5 s and later ones up to 30 s apart.
        "RESILIENCE": {"RESET_TIMEOUT": 2, "MAX_RESET_TIMEOUT": 4},
    },
}
