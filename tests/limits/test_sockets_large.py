"""Large values and batches under the sockets limit: one budget, wherever it ends."""

from __future__ import annotations

import contextlib
import threading

import pytest

from django_resilient_cache.limits import Expired
from tests import services

from .sockets import (
    BACKENDS,
    GRACE,
    LIMIT,
    assert_cut,
    call,
    limit_for,
    put,
    timed,
    until_answered,
)

pytestmark = pytest.mark.parametrize("backend", BACKENDS)

behind_tls = pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])

MEGABYTE = 1_000_000
VALUE = b"0123456789" * 400_000

#: Thousands of entries take the client itself a while, on a busy machine above all.
BATCH_LIMIT = 0.3
BATCH = {f"key{number}": f"value {number}" for number in range(3000)}


def get_batch(raw, entries):
    return raw.get_many(entries)


def set_batch(raw, entries):
    return raw.set_many(entries, timeout=60)


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
        proxy.answers = proxy.requests = "pass"


@behind_tls
def test_a_large_value_passes_unchanged(backend, tls, valkey, certificates):
    with proxied(backend, valkey, certificates, tls=tls) as (limit, _):
        assert call(limit, budget=10.0) == VALUE


@behind_tls
@pytest.mark.parametrize("fault", ["hold", "drip", "drop"])
def test_a_fault_in_the_middle_of_a_large_answer(backend, fault, tls, valkey, certificates):
    with proxied(backend, valkey, certificates, tls=tls) as (limit, proxy):
        proxy.answers, proxy.first = fault, MEGABYTE
        assert_cut(limit, tries=1 + 3)
        proxy.answers = "pass"

        assert until_answered(limit, key="small") == "value"
        assert call(limit, budget=10.0) == VALUE


@behind_tls
def test_frozen_in_the_middle_of_a_large_request(backend, tls, valkey, certificates):
    with proxied(backend, valkey, certificates, tls=tls) as (limit, proxy):
        proxy.requests, proxy.first = "hold", MEGABYTE
        assert_cut(limit, put, "key", VALUE * 4, given=0.3)  # to copy it takes its time
        proxy.requests = "pass"

        assert until_answered(limit, key="small") == "value"
        assert call(limit, budget=10.0) == VALUE, "half a request is none"


def test_a_request_that_is_taken_slowly_ends_with_the_budget(backend, valkey, certificates):
    """There is always a little room to send, so that no single wait is long."""
    with proxied(backend, valkey, certificates, tls=False) as (limit, proxy):
        proxy.requests = "slow"
        assert_cut(limit, put, "key", VALUE * 8, given=0.3)
        proxy.requests = "pass"

        assert until_answered(limit, key="small") == "value"


def test_an_answer_that_does_not_end_ends_with_the_budget(backend):
    """There is always something to read, so that there is no wait at all."""
    with services.FloodingServer() as server, limit_for(backend, server.url) as limit:
        outcomes = [timed(call, limit) for _ in range(3)]

        assert all(isinstance(outcome, Expired) for outcome, _ in outcomes), outcomes
        assert min(seconds for _, seconds in outcomes) <= LIMIT + GRACE


@pytest.mark.parametrize("fault", ["hold", "drip", "drop"])
@pytest.mark.parametrize("first", [0, 10_000])
@pytest.mark.parametrize("operation", [get_batch, set_batch])
def test_a_fault_in_the_middle_of_a_batch(backend, operation, first, fault, valkey, certificates):
    with proxied(backend, valkey, certificates, tls=False) as (limit, proxy):
        call(limit, set_batch, BATCH, budget=10.0)
        proxy.answers, proxy.first = fault, first
        assert_cut(limit, operation, BATCH, budget=BATCH_LIMIT, given=0.5)
        proxy.answers = "pass"

        assert until_answered(limit, key="small") == "value"
        assert call(limit, get_batch, BATCH, budget=10.0) == BATCH


def test_frozen_in_the_middle_of_the_requests_of_a_batch(backend, valkey, certificates):
    entries = dict.fromkeys(BATCH, VALUE[:20_000])
    with proxied(backend, valkey, certificates, tls=False) as (limit, proxy):
        proxy.requests, proxy.first = "hold", MEGABYTE
        assert_cut(limit, set_batch, entries, budget=BATCH_LIMIT, given=0.3)
        proxy.requests = "pass"

        assert until_answered(limit, key="small") == "value"


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

            assert not isinstance(outcome, Exception) or isinstance(outcome, Expired), outcome
            took.append(seconds)
            assert until_answered(limit, key="key7") == "value 7"
            assert call(limit, get_batch, entries, budget=10.0) == entries
    assert sorted(took)[len(took) // 2] <= LIMIT + GRACE
