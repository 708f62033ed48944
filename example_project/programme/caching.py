"""All of this site's cache keys, and what to delete when something changes."""

from __future__ import annotations

from django.core.cache import cache, caches
from django.core.cache.utils import make_template_fragment_key
from django.db import transaction

from programme.models import Talk

DAYS = "days"


def talk_key(pk: int) -> str:
    return f"talk:{pk}"


def card_key(pk: int) -> str:
    return f"card:{pk}"


def day_fragment_key(day_pk: int) -> str:
    """The key under which `{% cache 300 day day.pk %}` keeps its output."""
    return make_template_fragment_key("day", [day_pk])


def forget_talk_on_commit(talk: Talk) -> None:
    """Delete what shows this talk, once the database has the new text.

    Deleted any earlier, another request could read the old text and cache it again.
    """
    keys = [talk_key(talk.pk), card_key(talk.pk), day_fragment_key(talk.day_id)]
    transaction.on_commit(lambda: cache.delete_many(keys))


def count_view(pk: int) -> int | None:
    """Count one more view of a talk; return the number, or None while nobody can count.

    A counter needs one truth, so it is kept in "shared", which has no per-process layer.
    With Redis away `incr` raises ValueError as for a missing key, and `add` answers False.
    """
    shared, key = caches["shared"], f"views:{pk}"
    try:
        return shared.incr(key)
    except ValueError:
        return 1 if shared.add(key, 1, timeout=None) else None
