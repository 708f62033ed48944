"""Large values and batches under the sockets limit: one budget, wherever it ends."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from django_resilient_cache.timeouts.sockets.budget import Budget, BudgetEnded, current_budget
from django_resilient_cache.timeouts.sockets.guarded_socket import GuardedSocket
from django_resilient_cache.timeouts.time_limit import TimedOut
from tests import services

from .sockets import (
    BACKENDS,
    GRACE,
    LIMIT,
    call,
    get,
    limit_for,
    put,
    timed,
    until_answered,
)

pytestmark = pytest.mark.usefixtures("way")

every_backend = pytest.mark.parametrize("backend", BACKENDS)
behind_tls = pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])

MEGABYTE = 1_000_000
VALUE = b"0123456789" * 400_000

#: Thousands of entries take the client itself a while, on a busy machine above all.
BATCH_LIMIT = 0.5
BATCH = {f"key{number}": f"value {number}" for number in range(2000)}


def get_batch(raw, entries):
    return raw.get_many(entries)


def set_batch(raw, entries):
    return raw.set_many(entries, timeout=60)


def assert_ends(limit, arrange, operation, *args, given=0.0, budget=LIMIT):
    """A call ends in time under the fault that `arrange` makes and unmakes, each time anew.

    On a busy machine the client's own part takes most of the budget, for which nobody is blamed.
    """
    seen = []
    for _ in range(6):
        assert until_answered(limit, key="small") == "value"
        with arrange():
            outcome, seconds = timed(call, limit, operation, *args, budget=budget)
        assert isinstance(outcome, TimedOut), outcome
        seen.append((seconds, outcome.server_seconds))
        if seconds <= budget + GRACE and outcome.server_seconds >= given * budget:
            return
    pytest.fail(f"(seconds, given): {seen}")


@contextlib.contextmanager
def faulty(proxy, *, answers="pass", requests="pass", first=0):
    proxy.first, proxy.answers, proxy.requests = first, answers, requests
    try:
        yield
    finally:
        proxy.answers = proxy.requests = "pass"


@contextlib.contextmanager
def proxied(backend, server, certificates, *, tls):
    """A limit for the server, and the proxy in between."""
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(services.Proxy(server.address))
        url = proxy.url
        if tls:
            url = stack.enter_context(services.TlsProxy(proxy.address, certificates)).url
        limit = stack.enter_context(limit_for(backend, url))
        call(limit, put, "key", VALUE, budget=10.0)
        call(limit, put, "small", "value", budget=5.0)
        yield limit, proxy


@every_backend
@behind_tls
def test_a_large_value_passes_unchanged(backend, tls, valkey, certificates):
    with proxied(backend, valkey, certificates, tls=tls) as (limit, _):
        assert call(limit, budget=10.0) == VALUE


@every_backend
@behind_tls
@pytest.mark.parametrize("fault", ["hold", "drip"])
def test_a_fault_in_the_middle_of_a_large_answer(backend, fault, tls, valkey, certificates):
    with proxied(backend, valkey, certificates, tls=tls) as (limit, proxy):
        assert_ends(
            limit, lambda: faulty(proxy, answers=fault, first=MEGABYTE), get, "key", given=0.5
        )
        assert until_answered(limit, key="small") == "value"
        assert call(limit, budget=10.0) == VALUE


@every_backend
@behind_tls
@pytest.mark.parametrize("fault", ["hold", "slow"])
def test_a_fault_in_the_middle_of_a_large_request(backend, fault, tls, valkey, certificates):
    """Read no further, or read piece by piece, so that no single wait is long."""
    with proxied(backend, valkey, certificates, tls=tls) as (limit, proxy):
        value = VALUE * 2
        assert_ends(limit, lambda: faulty(proxy, requests=fault, first=MEGABYTE), put, "key", value)
        assert until_answered(limit, key="small") == "value"
        # The proxies may have got all of it, and pass it on; half a request is none.
        assert call(limit, budget=10.0) in (VALUE, value)


@every_backend
def test_an_answer_that_does_not_end_ends_with_the_budget(backend):
    """There is mostly something to read, so that waits are short."""
    with services.FloodingServer() as server, limit_for(backend, server.url) as limit:
        took = [timed(call, limit) for _ in range(3)]

    # After a second of it, connecting is given up with the client's own error.
    assert all(isinstance(outcome, Exception) for outcome, _ in took), took
    assert min(seconds for _, seconds in took) <= LIMIT + GRACE


def test_an_answer_that_never_pauses_is_cut_all_the_same():
    """What has come by the end of the budget is still taken, but not for ever."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        guarded = GuardedSocket(ours, None)
        start = time.monotonic()
        token = current_budget.set(Budget(start + 0.05))
        try:
            guarded.sendall(b"request")
            with pytest.raises(BudgetEnded):
                while time.monotonic() < start + 5.0:
                    with contextlib.suppress(BlockingIOError):
                        theirs.send(b"x" * 100_000)
                    assert guarded.recv(1000)
                    assert guarded.recv(1000)
        finally:
            current_budget.reset(token)

    assert time.monotonic() - start < 1.0
    assert guarded.dead


@pytest.mark.slow
@every_backend
@pytest.mark.parametrize(("fault", "first"), [("hold", 10_000), ("drip", 0)])
@pytest.mark.parametrize("operation", [get_batch, set_batch])
def test_a_fault_in_the_middle_of_a_batch(backend, operation, fault, first, valkey, certificates):
    with proxied(backend, valkey, certificates, tls=False) as (limit, proxy):
        call(limit, set_batch, BATCH, budget=10.0)
        assert_ends(
            limit,
            lambda: faulty(proxy, answers=fault, first=first),
            operation,
            BATCH,
            budget=BATCH_LIMIT,
        )
        assert until_answered(limit, key="small") == "value"
        assert call(limit, get_batch, BATCH, budget=10.0) == BATCH


@every_backend
def test_frozen_in_the_middle_of_the_requests_of_a_batch(backend, valkey, certificates):
    entries = dict.fromkeys(BATCH, VALUE[:5_000])
    with proxied(backend, valkey, certificates, tls=False) as (limit, proxy):
        assert_ends(
            limit,
            lambda: faulty(proxy, requests="hold", first=MEGABYTE),
            set_batch,
            entries,
            budget=BATCH_LIMIT,
        )
        assert until_answered(limit, key="small") == "value"


@pytest.mark.slow
@every_backend
@pytest.mark.parametrize("operation", [get_batch, set_batch])
def test_frozen_at_any_point_of_a_batch(backend, operation, own_valkey):
    """It is done, or cut in time; and what is read afterwards belongs to its key."""
    entries = dict(list(BATCH.items())[:1000])
    took = []
    with limit_for(backend, own_valkey.url) as limit:
        call(limit, set_batch, entries, budget=10.0)
        for milliseconds in (1, 3, 5, 7, 10, 15, 20):
            freezing = threading.Timer(milliseconds / 1000, own_valkey.freeze)
            freezing.start()
            outcome, seconds = timed(call, limit, operation, entries, budget=LIMIT)
            freezing.join()
            own_valkey.thaw()

            assert not isinstance(outcome, Exception) or isinstance(outcome, TimedOut), outcome
            took.append(seconds)
            assert until_answered(limit, key="key7") == "value 7"
            assert call(limit, get_batch, entries, budget=10.0) == entries
    assert sorted(took)[len(took) // 2] <= LIMIT + GRACE
