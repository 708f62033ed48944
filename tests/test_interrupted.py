"""What ends a caller from outside in the middle of a call reaches it, and blames nobody.

With real signals in the main thread, and servers that really hang.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from django.core.cache import BaseCache, caches
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

from django_resilient_cache import State
from django_resilient_cache.concurrency.background import background
from django_resilient_cache.concurrency.interruption import interrupts
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.timeouts.threads.thread_limit import ThreadLimit
from django_resilient_cache.timeouts.threads.worker import Worker
from tests.calls import FunctionCall
from tests.entries import DJANGO_REDIS, FILE, MEMORY, PYMEMCACHE, REDIS, chain
from tests.services import ValkeyServer

LONG = {"OPERATION_TIMEOUT": 20}
SOON = 0.05


class SoftTimeLimitExceeded(Exception):
    """As Celery's: a plain exception."""


class OutOfTime(TimeoutError):
    """What clients take for their own, and try again."""


def raising(error: type[Exception]) -> Callable[[int, FrameType | None], None]:
    def handler(signum: int, frame: FrameType | None) -> None:
        raise error(f"signal {signum}")

    return handler


@contextmanager
def alarm(handler: Any, seconds: float = SOON) -> Iterator[None]:
    old = signal.signal(signal.SIGALRM, handler)
    gc.disable()  # what is raised in a `__del__` reaches nobody
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        gc.enable()


class Hanging(LocMemCache):
    """Local memory that hangs while it is told to."""

    hangs = False

    def _hang(self) -> None:
        while Hanging.hangs:
            time.sleep(0.01)

    def get(self, *args: Any, **kwargs: Any) -> Any:
        self._hang()
        return super().get(*args, **kwargs)

    def has_key(self, *args: Any, **kwargs: Any) -> bool:
        self._hang()
        return super().has_key(*args, **kwargs)

    def set(self, *args: Any, **kwargs: Any) -> None:
        self._hang()
        super().set(*args, **kwargs)

    def add(self, *args: Any, **kwargs: Any) -> bool:
        self._hang()
        return super().add(*args, **kwargs)

    def incr(self, *args: Any, **kwargs: Any) -> int:
        self._hang()
        return super().incr(*args, **kwargs)

    def touch(self, *args: Any, **kwargs: Any) -> bool:
        self._hang()
        return super().touch(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> bool:
        self._hang()
        return super().delete(*args, **kwargs)

    def clear(self) -> None:
        self._hang()
        super().clear()


@pytest.fixture(autouse=True)
def _no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wake", "ensure_running", "send"):
        monkeypatch.setattr(background, name, lambda *args: None)


#: Backend, strategy and limit: shorter and longer than redis-py's own time-out of 5 s.
LAYERS: dict[str, tuple[str, str, float | None]] = {
    "sockets, django-redis": (DJANGO_REDIS, "sockets", 4),
    "sockets, Django's": (REDIS, "sockets", 20),
    "sockets, pymemcache": (PYMEMCACHE, "sockets", 20),
    "thread, django-redis": (DJANGO_REDIS, "thread", 20),
    "in place": (f"{__name__}.Hanging", "direct", None),
}


@pytest.fixture(params=LAYERS)
def hang(request: pytest.FixtureRequest) -> Iterator[Callable[[bool], None]]:
    """A chain of memory above a layer that hangs when told to."""
    backend, strategy, limit = LAYERS[request.param]
    location = "hanging"

    def tell(hangs: bool) -> None:
        Hanging.hangs = hangs

    if strategy != "direct":
        pytest.importorskip("pymemcache" if backend == PYMEMCACHE else "django_redis")
        fixture = "own_memcached" if backend == PYMEMCACHE else "own_valkey"
        server: Any = request.getfixturevalue(fixture)
        location = server.location if backend == PYMEMCACHE else server.url

        def tell(hangs: bool) -> None:
            if hangs:
                server.freeze()
            else:
                server.thaw()

    entry = {
        "BACKEND": backend,
        "LOCATION": location,
        "RESILIENCE": {"TIMEOUT_STRATEGY": strategy, "OPERATION_TIMEOUT": limit},
    }
    settings = {
        "default": chain("memory", "layer"),
        "memory": {"BACKEND": MEMORY, "LOCATION": "interrupted"},
        "layer": entry,
    }
    with override_settings(CACHES=settings):
        assert caches["default"].get("warm") is None  # connected
        yield tell
        tell(False)


CALLS: dict[str, Callable[[BaseCache], Any]] = {
    "get": lambda cache: cache.get("missing"),
    "get_many": lambda cache: cache.get_many(["missing", "other"]),
    "has_key": lambda cache: cache.has_key("missing"),
    "get_or_set": lambda cache: cache.get_or_set("missing", lambda: 1),
    "set": lambda cache: cache.set("key", "new"),
    "set_many": lambda cache: cache.set_many({"key": "new"}),
    "delete": lambda cache: cache.delete("key"),
    "add": lambda cache: cache.add("lock", 1),
    "incr": lambda cache: cache.incr("number"),
    "touch": lambda cache: cache.touch("key", 9),
    "clear": lambda cache: cache.clear(),
}
#: What the ledger holds then: not what the authority decides, see test_layer_ledger.
NOTED = {"set": 1, "set_many": 1, "delete": 1, "clear": 0}


@pytest.mark.parametrize("error", [SoftTimeLimitExceeded, OutOfTime])
@pytest.mark.parametrize("name", CALLS)
def test_a_handlers_exception_reaches_the_caller_and_blames_nobody(
    name: str, error: type[Exception], hang: Callable[[bool], None]
) -> None:
    cache, layer = caches["default"], registry.layer("layer")
    cache.set("key", "old")
    cache.set("number", 1)
    hang(True)
    start = time.monotonic()
    with alarm(raising(error)), pytest.raises(error, match="signal"):
        CALLS[name](cache)
    assert time.monotonic() - start < 5
    assert (layer.guard.counters.failures, layer.guard.counters.timeouts) == (0, 0)
    assert layer.breaker.state is State.CLOSED
    assert not layer.breaker.has_failures
    hang(False)
    assert len(layer.missed_changes) == NOTED.get(name, 0)
    assert layer.missed_changes.suspect is (name == "clear")
    if name in NOTED:
        assert cache.get("key") is None, "neither the old value nor an unconfirmed one"
    elif name == "touch":
        assert "key" not in caches["memory"]
    # No later call is given the answer of the one that was left.
    cache.set("another", "value")
    caches["memory"].clear()
    assert cache.get("another") == ("value" if name != "clear" else None)


class Object:
    """A handler that is an object."""

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        raise SoftTimeLimitExceeded("signal")

    def method(self, signum: int, frame: FrameType | None) -> None:
        raise SoftTimeLimitExceeded("signal")


def anything(*args: Any) -> None:
    raise SoftTimeLimitExceeded("signal")


def with_more(more: str, signum: int, frame: FrameType | None) -> None:
    raise SoftTimeLimitExceeded("signal")


def through(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    anything()


@pytest.mark.parametrize(
    "handler",
    [Object(), Object().method, anything, functools.partial(with_more, "more"), through],
    ids=["object", "method", "any arguments", "partial", "a function it calls"],
)
def test_whatever_a_handler_is(handler: Any) -> None:
    settings = {
        "default": chain("layer"),
        "layer": {"BACKEND": f"{__name__}.Hanging", "LOCATION": "hanging"},
    }
    settings["layer"]["RESILIENCE"] = {"OPERATION_TIMEOUT": None}
    with override_settings(CACHES=settings):
        Hanging.hangs = True
        try:
            with alarm(handler), pytest.raises(SoftTimeLimitExceeded):
                caches["default"].get("key")
        finally:
            Hanging.hangs = False
        assert registry.layer("layer").guard.counters.failures == 0


def test_a_file_that_hangs(tmp_path: Path) -> None:
    """Opening a pipe waits for the other end."""
    settings = {"default": chain("layer"), "layer": {"BACKEND": FILE, "LOCATION": str(tmp_path)}}
    with override_settings(CACHES=settings):
        layer: Any = caches["layer"]
        os.mkfifo(layer._key_to_file("key"))
        with alarm(raising(OutOfTime)), pytest.raises(OutOfTime):
            caches["default"].get("key")
        assert registry.layer("layer").guard.counters.failures == 0


def test_a_trial_that_is_interrupted_gives_its_permit_back(own_valkey: ValkeyServer) -> None:
    pytest.importorskip("django_redis")
    resilience = {**LONG, "RESET_TIMEOUT": 0.05, "HALF_OPEN_SUCCESSES": 1}
    settings = {
        "default": chain("layer"),
        "layer": {
            "BACKEND": DJANGO_REDIS,
            "LOCATION": own_valkey.url,
            "RESILIENCE": resilience,
        },
    }
    with override_settings(CACHES=settings):
        cache, breaker = caches["default"], registry.layer("layer").breaker
        cache.get("key")
        own_valkey.kill()
        for _ in range(5):
            cache.get("key")
        assert breaker.state is State.OPEN
        own_valkey.start()
        own_valkey.freeze()
        time.sleep(0.1)
        with alarm(raising(SoftTimeLimitExceeded)), pytest.raises(SoftTimeLimitExceeded):
            cache.get("key")
        assert breaker.state is State.HALF_OPEN
        own_valkey.thaw()
        cache.get("key")
        assert breaker.state is State.CLOSED


def test_while_connecting(own_valkey: ValkeyServer) -> None:
    """There the client tries again, whatever the operating system's error is."""
    pytest.importorskip("django_redis")
    settings = {
        "default": chain("layer"),
        "layer": {"BACKEND": DJANGO_REDIS, "LOCATION": own_valkey.url, "RESILIENCE": LONG},
    }
    with override_settings(CACHES=settings):
        own_valkey.freeze()
        start = time.monotonic()
        with alarm(raising(OutOfTime)), pytest.raises(OutOfTime):
            caches["default"].get("key")
        assert time.monotonic() - start < 0.9, "less than connecting may take"
        assert registry.layer("layer").guard.counters.failures == 0


class OfAThread(Exception):
    """Of a project's own, thrown in by another thread."""


class JobTimeout(Exception):
    """As rq's, which is given its text when it is made."""

    __module__ = "rq.timeouts"

    def __init__(self) -> None:
        super().__init__("out of time")


@pytest.mark.skipif(
    sys.version_info < (3, 12) and sys.gettrace() is not None,
    reason="under coverage CPython 3.11 enters no function while an exception is on its way",
)
def test_an_exception_thrown_in_by_another_thread(hang: Callable[[bool], None]) -> None:
    """`PyThreadState_SetAsyncExc`: it comes when the thread is back from what it waits for.

    In the middle of a backend only those of task queues can be told from the backend's own.
    """
    cache, layer = caches["default"], registry.layer("layer")
    cache.set("key", "old")
    for error in (JobTimeout,) if layer.guard.direct else (OfAThread, JobTimeout):
        caches["memory"].clear()
        hang(True)
        ended: list[object] = []

        def call() -> None:
            try:
                ended.append(cache.get("key"))  # noqa: B023  # called in this round
            except Exception as error:
                ended.append(type(error))  # noqa: B023  # called in this round

        thread = threading.Thread(target=call)
        thread.start()
        time.sleep(0.1)
        throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
        assert throw(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(error)) == 1
        hang(False)
        thread.join(25)
        assert ended == [error]
        assert layer.guard.counters.failures == 0


def test_a_thread_that_was_not_woken_yet_stays_free(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = ThreadLimit("memory", max_concurrency=1)
    settings = {"default": chain("memory"), "memory": {"BACKEND": MEMORY}}

    def interrupted(worker: object, job: object) -> None:
        raise SoftTimeLimitExceeded

    with override_settings(CACHES=settings):
        with monkeypatch.context() as patch:
            patch.setattr(Worker, "run", interrupted)
            with pytest.raises(SoftTimeLimitExceeded):
                limit.call(FunctionCall(lambda raw: 1), 5, trial=False)
        assert limit.call(FunctionCall(lambda raw: 1), 5, trial=False) == 1
        limit.close()


# What is none


def raised(function: Callable[[], object]) -> Exception:
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_what_the_called_code_raises_is_no_interruption() -> None:
    def fails(*args: object) -> None:
        raise SoftTimeLimitExceeded

    assert not interrupts(raised(fails))
    assert not interrupts(raised(lambda: fails(1, 2)))
    assert not interrupts(raised([].pop))

    def fails_strangely() -> None:
        raise type("Strange", (Exception,), {"__module__": "elsewhere"})

    assert not interrupts(raised(fails_strangely))
    assert not interrupts(raised(lambda: fails(*[1])))


def test_the_type_tells() -> None:
    class OfAProject(JobTimeout):
        """Derived from a known one."""

    stopit: Any = type("TimeoutException", (Exception,), {"__module__": "stopit.utils"})
    celery: Any = type("SoftTimeLimitExceeded", (Exception,), {"__module__": "billiard.exceptions"})
    for known in (KeyboardInterrupt, JobTimeout, OfAProject, stopit, celery):
        assert interrupts(known())


def test_the_types_of_task_queues_are_where_they_are_looked_for() -> None:
    assert interrupts(pytest.importorskip("celery.exceptions").SoftTimeLimitExceeded(5))


def test_nor_what_fails_while_a_caller_deals_with_one() -> None:
    """The failure of a cache in an `except` block has an interruption as its context."""
    with (
        pytest.raises(SoftTimeLimitExceeded) as caught,
        alarm(raising(SoftTimeLimitExceeded)),
    ):
        time.sleep(20)
    settings = {
        "default": chain("layer"),
        "layer": {"BACKEND": REDIS, "LOCATION": "redis://127.0.0.1:1"},
    }
    with override_settings(CACHES=settings):
        try:
            raise caught.value
        except SoftTimeLimitExceeded:
            assert caches["default"].get("key", "default") == "default"
        assert registry.layer("layer").guard.counters.failures == 1
