"""Django's cache API over a chain of other aliases."""

from django_resilient_cache.backend.cache import ResilientCache

__all__ = ["ResilientCache"]

#: Shown to users by the path that they write in CACHES.
ResilientCache.__module__ = __name__
