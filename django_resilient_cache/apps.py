"""The Django app."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from django.apps import AppConfig


class ResilientCacheConfig(AppConfig):
    """Registers the checks and the fleet; nothing is started by loading the app."""

    name = "django_resilient_cache"
    verbose_name = "Resilient cache"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks; make this process a worker, once it uses a chain."""
        from django_resilient_cache.checks import register_checks

        register_checks()
        if find_spec("django_resilient_cache.fleet"):  # the caches do without it
            import_module("django_resilient_cache.fleet").install()
