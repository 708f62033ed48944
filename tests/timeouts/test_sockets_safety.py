"""What a call that was cut short must not leave behind: answers of others, requests, threads.

First for every client under the sockets limit, then what is Redis's and Valkey's alone.
"""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from django_resilient_cache.timeouts.sockets.budget import Budget, current_budget
from django_resilient_cache.timeouts.sockets.socket_limit import SocketsLimit
from django_resilient_cache.timeouts.time_limit import TimedOut
from tests import services
from tests.calls import FunctionCall
from tests.in_thread import in_thread
from tests.timeouts.guarded_clients import GuardedClient, SilentServer, every_client

from .sockets import (
    BACKENDS,
    DJANGO,
    DJANGO_REDIS,
    assert_cut,
    call,
    get,
    limit_for,
    package_of,
    put,
    timed,
    until_answered,
)

every_backend = pytest.mark.parametrize("backend", BACKENDS)


def get_many(raw, keys):
    return raw.get_many(keys)


def _stutter(server, stop):
    """Freeze and thaw the server, so that calls are cut at every point of an exchange."""
    while not stop.is_set():
        server.freeze()
        time.sleep(random.uniform(0.001, 0.03))
        server.thaw()
        time.sleep(random.uniform(0.001, 0.03))


@pytest.mark.slow
@every_client
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_no_call_ever_gets_the_answer_of_another(client: GuardedClient, unix: bool) -> None:
    keys = [f"key{number}" for number in range(50)]
    wrong, cut, right = [], [], []
    stop = threading.Event()
    with (
        (client.unix_server if unix else client.server)() as server,
        client.limit_for(client.address(server, unix)) as limit,
    ):
        for key in keys:
            call(limit, put, key, f"value of {key}", budget=2.0)

        def ask():
            while not stop.is_set():
                chosen = random.sample(keys, 3)
                budget = random.choice((0.0005, 0.002, 0.005, 0.02))
                try:
                    if random.random() < 0.3:
                        found = call(limit, get_many, chosen, budget=budget)
                    else:
                        found = {chosen[0]: call(limit, get, chosen[0], budget=budget)}
                except TimedOut:
                    cut.append(1)
                    continue
                right.append(1)
                wrong.extend(
                    (key, value) for key, value in found.items() if value != f"value of {key}"
                )

        threads = [threading.Thread(target=ask) for _ in range(6)]
        threads.append(threading.Thread(target=_stutter, args=(server, stop)))
        for thread in threads:
            thread.start()
        time.sleep(2.0)
        stop.set()
        for thread in threads:
            thread.join()

        assert not wrong
        assert len(cut) > 20
        assert len(right) > 20
        assert client.idle_connections(limit) <= 6 + 1


class Interrupted(BaseException):
    """What a signal handler, a greenlet's killer or an event loop throws in."""


class Stopped(Exception):
    """What a task queue's soft time limit throws in."""


@pytest.mark.slow
@every_client
@pytest.mark.parametrize("kind", [Interrupted, Stopped])
@in_thread
def test_an_exception_thrown_in_anywhere_leaves_no_answer_behind(client: GuardedClient, kind):
    """It strikes at each line of the client in turn, between request and answer included.

    (Not while a pool hands out or takes back: there an exception can leave the client's own
    lock locked, with or without a limit, or loses the connection, which ends as such.)
    """
    struck = (f"/{client.package}/", "/django_resilient_cache/timeouts/")

    def strike_at(line):
        passed = 0

        def trace(frame, event, arg):
            nonlocal passed
            if not any(part in frame.f_code.co_filename for part in struck):
                return trace
            if event == "line" and not client.spared(frame):
                passed += 1
                if passed == line:
                    sys.settrace(None)
                    strikes.append(line)
                    raise kind
            return trace

        return trace

    strikes = []
    with (
        client.server() as server,
        services.Proxy(server.address) as proxy,
        client.limit_for(client.address(proxy, False)) as limit,
    ):
        for key in ("one", "two"):
            call(limit, put, key, f"value of {key}", budget=2.0)
        for line in range(
            random.randint(1, client.stride), 2000, client.stride
        ):  # all in a few runs
            call(limit, get, "two", budget=2.0)
            proxy.answers = "hold"  # the answer must not be there when the next call looks
            sys.settrace(strike_at(line))
            try:
                call(limit, get, "one", budget=0.03)
            except (kind, Exception):  # the client may have made something else of it
                pass
            finally:
                sys.settrace(None)
                proxy.answers = "pass"

            assert call(limit, get, "two", budget=2.0) == "value of two"
            if line not in strikes:  # it waited for its answer: there are no more lines
                break
    assert len(strikes) > client.least_strikes


@pytest.mark.slow
@every_client
def test_a_request_cut_short_is_taken_back(client: GuardedClient) -> None:
    """The connection is reset: what did not reach the server's machine never will."""
    with (
        SilentServer() as listener,
        client.limit_for(client.address(listener, False)) as limit,
    ):
        outcome, _ = timed(call, limit, put, "key", "value")
        assert isinstance(outcome, TimedOut)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5.0)
            with pytest.raises(ConnectionResetError):
                while connection.recv(65536):
                    pass


# Redis and Valkey


def test_a_budget_left_armed_by_an_interrupt_does_not_cut_calls_without_one(valkey):
    with limit_for(DJANGO, valkey.url) as limit:
        token = current_budget.set(Budget(0.0))
        try:
            assert call(limit, budget=None) is None
            assert call(limit, budget=2.0) is None
        finally:
            current_budget.reset(token)


@every_backend
def test_a_refused_write_drops_the_connection(backend, valkey):
    """READONLY says that this is no longer the server to write to."""
    errors = import_module(f"{package_of(backend)}.exceptions")
    with limit_for(backend, valkey.url) as limit:
        call(limit, put, "key", "value", budget=2.0)
        before = _client_id(limit)
        assert _client_id(limit) == before
        valkey.ask(b"REPLICAOF 127.0.0.1 1\r\n")
        try:
            outcome, _ = timed(call, limit, put, "key", "other", budget=2.0)
            assert isinstance(outcome, errors.ReadOnlyError)
            assert _client_id(limit) != before
        finally:
            valkey.ask(b"REPLICAOF NO ONE\r\n")


def _client_id(limit):
    def ask(raw):
        client = raw._cache.get_client() if hasattr(raw, "_cache") else raw.client.get_client()
        return client.client_id()

    return limit.call(FunctionCall(ask), 2.0, trial=False)


@every_backend
def test_an_error_of_the_server_keeps_the_connection(backend, valkey):
    with limit_for(backend, valkey.url) as limit:
        before = _client_id(limit)
        valkey.ask(b"LPUSH :1:list x\r\n")
        outcome, _ = timed(call, limit, get, "list", budget=2.0)
        assert "WRONGTYPE" in str(outcome)
        outcome, _ = timed(call, limit, lambda raw: raw.incr("missing"), budget=2.0)
        assert _client_id(limit) == before


def test_two_aliases_of_one_url_keep_their_own_options(valkey):
    def cache(**options):
        return {"BACKEND": DJANGO_REDIS, "LOCATION": valkey.url, "OPTIONS": options}

    pytest.importorskip("django_redis")
    with override_settings(
        CACHES={"default": cache(), "other": cache(CONNECTION_POOL_KWARGS={"max_connections": 3})}
    ):
        caches["default"].get("key")
        default: Any = caches["default"]
        theirs = default.client.get_client().connection_pool
        ours: list[Any] = [SocketsLimit(alias).backend() for alias in ("default", "other")]
        pools = [raw.client.get_client().connection_pool for raw in ours]

        assert pools[1].max_connections == 3
        assert theirs not in pools
        assert pools[0] is not pools[1]
        assert default.client.get_client().connection_pool is theirs


@every_backend
def test_threads_share_one_instance(backend, valkey):
    with limit_for(backend, valkey.url) as limit:
        made = []
        threads = [threading.Thread(target=lambda: made.append(limit.backend())) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(set(map(id, made))) == 1


@every_backend
def test_a_forked_child_uses_nothing_of_its_parent(backend, own_valkey):
    with limit_for(backend, own_valkey.url) as limit:
        call(limit, put, "key", "value", budget=2.0)
        before = _client_id(limit)
        own_valkey.freeze()
        assert_cut(limit)  # an attempt to connect is under way in the parent
        own_valkey.thaw()
        with limit._lock:
            child = os.fork()
            if not child:
                code = 1
                try:
                    fresh = _client_id(limit) != before
                    code = 0 if fresh and call(limit, budget=2.0) == "value" else 2
                finally:
                    os._exit(code)
        _, status = os.waitpid(child, 0)

        assert os.waitstatus_to_exitcode(status) == 0
        assert until_answered(limit) == "value"


def _script(body):
    return textwrap.dedent("""
        import sys, time
        from django.conf import settings
        settings.configure(CACHES={"default": {
            "BACKEND": "django_redis.cache.RedisCache", "LOCATION": sys.argv[1]}})
        import django
        django.setup()
        from django_resilient_cache.timeouts.time_limit import TimedOut
        from django_resilient_cache.timeouts.sockets.socket_limit import SocketsLimit
        from tests.calls import FunctionCall
        limit = SocketsLimit("default")
        def get(key, budget=0.1):
            return limit.call(FunctionCall(lambda raw: raw.get(key)), budget, trial=False)
        def cut():
            start = time.monotonic()
            try:
                return get("key")
            except TimedOut as error:
                return error.server_seconds
    """) + textwrap.dedent(body)


def _run(body, *arguments, before=""):
    pytest.importorskip("django_redis")
    return subprocess.Popen(
        [sys.executable, "-c", before + _script(body), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path.cwd(),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def test_a_process_ends_at_once_with_an_attempt_under_way():
    with services.BlackHole() as server:
        process = _run(
            """
            print(cut())
            limit.call(FunctionCall(lambda raw: None), 0.1, trial=False)
            print(time.monotonic(), flush=True)
            """,
            server.url,
        )
        output, _ = process.communicate(timeout=20)
        ended = time.monotonic()

    assert process.returncode == 0
    assert ended - float(output.split()[-1]) < 0.8


@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="no gevent")
def test_greenlets_wait_side_by_side(own_valkey):
    body = """
        import gevent, os, signal
        assert limit.call(FunctionCall(lambda raw: raw.set("key", "value")), 2.0, trial=False)
        assert get("key", 1.0) == "value"
        os.kill(int(sys.argv[2]), signal.SIGSTOP)
        rounds = []
        for _ in range(6):  # a starved process takes longer, and blames the server for less
            start = time.monotonic()
            waiting = [gevent.spawn(cut) for _ in range(20)]
            gevent.joinall(waiting, raise_error=True)
            took, blamed = time.monotonic() - start, sum(each.value for each in waiting)
            rounds.append((took, blamed))
            if took < 0.3 and blamed > 0.06 * len(waiting):
                break
        else:
            raise AssertionError(rounds)
        os.kill(int(sys.argv[2]), signal.SIGCONT)
        for _ in range(100):
            if cut() == "value":
                break
            gevent.sleep(0.05)
        assert get("key", 1.0) == "value"
    """
    patch = "from gevent import monkey; monkey.patch_all()\n"
    process = _run(body, own_valkey.url, str(own_valkey.pid), before=patch)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
