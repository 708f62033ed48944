"""The threads of the thread limit, and the calls on their way through them."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from django.core.cache import BaseCache
from django.db import close_old_connections, connections

from django_resilient_cache.adapters.instances import private_instance
from django_resilient_cache.timeouts.time_limit import AbandonedCall, Call

logger = logging.getLogger("django_resilient_cache")

#: Seconds without work after which a thread closes its database connections.
IDLE_SECONDS = 5.0


class Owner(Protocol):
    """What a thread works for."""

    alias: str

    def take_back(self, worker: Worker) -> None:
        """Have `worker` for the next call."""

    def abandoned_call_ended(self, worker: Worker) -> None:
        """Know that a call has ended whose caller had given it up."""


class ThreadCall(AbandonedCall):
    """One call on its way through a thread."""

    __slots__ = ("_call", "claim", "done", "error", "notify", "result", "sent", "started")

    def __init__(self, call: Call[Any]) -> None:
        super().__init__()
        self._call: Call[Any] | None = call
        self.sent = False
        self.started = False
        #: Tells a task in an event loop that it is done.
        self.notify: Callable[[], object] | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        #: Taken by whoever comes first: the thread with the result, or the caller giving up.
        self.claim = threading.Lock()
        self.done = threading.Lock()
        self.done.acquire()

    def take(self) -> Call[Any]:
        """Return what to run, and forget it: a call that is given up knows this one."""
        call, self._call = self._call, None
        assert call is not None  # noqa: S101 - it is run once
        return call

    def outcome(self) -> Any:
        """Return what the call returned, or raise what it raised; once."""
        error, self.error = self.error, None  # the error holds frames that hold this call
        if error is not None:
            try:
                raise error
            finally:
                del error  # and this frame
        return self.result


class Worker:
    """One daemon thread with a backend instance of its own."""

    def __init__(self, owner: Owner, generation: object) -> None:
        self._owner = owner
        #: Its owner's when it was started.
        self.generation = generation
        self._backend: BaseCache | None = None
        self._call: ThreadCall | None = None
        self._wake = threading.Lock()
        self._wake.acquire()
        name = f"resilient-cache-{owner.alias}"
        # An empty context: the caller's would hand this thread the caller's own cache instance.
        target = contextvars.Context().run
        threading.Thread(target=target, args=(self._loop,), name=name, daemon=True).start()

    def run(self, call: ThreadCall | None) -> None:
        """Wake the thread for `call`; None ends it."""
        self._call = call
        if call is not None:
            call.sent = True
        self._wake.release()

    def _loop(self) -> None:
        while True:
            if not self._wake.acquire(timeout=IDLE_SECONDS):
                connections.close_all()  # this thread's only
                self._wake.acquire()
            call, self._call = self._call, None
            if call is None:
                self._discard()
                return
            self._work(call)
            del call  # what a caller passed must not live until the next call

    def _work(self, call: ThreadCall) -> None:
        call.started = True
        try:
            if self._backend is None:
                self._backend = private_instance(self._owner.alias)
            call.result = call.take().run(self._backend)
        except BaseException as error:  # noqa: BLE001 - it is the caller's: raised again there
            call.error = error
            _close_broken_connections()
        if not call.claim.acquire(blocking=False):
            self._discard()  # the caller has left; the connection may hold half an answer
            call.result = call.error = None
            self._owner.abandoned_call_ended(self)
            call.end()
        self._owner.take_back(self)
        call.done.release()
        if call.notify is not None:
            call.notify()

    def _discard(self) -> None:
        backend, self._backend = self._backend, None
        try:
            if backend is not None:
                backend.close()
        except Exception:  # noqa: BLE001 - it is being thrown away
            logger.debug("Closing an abandoned instance of %s failed", self._owner.alias)
        connections.close_all()


def _close_broken_connections() -> None:
    """Close this thread's database connections that every later call would fail with.

    Whatever comes of that, the thread lives on: it has a call to end and a place to give back.
    """
    try:
        close_old_connections()
    except Exception:  # noqa: BLE001 - one could not even be asked whether it is broken
        with contextlib.suppress(Exception):
            connections.close_all()
