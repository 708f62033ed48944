"""Servers that many tests freeze and kill, and that are well again for each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from tests import services
from tests.services.cache_tables import cache_table
from tests.services.postgresql import PostgreSQLServer, postgresql_server


class SharedServers:
    """Servers to be frozen and killed; each is started when it is first asked for."""

    def __init__(self, unblocked: Callable[[], Any]) -> None:
        self._stack = ExitStack()
        self._servers: dict[str, services.RealServer] = {}
        self._unblocked = unblocked
        self._table = ""

    def __enter__(self) -> SharedServers:
        return self

    def __exit__(self, *exc: object) -> None:
        for server in self._servers.values():
            server.thaw()
        self._stack.close()

    def healthy(self, name: str) -> services.RealServer:
        """A server that answers."""
        server = self._servers.get(name)
        if server is None:
            server = self._servers[name] = self._started(name)
        if not server.running:
            server.start()
        server.thaw()
        return server

    def place(self, name: str) -> Any:
        """What `Kind.entry_at` takes."""
        server = self.healthy(name)
        return self._table if isinstance(server, PostgreSQLServer) else server

    def _started(self, name: str) -> services.RealServer:
        if name == "valkey":
            return self._stack.enter_context(services.valkey_server())
        if name == "memcached":
            return self._stack.enter_context(services.memcached_server())
        server = self._stack.enter_context(postgresql_server())
        entry = server.databases_entry(server.database)
        with self._unblocked():
            self._table = self._stack.enter_context(cache_table("victim", entry))
        return server
