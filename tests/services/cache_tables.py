"""Databases beside the default one, each with a table for a `DatabaseCache`.

Without a transaction around the test, so that threads see each other's entries, as they do in a
project.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management import call_command
from django.db import connections

#: Table -> the alias of its database.
_ALIASES: dict[str, str] = {}


class CacheTables:
    """Routes each table made here to its database."""

    def db_for_read(self, model: Any, **hints: object) -> str | None:
        return _ALIASES.get(model._meta.db_table)

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool | None:
        return True if app_label == "django_cache" else None


#: What DATABASE_ROUTERS has to be while such a table is used.
ROUTERS = [f"{__name__}.CacheTables"]


@contextmanager
def cache_table(alias: str, entry: dict[str, Any]) -> Iterator[str]:
    """The name of an empty table in the database of `entry`, which gets this alias in DATABASES."""
    both = {"default": {}, alias: entry}
    connections.settings[alias] = connections.configure_settings(both)[alias]
    table = f"cache_{alias}"
    _ALIASES[table] = alias
    try:
        with connections[alias].cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {table}")
        call_command("createcachetable", table, database=alias, verbosity=0)
        yield table
    finally:
        connections[alias].close()
        del connections[alias], connections.settings[alias], _ALIASES[table]
