"""Settings of the sites that `manage.py demo` starts: the example's own, made observable.

DEMO_CACHES=bare makes it the site as it would be without this package: the same pages on the
same Redis through django-redis alone, configured as its documentation begins.
"""

from __future__ import annotations

import os

from conference.settings import *  # noqa: F403  # the same settings, but for what follows
from conference.settings import CACHES, MIDDLEWARE

DEBUG = False

# With a page to freeze and resume Valkey by hand.
ROOT_URLCONF = "demo.urls"

# First, so that it sees the answer after everything else, cached pages included.
MIDDLEWARE = ["demo.middleware.report_layers", *MIDDLEWARE]

if os.environ.get("DEMO_CACHES") == "bare":
    alone = {key: value for key, value in CACHES["redis"].items() if key != "RESILIENCE"}
    CACHES = {"default": alone, "shared": alone}

# Everything goes to the process's standard error, which the demo keeps in a file and shows
# the end of when something goes wrong.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
