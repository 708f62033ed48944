"""The site for gunicorn."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()

if "SITE_EAGER" in os.environ:  # uses its cache where --preload loads it, before there are workers
    from tests.processes.process_views import used

    used()
