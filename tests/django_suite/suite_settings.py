"""What Django's cache tests expect of settings, beside what ours need."""

from __future__ import annotations

import os
import sys

from tests.settings import *  # noqa: F403  # the same settings, but for what follows
from tests.settings import INSTALLED_APPS

sys.path.append(os.environ["RESILIENT_CACHE_DJANGO_TESTS"])

INSTALLED_APPS = [*INSTALLED_APPS, "cache"]
MIGRATION_MODULES = {"cache": None}
# As Django's own runner has it.
USE_TZ = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.debug",
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
