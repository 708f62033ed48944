"""Connections and pools of pymemcache that keep to the current budget.

Everything is done in subclasses of the client's own classes; no code of the client is replaced.
pymemcache cleans up after an Exception only, so that what a BaseException leaves behind is dealt
with here, where a connection goes back to its pool.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any

from django_resilient_cache.timeouts.bulkhead import Bulkhead
from django_resilient_cache.timeouts.sockets.budget import (
    budget_ended,
    current_budget,
    uninterrupted,
)
from django_resilient_cache.timeouts.sockets.connecting import (
    Connectors,
    ConnectsOnHelper,
    within_budget,
)
from django_resilient_cache.timeouts.sockets.guarded_socket import GuardedSocket

#: What the classes below are mixed into: classes of a client that is not there for the types.
_Client: Any = object


class GuardedClient(ConnectsOnHelper, _Client):  # type: ignore[misc]  # a base that is Any
    """Mixed in before a client class: one connection, whose socket keeps to the budget."""

    sock: GuardedSocket | None
    #: A connection is not used again after so many seconds without use; 0: it always is.
    _longest_idle: float
    #: When it was used last, on the monotonic clock.
    used = 0.0

    def make_ready(self) -> None:
        """Make sure that the connection can be used: called whenever one leaves its pool."""
        sock = self.sock
        if (
            sock is None
            or self._attempt is not None
            or sock.dirty
            or sock.dead
            or not sock.idle()
            or self._longest_idle
        ):
            self._connect_if_need_be()

    def _connect_if_need_be(self) -> None:
        if self.is_connecting:
            self._connect()  # the attempt goes on, and so does the wait for it
        sock = self.sock
        if sock is None or sock.dirty or sock.dead or not sock.idle() or self._is_old():
            self._connect()
        self._attempt = None
        self.used = monotonic()

    def _is_old(self) -> bool:
        return 0 < self._longest_idle < monotonic() - self.used

    def _connect(self) -> None:
        self._connect_on_helper(self._open, in_place=self._open)

    def _open(self) -> None:
        with within_budget(self, "connect_timeout"):
            super()._connect()
        self.sock = GuardedSocket(self.sock, self.timeout)

    def close(self) -> None:
        if not self._abandon_attempt(super().close):
            super().close()


class Connections:
    """The clients of one server, one connection each; as PooledClient uses its pool.

    The one used last is the next to be used.  `most`: so many calls at a time, others wait as
    long as they may; None: as many as there are callers.
    """

    def __init__(self, make: Callable[[], Any], most: int | None) -> None:
        self.make = make
        self.free: deque[Any] = deque()
        #: Changes with `clear`.
        self.generation = object()
        self._bulkhead = None if most is None else Bulkhead(most)

    def get_and_release(self, destroy_on_fail: bool = False) -> _Loan:
        return _Loan(self)

    def clear(self) -> None:
        """Close what is free; what is in use is closed when it comes back."""
        self.generation = object()
        while self.free:
            try:
                client = self.free.pop()
            except IndexError:  # a caller was quicker
                return
            client.close()

    def put(self, client: Any, generation: object) -> None:
        """Take a client back."""
        if generation is self.generation:
            self.free.append(client)
        else:
            client.close()
        if self._bulkhead is not None:
            self._bulkhead.leave()

    def enter(self) -> None:
        """Wait until one more client may be taken, as long as that may take."""
        bulkhead = self._bulkhead
        if bulkhead is None or bulkhead.enter_at_once():
            return
        budget = current_budget.get()
        if budget is None:
            bulkhead.enter(None)
            return
        left = budget.ends - monotonic()
        if budget.event_loop is None:
            entered = uninterrupted(bulkhead.enter, left)
        else:
            entered = uninterrupted(budget.event_loop.result, bulkhead.aenter, left)
        if not entered:
            raise budget_ended(budget)


class _Loan:
    """A client, for the time of one command."""

    __slots__ = ("_client", "_generation", "_pool")

    def __init__(self, pool: Connections) -> None:
        self._pool = pool

    def __enter__(self) -> Any:
        pool = self._pool
        pool.enter()
        self._generation = pool.generation
        try:
            self._client = client = pool.free.pop()
        except IndexError:
            self._client = client = pool.make()
        try:
            client.make_ready()
        except BaseException:  # its place goes back whatever came
            pool.put(client, self._generation)
            raise
        return client

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        client = self._client
        sock = client.sock
        if sock is not None:
            if kind is None:
                sock.dirty = False  # each command reads the whole of its answer
            elif sock.dirty or sock.dead:
                client.close()
        self._pool.put(client, self._generation)


class GuardedPooledClient(_Client):  # type: ignore[misc]  # a base that is Any
    """Mixed in before PooledClient: stands for one server where HashClient expects a client."""

    #: Set by `guard_pymemcache`.
    _client_class: Any
    _most: int | None

    def __init__(self, server: Any, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self.client_pool: Any = Connections(
            lambda: self._client_class(server, **kwargs), self._most
        )


class GuardedHashClient(_Client):  # type: ignore[misc]  # a base that is Any
    """Mixed in before HashClient: asks each server each time, from any number of threads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        servers = list(self.clients.values())
        self._only = servers[0] if len(servers) == 1 else None

    # To choose one of one costs a fifth of a call; the key is checked there again.

    def get(self, key: Any, default: Any = None, **kwargs: Any) -> Any:
        if self._only is None or kwargs:
            return super().get(key, default, **kwargs)
        return self._only.get(key, default)

    def _get_client(self, key: Any) -> Any:
        return self._only or super()._get_client(key)

    def _mark_failed_server(self, server: Any) -> None:
        """Remember nothing: the breaker decides when a server is asked."""


def guard_pymemcache(backend: Any, connectors: Connectors) -> None:
    """Give the fresh instance `backend` a client that threads can share and that keeps to the budget.

    Of the options of its own pool the size is kept: where all connections are in use, a call waits
    as long as it may.
    """
    from pymemcache.client.base import PooledClient

    options, base = backend._options, backend._class
    pooled = options if options.get("use_pooling") is True else {}
    single = {"_connectors": connectors, "_longest_idle": pooled.get("pool_idle_timeout") or 0}
    server = {
        "_client_class": type("Client", (GuardedClient, base.client_class), single),
        "_most": pooled.get("max_pool_size") or None,
    }
    servers = type("PooledClient", (GuardedPooledClient, PooledClient), server)
    whole = type(base.__name__, (GuardedHashClient, base), {"client_class": servers})
    backend._cache = whole(backend.client_servers, **{**options, "use_pooling": False})
