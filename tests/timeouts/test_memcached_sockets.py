"""The sockets limit under pymemcache, before servers that are healthy, frozen, dripping or gone."""

from __future__ import annotations

import socket
import ssl
import threading
import time

import pytest
from django.core.cache import caches

from django_resilient_cache.timeouts.sockets.pymemcache import Connections
from django_resilient_cache.timeouts.time_limit import TimedOut
from tests import services
from tests.calls import FunctionCall

from .memcached import at, limit_for, needs_pymemcache, unix_memcached
from .sockets import GRACE, LIMIT, assert_cut, call, get, put, timed, until_answered

pytestmark = [needs_pymemcache, pytest.mark.usefixtures("way")]

#: The start of an answer that never ends.
ENDLESS = b"VALUE :1:key 0 1000000\r\n"


def test_a_healthy_server_answers_within_any_budget_and_without_one(memcached):
    with limit_for(memcached.location) as limit:
        call(limit, put, "key", [1, None], budget=2.0)

        assert call(limit, budget=2.0) == [1, None]
        assert call(limit, budget=None) == [1, None]
        assert call(limit, budget=30.0) == [1, None]


def test_it_is_the_cache_that_others_use_too(memcached):
    with limit_for(memcached.location) as limit:
        caches["default"].set("key", "theirs")

        assert call(limit, budget=2.0) == "theirs"
        assert limit.backend() is not caches["default"]


@pytest.mark.parametrize(
    "options",
    [
        {"use_pooling": True, "max_pool_size": 2},
        {"no_delay": True, "timeout": 1.0, "connect_timeout": 1.0},
        {"key_prefix": b"mine:"},
        {"allow_unicode_keys": False, "encoding": "utf-8"},
    ],
)
def test_the_clients_own_options_are_kept(memcached, options):
    with limit_for(memcached.location, **options) as limit:
        caches["default"].set("key", "theirs")

        assert call(limit, budget=2.0) == "theirs"
        client = limit.backend()._cache
        (single,) = next(iter(client.clients.values())).client_pool.free
        for name in options.keys() - {"use_pooling", "max_pool_size", "key_prefix"}:
            assert getattr(single, name) == options[name]


def test_unix_socket():
    with unix_memcached() as server, limit_for(server.location) as limit:
        call(limit, put, "key", "value", budget=2.0)

        assert call(limit, budget=2.0) == "value"


@pytest.fixture
def tls(memcached, certificates):
    with services.TlsProxy(memcached.address, certificates) as proxy:
        yield proxy


def _context(certificates):
    return ssl.create_default_context(cafile=certificates.authority)


def test_tls(tls, certificates):
    with limit_for(tls.location, tls_context=_context(certificates)) as limit:
        for number in range(3):
            call(limit, put, f"key{number}", "x" * 300_000, budget=5.0)
        for number in range(3):
            assert call(limit, get, f"key{number}", budget=5.0) == "x" * 300_000
        assert tls.connections == 1


def test_large_values_pass_unchanged(memcached):
    value = bytes(range(256)) * 4_000
    with limit_for(memcached.location) as limit:
        call(limit, put, "key", value, budget=10.0)

        assert call(limit, budget=10.0) == value


def test_many_keys_in_one_operation(memcached):
    entries = {f"key{number}": number for number in range(500)}
    with limit_for(memcached.location) as limit:
        limit.call(FunctionCall(lambda raw: raw.set_many(entries, timeout=60)), 5.0, trial=False)

        assert (
            limit.call(FunctionCall(lambda raw: raw.get_many(entries)), 5.0, trial=False) == entries
        )
        limit.call(FunctionCall(lambda raw: raw.delete_many(["key7"])), 5.0, trial=False)
        assert call(limit, get, "key7", budget=2.0) is None
        assert call(limit, get, "key8", budget=2.0) == 8


def test_frozen_on_an_open_connection(own_memcached):
    with limit_for(own_memcached.location) as limit:
        call(limit, put, "key", "value", budget=2.0)
        own_memcached.freeze()
        assert_cut(limit, tries=1 + 3)
        own_memcached.thaw()

        assert until_answered(limit) == "value"


def test_frozen_before_the_first_connection(own_memcached):
    with limit_for(own_memcached.location) as limit:
        own_memcached.freeze()
        assert_cut(limit)
        own_memcached.thaw()

        assert until_answered(limit) is None


@pytest.mark.parametrize(
    "operation",
    [
        lambda raw: raw.add("key", 1),
        lambda raw: raw.clear(),
        lambda raw: raw.delete("key"),
        lambda raw: raw.delete_many(["key", "other"]),
        lambda raw: raw.get_many(["key", "other"]),
        lambda raw: raw.has_key("key"),
        lambda raw: raw.incr("key"),
        lambda raw: raw.set("key", 1),
        lambda raw: raw.set_many({"key": 1, "other": 2}),
        lambda raw: raw.touch("key"),
    ],
)
def test_frozen_for_each_operation(own_memcached, operation):
    with limit_for(own_memcached.location) as limit:
        call(limit, put, "key", 1, budget=2.0)
        own_memcached.freeze()

        outcomes = [
            timed(lambda: limit.call(FunctionCall(operation), LIMIT, trial=False)) for _ in range(4)
        ]

        assert all(isinstance(outcome, TimedOut) for outcome, _ in outcomes), outcomes
        assert min(seconds for _, seconds in outcomes) <= LIMIT + GRACE


def test_frozen_while_it_swallows_a_large_value():
    with unix_memcached() as server, limit_for(server.location) as limit:  # its buffers are small
        call(limit, put, "key", "value", budget=2.0)
        server.freeze()

        outcomes = [timed(call, limit, put, "key", b"x" * 900_000) for _ in range(3)]

        assert all(isinstance(outcome, TimedOut) for outcome, _ in outcomes)
        assert min(seconds for _, seconds in outcomes) <= LIMIT + GRACE
        server.thaw()


def test_frozen_behind_tls(own_memcached, certificates):
    with services.TlsProxy(own_memcached.address, certificates) as proxy:
        with limit_for(proxy.location, tls_context=_context(certificates)) as limit:
            call(limit, put, "key", "value", budget=5.0)
            own_memcached.freeze()
            assert_cut(limit)
            own_memcached.thaw()

            assert until_answered(limit) == "value"


def test_dripping_from_the_first_byte():
    with services.DrippingServer(every=0.08, start=ENDLESS) as server:
        with limit_for(server.location) as limit:
            assert_cut(limit)


def test_dripping_in_the_middle_of_an_answer(memcached):
    with services.Proxy(memcached.address) as proxy, limit_for(proxy.location) as limit:
        call(limit, put, "key", "value" * 100, budget=2.0)
        assert call(limit, budget=2.0) == "value" * 100
        proxy.answers = "drip"

        assert_cut(limit)


def test_dripping_inside_the_tls_handshake(certificates):
    # A TLS record header that announces far more than ever comes.
    start = b"\x16\x03\x03\x3f\xff"
    with services.DrippingServer(every=0.08, start=start) as server:
        with limit_for(server.location, tls_context=_context(certificates)) as limit:
            assert_cut(limit)


def test_dripping_inside_an_open_tls_connection(own_memcached, certificates):
    with (
        services.Proxy(own_memcached.address) as slow,
        services.TlsProxy(slow.address, certificates) as proxy,
        limit_for(proxy.location, tls_context=_context(certificates)) as limit,
    ):
        call(limit, put, "key", "value" * 100, budget=5.0)
        slow.answers = "drip"

        assert_cut(limit)


def test_a_server_that_never_answers():
    with services.BlackHole() as server, limit_for(server.location) as limit:
        assert_cut(limit)


def test_a_full_queue_of_connections():
    with services.FullBacklog() as server, limit_for(at(server.port)) as limit:
        assert_cut(limit)


def test_refused_at_once_with_the_clients_own_error():
    with services.RefusedPort() as server, limit_for(at(server.port)) as limit:
        outcomes = [timed(call, limit, budget=2.0) for _ in range(6)]

        assert all(isinstance(outcome, ConnectionRefusedError) for outcome, _ in outcomes)
        assert min(seconds for _, seconds in outcomes) <= LIMIT + GRACE


def test_dropped_in_the_middle_of_a_call(memcached):
    from pymemcache.exceptions import MemcacheUnexpectedCloseError

    with services.Proxy(memcached.address) as proxy, limit_for(proxy.location) as limit:
        call(limit, put, "key", "value", budget=2.0)
        proxy.answers = "drop"
        threading.Timer(0.03, proxy.cut).start()

        outcome, seconds = timed(call, limit, budget=5.0)

        assert isinstance(outcome, MemcacheUnexpectedCloseError | ConnectionError)
        assert seconds < 1.0
        proxy.answers = "pass"
        assert until_answered(limit) == "value"


def test_a_server_that_was_restarted_answers_the_next_call(own_memcached):
    with limit_for(own_memcached.location) as limit:
        call(limit, put, "key", "value", budget=2.0)
        own_memcached.restart()

        assert call(limit, budget=2.0) is None


def test_a_connection_that_was_cut_behind_tls_is_not_used_again(tls, certificates):
    with limit_for(tls.location, tls_context=_context(certificates)) as limit:
        call(limit, put, "key", "value", budget=5.0)
        tls.cut()
        time.sleep(0.1)

        assert call(limit, budget=5.0) == "value"


def test_a_connection_that_was_not_used_for_long_is_not_used_again(memcached):
    with services.Proxy(memcached.address) as proxy:
        with limit_for(proxy.location, use_pooling=True, pool_idle_timeout=0.2) as limit:
            call(limit, put, "key", "value", budget=2.0)
            call(limit, budget=2.0)
            assert proxy.connections == 1
            time.sleep(0.3)

            assert call(limit, budget=2.0) == "value"
            assert proxy.connections == 2


def test_a_name_lookup_that_never_ends(monkeypatch):
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
    with limit_for("no.such.host:11211") as limit:
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


def test_a_pool_whose_connections_are_all_in_use_blames_nobody(memcached):
    with (
        services.Proxy(memcached.address) as proxy,
        limit_for(proxy.location, use_pooling=True, max_pool_size=1) as limit,
    ):
        call(limit, put, "key", "value", budget=2.0)
        (client,) = limit.backend()._cache.clients.values()
        proxy.answers = "hold"
        holder = threading.Thread(target=timed, args=(call, limit), kwargs={"budget": 5.0})
        holder.start()
        assert services.wait_until(lambda: not client.client_pool.free)

        outcomes = [timed(call, limit) for _ in range(3)]
        proxy.answers = "pass"
        holder.join()

        assert all(isinstance(outcome, TimedOut) for outcome, _ in outcomes)
        assert max(outcome.server_seconds for outcome, _ in outcomes) < 0.1 * LIMIT
        assert min(seconds for _, seconds in outcomes) <= LIMIT + GRACE
        assert call(limit, budget=2.0) == "value"
        assert call(limit, budget=None) == "value"


def test_threads_that_wait_for_a_connection_have_it_one_after_the_other(memcached):
    with limit_for(memcached.location, use_pooling=True, max_pool_size=1) as limit:
        call(limit, put, "key", "value", budget=2.0)
        found = []

        def many(budget):
            found.extend(call(limit, budget=budget) for _ in range(50))

        threads = [threading.Thread(target=many, args=(each,)) for each in (20.0, None) * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20.0)

        assert found == ["value"] * 300


def test_a_client_that_comes_back_lets_in_a_thread_that_waits():
    connections = Connections(object, 1)
    connections.enter()
    waiting = threading.Thread(target=connections.enter, daemon=True)
    waiting.start()
    bulkhead = connections._bulkhead
    assert bulkhead is not None
    assert services.wait_until(lambda: len(bulkhead._waiting) == 1)

    connections.put(object(), connections.generation)

    waiting.join(5.0)
    assert not waiting.is_alive()


def test_the_clients_own_shorter_time_out_wins(own_memcached):
    with limit_for(own_memcached.location, timeout=0.05) as limit:
        call(limit, put, "key", "value", budget=2.0)
        own_memcached.freeze()

        outcomes = [timed(call, limit, budget=2.0) for _ in range(4)]

        assert all(isinstance(outcome, TimeoutError) for outcome, _ in outcomes)
        assert min(seconds for _, seconds in outcomes) < 1.0


def test_the_clients_own_time_out_without_a_budget(own_memcached):
    with limit_for(own_memcached.location, timeout=0.3, connect_timeout=0.3) as limit:
        call(limit, put, "key", "value", budget=None)
        own_memcached.freeze()

        assert isinstance(timed(call, limit, budget=None)[0], TimeoutError)
        own_memcached.thaw()
        assert call(limit, budget=None) == "value"
