"""A `DatabaseCache` inside a transaction of its own database, where calls are part of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.core.cache import BaseCache, caches
from django.db import DatabaseError, connections, router, transaction

T = TypeVar("T")

#: States of psycopg's connection: an error ended the transaction; the connection is lost.
_SPOILT = (3, 4)


def in_savepoint(backend: Any, change: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Return what `change` does, in a savepoint if the caller has a transaction.

    As Django itself writes entries: a change that fails does not end the caller's transaction.
    """
    alias = _database(backend)
    if not connections[alias].in_atomic_block:
        return change(*args, **kwargs)
    with transaction.atomic(using=alias):
        return change(*args, **kwargs)


@contextmanager
def errors_of(backend: Any) -> Iterator[list[DatabaseError]]:
    """Collect what the database refuses inside the block, whoever catches it."""
    errors: list[DatabaseError] = []

    def execute_and_note(execute: Callable[..., T], *args: Any) -> T:
        try:
            return execute(*args)
        except DatabaseError as error:
            errors.append(error)
            raise

    with connections[_database(backend)].execute_wrapper(execute_and_note):
        yield errors


class Transactions:
    """The caller's transactions in the database of one alias, a `DatabaseCache`."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def in_place(self) -> BaseCache | None:
        """Return the instance to call in place; None: the caller is in no transaction.

        On a thread, with a connection of its own, a call would mean something else: it would not
        see what the transaction wrote, and would outlive its rollback.
        """
        backend = caches[self._alias]
        return backend if connections[_database(backend)].in_atomic_block else None

    def spoilt(self) -> bool:
        """Whether the caller's transaction has come to its end by an error, as in PostgreSQL.

        Then nobody is helped by hiding it: each later query of the caller fails as well.
        """
        connection: Any = connections[_database(caches[self._alias])]
        if not connection.in_atomic_block:
            return False
        info = getattr(connection.connection, "info", None)
        return getattr(info, "transaction_status", None) in _SPOILT


def _database(backend: Any) -> str:
    return router.db_for_write(backend.cache_model_class)
