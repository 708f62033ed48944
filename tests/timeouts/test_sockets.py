"""The sockets limit in front of servers that are healthy, frozen, dripping or gone."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from importlib import import_module

import pytest
from django.core.cache import caches

from django_resilient_cache.timeouts import blame
from django_resilient_cache.timeouts.sockets import connecting
from django_resilient_cache.timeouts.time_limit import BulkheadFull, TimedOut
from tests import services
from tests.calls import FunctionCall

from .sockets import (
    BACKENDS,
    GRACE,
    LIMIT,
    assert_cut,
    burning,
    call,
    get,
    limit_for,
    package_of,
    put,
    timed,
    until_answered,
)

pytestmark = [pytest.mark.parametrize("backend", BACKENDS), pytest.mark.usefixtures("way")]


def test_a_healthy_server_answers_within_any_budget_and_without_one(backend, valkey):
    with limit_for(backend, valkey.url) as limit:
        call(limit, put, "key", [1, None], budget=2.0)

        assert call(limit, budget=2.0) == [1, None]
        assert call(limit, budget=None) == [1, None]
        assert call(limit, budget=30.0) == [1, None]


def test_it_is_the_cache_that_others_use_too(backend, valkey):
    with limit_for(backend, valkey.url) as limit:
        caches["default"].set("key", "theirs")

        assert call(limit, budget=2.0) == "theirs"
        assert limit.backend() is not caches["default"]


def test_unix_socket(backend, valkey):
    with limit_for(backend, valkey.unix_url) as limit:
        call(limit, put, "key", "value", budget=2.0)

        assert call(limit, budget=2.0) == "value"


def test_tls(backend, valkey_tls):
    with limit_for(backend, valkey_tls.url) as limit:
        call(limit, put, "key", "x" * 300_000, budget=5.0)

        assert call(limit, budget=5.0) == "x" * 300_000


def test_large_values_pass_unchanged(backend, valkey):
    value = bytes(range(256)) * 40_000
    with limit_for(backend, valkey.url) as limit:
        call(limit, put, "key", value, budget=10.0)

        assert call(limit, budget=10.0) == value


def test_many_keys_in_one_operation(backend, valkey):
    entries = {f"key{number}": number for number in range(500)}
    with limit_for(backend, valkey.url) as limit:
        limit.call(FunctionCall(lambda raw: raw.set_many(entries, timeout=60)), 5.0, trial=False)

        assert (
            limit.call(FunctionCall(lambda raw: raw.get_many(entries)), 5.0, trial=False) == entries
        )
        assert call(limit, get, "key7", budget=2.0) == 7


def test_frozen_on_an_open_connection(backend, own_valkey):
    with limit_for(backend, own_valkey.url) as limit:
        call(limit, put, "key", "value", budget=2.0)
        own_valkey.freeze()
        assert_cut(limit, tries=1 + 3)
        own_valkey.thaw()

        assert until_answered(limit) == "value"


def test_frozen_before_the_first_connection(backend, own_valkey):
    with limit_for(backend, own_valkey.url) as limit:
        own_valkey.freeze()
        assert_cut(limit)
        own_valkey.thaw()

        assert until_answered(limit) is None


def test_frozen_while_it_swallows_a_large_value(backend, own_valkey):
    with limit_for(backend, own_valkey.unix_url) as limit:  # its buffers are small
        call(limit, put, "key", "value", budget=2.0)
        own_valkey.freeze()

        outcomes = [timed(call, limit, put, "key", b"x" * 2_000_000) for _ in range(3)]

        assert all(isinstance(outcome, TimedOut) for outcome, _ in outcomes)
        assert min(seconds for _, seconds in outcomes) <= LIMIT + GRACE


def test_frozen_on_a_unix_socket(backend, own_valkey):
    with limit_for(backend, own_valkey.unix_url) as limit:
        call(limit, put, "key", "value", budget=2.0)
        own_valkey.freeze()
        assert_cut(limit)
        own_valkey.thaw()

        assert until_answered(limit) == "value"


def test_frozen_behind_tls(backend, own_valkey, certificates):
    with services.TlsProxy(own_valkey.address, certificates) as proxy:
        with limit_for(backend, proxy.url) as limit:
            call(limit, put, "key", "value", budget=5.0)
            own_valkey.freeze()
            assert_cut(limit)
            own_valkey.thaw()

            assert until_answered(limit) == "value"


def test_dripping_from_the_first_byte_of_the_greeting(backend):
    with services.DrippingServer(every=0.08) as server, limit_for(backend, server.url) as limit:
        assert_cut(limit)


def test_dripping_in_the_middle_of_an_answer(backend, valkey):
    with services.Proxy(valkey.address) as proxy, limit_for(backend, proxy.url) as limit:
        call(limit, put, "key", "value" * 100, budget=2.0)
        assert call(limit, budget=2.0) == "value" * 100
        proxy.answers = "drip"

        assert_cut(limit)


def test_dripping_inside_the_tls_handshake(backend):
    # A TLS record header that announces far more than ever comes.
    start = b"\x16\x03\x03\x3f\xff"
    with services.DrippingServer(every=0.08, start=start) as server:
        url = server.url.replace("redis:", "rediss:")
        with limit_for(backend, url) as limit:
            assert_cut(limit)


@pytest.mark.parametrize("fault", ["hold", "drip", "drop"])
@pytest.mark.parametrize("first", [0, 500])
def test_a_fault_inside_the_tls_handshake(backend, fault, first, valkey, certificates, monkeypatch):
    """Callers are cut, and the attempt is given up: the next one finds the server well again."""
    # Longer than all tries together: a try that joins the end of an attempt gets the client's error.
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 0.8)
    with (
        services.TlsProxy(valkey.address, certificates) as inner,
        services.Proxy(inner.address) as proxy,
    ):
        url = inner.url.replace(str(inner.port), str(proxy.port))
        with limit_for(backend, url) as limit:
            proxy.answers, proxy.first = fault, first
            assert_cut(limit, tries=3)
            proxy.answers = "pass"

            assert until_answered(limit) is None


def test_dripping_inside_an_open_tls_connection(backend, own_valkey, certificates):
    with (
        services.Proxy(own_valkey.address) as slow,
        services.TlsProxy(slow.address, certificates) as proxy,
        limit_for(backend, proxy.url) as limit,
    ):
        call(limit, put, "key", "value" * 100, budget=5.0)
        slow.answers = "drip"

        assert_cut(limit)


def test_a_server_that_never_answers(backend):
    with services.BlackHole() as server, limit_for(backend, server.url) as limit:
        assert_cut(limit)


def test_a_full_queue_of_connections(backend):
    with services.FullBacklog() as server, limit_for(backend, server.url) as limit:
        assert_cut(limit)


def test_refused_at_once_with_the_clients_own_error(backend):
    errors = import_module(f"{package_of(backend)}.exceptions")
    with services.RefusedPort() as server, limit_for(backend, server.url) as limit:
        outcomes = [timed(call, limit) for _ in range(3)]

        assert all(isinstance(outcome, errors.ConnectionError) for outcome, _ in outcomes)
        assert min(seconds for _, seconds in outcomes) <= LIMIT + GRACE


def _ten_retries(backend):
    package = package_of(backend)
    retry = import_module(f"{package}.retry").Retry
    backoff = import_module(f"{package}.backoff").ConstantBackoff
    return {"retry": retry(backoff(0.03), 10), "retry_on_error": [Exception]}


def test_ten_retries_with_pauses_against_a_frozen_server(backend, own_valkey):
    with limit_for(backend, own_valkey.url, **_ten_retries(backend)) as limit:
        call(limit, put, "key", "value", budget=2.0)
        own_valkey.freeze()
        assert_cut(limit)


def test_ten_retries_with_pauses_against_a_dead_server(backend, own_valkey, monkeypatch):
    """Whatever ends it, the server is blamed: an error of the client, or all the time it had."""
    monkeypatch.setattr(blame, "processor_delay", lambda: 0.0)  # whatever else runs here
    with limit_for(backend, own_valkey.url, **_ten_retries(backend)) as limit:
        call(limit, put, "key", "value", budget=2.0)
        own_valkey.kill()

        outcomes = [timed(call, limit) for _ in range(4)]

        assert min(seconds for _, seconds in outcomes) <= LIMIT + GRACE
        for outcome, _ in outcomes:
            assert isinstance(outcome, Exception)
            assert not isinstance(outcome, TimedOut) or outcome.server_seconds >= 0.9 * LIMIT


def test_dropped_in_the_middle_of_a_call(backend, valkey):
    errors = import_module(f"{package_of(backend)}.exceptions")
    with services.Proxy(valkey.address) as proxy, limit_for(backend, proxy.url) as limit:
        call(limit, put, "key", "value", budget=2.0)
        proxy.answers = "drop"
        threading.Timer(0.03, proxy.cut).start()

        outcome, seconds = timed(call, limit, budget=5.0)

        assert isinstance(outcome, errors.ConnectionError)
        assert seconds < 1.0
        proxy.answers = "pass"
        assert until_answered(limit) == "value"


def test_a_server_that_was_restarted_answers_the_next_call(backend, own_valkey):
    with limit_for(backend, own_valkey.url) as limit:
        call(limit, put, "key", "value", budget=2.0)
        own_valkey.restart()

        assert call(limit, budget=2.0) is None


def test_a_name_lookup_that_never_ends(backend, monkeypatch):
    """Callers are cut, and the lookups stay few: there is no way to end one."""
    free, hung, looked_up = threading.Event(), [], socket.getaddrinfo

    def lookup(host, *args, **kwargs):
        if host != "no.such.host":  # by a helper of the test before
            return looked_up(host, *args, **kwargs)
        hung.append(host)
        free.wait(20.0)
        raise OSError("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    before = threading.active_count()
    with limit_for(backend, "redis://no.such.host/0") as limit:
        assert_cut(limit)
        callers = [threading.Thread(target=timed, args=(call, limit)) for _ in range(40)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

        assert len(hung) <= 8
        assert threading.active_count() <= before + 8
        free.set()
    assert services.wait_until(lambda: threading.active_count() <= before)
    assert len(hung) <= 8 + 1, "what waited for a helper was given up with the limit"


@contextlib.contextmanager
def one_connection_in_use(limit):
    """A call of another thread, which holds a connection."""
    call(limit, put, "key", "value", budget=2.0)
    taken, free = threading.Event(), threading.Event()

    def occupy(raw):
        client = raw._cache.get_client() if hasattr(raw, "_cache") else raw.client.get_client()
        with client.pipeline() as pipeline:
            pipeline.watch("key")
            taken.set()
            free.wait(5.0)

    holder = threading.Thread(target=lambda: limit.call(FunctionCall(occupy), 5.0, trial=False))
    holder.start()
    taken.wait(5.0)
    try:
        yield
    finally:
        free.set()
        holder.join()


def test_an_exhausted_pool_is_no_failure_of_the_server(backend, valkey):
    with limit_for(backend, valkey.url, max_connections=1) as limit:
        with one_connection_in_use(limit):
            outcomes = [timed(call, limit) for _ in range(3)]

        assert [type(outcome) for outcome, _ in outcomes] == [BulkheadFull] * 3
        assert str(outcomes[0][0]) == ("Too many connections (max_connections of its pool is 1)")
        assert min(seconds for _, seconds in outcomes) < LIMIT / 2
        assert call(limit, budget=2.0) == "value"


def test_an_exhausted_pool_without_a_budget_is_what_the_client_makes_of_it(backend, valkey):
    errors = import_module(f"{package_of(backend)}.exceptions")
    with limit_for(backend, valkey.url, max_connections=1) as limit:
        with one_connection_in_use(limit):
            with pytest.raises(Exception, match="Too many connections") as caught:
                call(limit, budget=None)

        errors_of = caught.value, caught.value.__cause__
        assert any(isinstance(error, errors.ConnectionError) for error in errors_of)


def test_an_exhausted_blocking_pool_blames_nobody(backend, valkey):
    package = package_of(backend)
    pool = f"{package}.connection.BlockingConnectionPool"
    with limit_for(backend, valkey.url, pool_class=pool, max_connections=1, timeout=20) as limit:
        with one_connection_in_use(limit):
            outcomes = [timed(call, limit) for _ in range(3)]

        assert all(isinstance(outcome, BulkheadFull) for outcome, _ in outcomes)
        assert max(outcome.server_seconds for outcome, _ in outcomes) < 0.1 * LIMIT
        assert min(seconds for _, seconds in outcomes) <= LIMIT + GRACE
        assert call(limit, budget=2.0) == "value"


def test_a_blocking_pool_that_waits_for_less_than_the_limit_blames_nobody(backend, valkey):
    pool = f"{package_of(backend)}.connection.BlockingConnectionPool"
    with limit_for(backend, valkey.url, pool_class=pool, max_connections=1, timeout=0.02) as limit:
        with one_connection_in_use(limit):
            outcome, seconds = timed(call, limit, budget=2.0)

        assert isinstance(outcome, BulkheadFull)
        assert str(outcome).endswith("(max_connections of its pool is 1)")
        assert seconds < 1.0


def test_a_connection_that_cannot_be_made_is_none_that_is_missing(backend, valkey):
    """Such as one that is configured wrongly: a pool that had room says what is wrong."""
    errors = import_module(f"{package_of(backend)}.exceptions")
    with limit_for(backend, valkey.url, socket_keepalive_options={}) as limit:
        raw = limit.backend()
        client = raw._cache.get_client() if hasattr(raw, "_cache") else raw.client.get_client()
        pool = client.connection_pool

        def is_rejecting(**kwargs):
            raise errors.ConnectionError("protocol must be either 2 or 3")

        pool.disconnect()
        pool.reset()
        pool.connection_class = is_rejecting
        outcome, _ = timed(call, limit)

        assert "protocol must be either 2 or 3" in f"{outcome} {outcome.__cause__}"
        assert not isinstance(outcome, BulkheadFull)


def test_a_blocking_pool_against_a_frozen_server(backend, own_valkey):
    pool = f"{package_of(backend)}.connection.BlockingConnectionPool"
    with limit_for(backend, own_valkey.url, pool_class=pool, max_connections=2) as limit:
        call(limit, put, "key", "value", budget=2.0)
        own_valkey.freeze()
        assert_cut(limit)
        own_valkey.thaw()
        assert until_answered(limit) == "value"


def test_the_clients_own_shorter_time_out_wins(backend, own_valkey):
    errors = import_module(f"{package_of(backend)}.exceptions")
    with limit_for(backend, own_valkey.url, socket_timeout=0.05) as limit:
        call(limit, put, "key", "value", budget=2.0)
        own_valkey.freeze()

        outcome, seconds = timed(call, limit, budget=2.0)

        assert isinstance(outcome, errors.TimeoutError)
        assert seconds < 1.0


def test_health_checks_fit_the_budget(backend, own_valkey):
    with limit_for(backend, own_valkey.url, health_check_interval=0.05) as limit:
        call(limit, put, "key", "value", budget=2.0)
        time.sleep(0.06)
        assert call(limit, budget=2.0) == "value"
        time.sleep(0.06)
        own_valkey.freeze()
        assert_cut(limit)


def test_an_attempt_to_connect_outlives_its_caller(backend, own_valkey):
    """The connection that came too late for its caller is there for the next one."""
    with (
        services.Proxy(own_valkey.address) as proxy,
        # With a database to select, every version has something to ask while connecting.
        limit_for(backend, proxy.url.removesuffix("0") + "1") as limit,
    ):
        proxy.answers = "hold"
        assert_cut(limit)
        proxy.answers = "pass"
        assert until_answered(limit) is None
        assert proxy.connections == 1


@pytest.mark.slow
def test_connecting_is_given_up_after_about_a_second(backend):
    errors = import_module(f"{package_of(backend)}.exceptions")
    with services.BlackHole() as server, limit_for(backend, server.url) as limit:
        assert_cut(limit)
        time.sleep(1.1)
        assert_cut(limit)
        assert services.wait_until(lambda: server.connections >= 2)
        outcome, seconds = timed(call, limit, budget=10.0)
        assert isinstance(outcome, errors.TimeoutError | TimedOut)
        assert seconds < 12.0


@pytest.mark.slow
def test_a_starved_call_succeeds_or_blames_little(backend, valkey):
    with limit_for(backend, valkey.url) as limit:
        call(limit, put, "key", "value", budget=2.0)
        with burning(4):
            outcomes = [timed(call, limit)[0] for _ in range(30)]

    cut = [outcome for outcome in outcomes if isinstance(outcome, TimedOut)]
    assert all(outcome == "value" for outcome in outcomes if outcome not in cut)
    assert not [outcome.server_seconds for outcome in cut if outcome.server_seconds >= 0.9 * LIMIT]


def test_a_starved_process_can_connect(backend, valkey):
    with limit_for(backend, valkey.url) as limit, burning(3):
        assert until_answered(limit, seconds=20.0) is None


@pytest.mark.slow
def test_a_frozen_server_is_blamed_by_a_starved_process(backend, own_valkey):
    """Not for each call, nobody can tell then, but what it is blamed for adds up.

    Three attempts: other programs may starve the burning threads' process altogether.
    """

    def blamed() -> bool:
        with burning(2):
            outcomes = [timed(call, limit)[0] for _ in range(6)]
        # What is not cut is the client's own error: connecting was given up.
        given = [getattr(outcome, "server_seconds", LIMIT) for outcome in outcomes]
        return sum(given) > 0.5 * LIMIT * len(given)

    with limit_for(backend, own_valkey.url) as limit:
        call(limit, put, "key", "value", budget=2.0)
        own_valkey.freeze()
        assert any(blamed() for _ in range(3))
