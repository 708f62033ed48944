"""The boards that sites meet on: what their settings say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests import services
from tests.entries import DATABASE, PYMEMCACHE, REDIS
from tests.services.postgresql import postgresql_server

if TYPE_CHECKING:
    from contextlib import ExitStack

    from tests.services import ValkeyServer

#: The table of a board in a database; `createcachetable` makes it.
TABLE = "board"


def on_valkey(server: ValkeyServer) -> dict[str, str]:
    """What makes this server the board, in a site's environment."""
    return _board(REDIS, server.url)


def files(stack: ExitStack) -> dict[str, str]:
    return {}


def valkey(stack: ExitStack) -> dict[str, str]:
    return on_valkey(stack.enter_context(services.valkey_server()))


def memcached(stack: ExitStack) -> dict[str, str]:
    return _board(PYMEMCACHE, stack.enter_context(services.memcached_server()).location)


def postgresql(stack: ExitStack) -> dict[str, str]:
    server = stack.enter_context(postgresql_server())
    databases = {"default": server.databases_entry("board")}
    return {"SITE_DATABASES": json.dumps(databases), **_board(DATABASE, TABLE)}


def _board(backend: str, location: str) -> dict[str, str]:
    return {"SITE_BOARD": json.dumps({"BACKEND": backend, "LOCATION": location})}
