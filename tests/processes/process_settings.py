"""Settings of a site of real processes; what differs from test to test is in the environment."""

from __future__ import annotations

import json
import os
from typing import Any

from tests.command.command_settings import *  # noqa: F403  # the same settings, but for what follows
from tests.command.command_settings import CACHES
from tests.processes import elsewhere

ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.processes.process_views"
CHAIN = "django_resilient_cache.backend.ResilientCache"
CACHES["far"] = {"BACKEND": CHAIN, "LOCATION": ["redis"]}

if "SITE_VALKEY" in os.environ:  # else what stands for Redis is in the worker's memory
    CACHES["redis"] = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": os.environ["SITE_VALKEY"],
        "RESILIENCE": {"RESET_TIMEOUT": 0.5, "MAX_RESET_TIMEOUT": 0.5},
    }

if "SITE_BOARD" in os.environ:  # else a private directory
    CACHES["board"] = json.loads(os.environ["SITE_BOARD"])
    RESILIENT_CACHE_CONTROL_ALIAS = "board"

DATABASES: dict[str, Any] = json.loads(os.environ.get("SITE_DATABASES", "{}"))

if "SITE_SECRET" in os.environ:  # another project
    SECRET_KEY = os.environ["SITE_SECRET"]

if "SITE_HOST" in os.environ:
    elsewhere.move(os.environ["SITE_HOST"], json.loads(os.environ["SITE_CLOCKS"]))

if "SITE_HURRY" in os.environ:
    elsewhere.hurry(float(os.environ["SITE_HURRY"]))
