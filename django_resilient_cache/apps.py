"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig


class ResilientCacheConfig(AppConfig):
    """Registers the checks; nothing is started by loading the app."""

    name = "django_resilient_cache"
    verbose_name = "Resilient cache"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from django_resilient_cache.checks import register_checks

        register_checks()
