"""The site with its static files, for gunicorn."""

from __future__ import annotations

import os

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

application = StaticFilesHandler(get_wsgi_application())

if os.environ["SITE_MANY"]:  # as if there were more
    from django_resilient_cache.admin import worker_rows

    worker_rows.FEW = 1
