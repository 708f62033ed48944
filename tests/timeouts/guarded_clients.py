"""The clients under the sockets limit, as the tests that are the same for all of them see them."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import pytest

from tests import services
from tests.timeouts import memcached, sockets


@dataclass(frozen=True)
class GuardedClient:
    """A client, its server, and what of its code an exception must not strike."""

    package: str
    server: Callable[[], services.RealServer]
    unix_server: Callable[[], services.RealServer]
    #: The server's address as the client takes it, by TCP or by its Unix socket.
    address: Callable[[Any, bool], str]
    limit_for: Callable[[str], AbstractContextManager[Any]]
    #: How many connections it keeps for later calls.
    idle_connections: Callable[[Any], int]
    #: Whether an exception there loses a connection, or leaves the client's own lock locked.
    spared: Callable[[FrameType], bool]
    #: Every how many lines an exception strikes, and how many strikes make a call at least.
    stride: int
    least_strikes: int


def _idle_in_redis_pool(limit: Any) -> int:
    backend = limit.backend()
    client = (
        backend._cache.get_client() if hasattr(backend, "_cache") else backend.client.get_client()
    )
    return len(client.connection_pool._available_connections)


class SilentServer:
    """A port that takes connections which nobody reads."""

    def __enter__(self) -> SilentServer:
        self._listener = socket.create_server((services.HOST, 0))
        self.accept = self._listener.accept
        port = self._listener.getsockname()[1]
        self.url, self.location = f"redis://{services.HOST}:{port}", f"{services.HOST}:{port}"
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()


def redis_like(backend: str) -> GuardedClient:
    functions = {"get_connection", "make_connection", "release", "_checkpid", "__del__", "close"}
    return GuardedClient(
        package=sockets.package_of(backend),
        server=services.valkey_server,
        unix_server=services.valkey_server,
        address=lambda server, unix: server.unix_url if unix else server.url,
        limit_for=lambda url: sockets.limit_for(backend, url),
        idle_connections=_idle_in_redis_pool,
        spared=lambda frame: frame.f_code.co_name in functions,
        stride=3,
        least_strikes=30,
    )


def _idle_in_pymemcache_pool(limit: Any) -> int:
    clients = limit.backend()._cache.clients.values()
    return sum(len(client.client_pool.free) for client in clients)


def _pymemcache_spared(frame: FrameType) -> bool:
    pooling = frame.f_code.co_qualname.startswith(("PooledClient.", "_Loan.", "Connections."))
    return pooling or frame.f_code.co_name in {"close", "abort", "__del__"}


PYMEMCACHE = GuardedClient(
    package="pymemcache",
    server=services.memcached_server,
    unix_server=memcached.unix_memcached,
    address=lambda server, unix: server.location,
    limit_for=memcached.limit_for,
    idle_connections=_idle_in_pymemcache_pool,
    spared=_pymemcache_spared,
    stride=2,
    least_strikes=20,
)

every_client = pytest.mark.parametrize(
    "client",
    [
        *(
            pytest.param(redis_like(str(each.values[0])), id=each.id, marks=each.marks)
            for each in sockets.BACKENDS
        ),
        pytest.param(
            PYMEMCACHE,
            id="pymemcache",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("pymemcache") is None, reason="no pymemcache"
            ),
        ),
    ],
)
