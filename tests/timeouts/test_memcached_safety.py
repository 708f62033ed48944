"""What a call that was cut short must not leave behind in pymemcache alone, and several servers."""

from __future__ import annotations

import os
import random
import threading
import time

import pytest
from django.core.cache import caches

from django_resilient_cache.timeouts.time_limit import TimedOut
from tests import services
from tests.calls import FunctionCall

from .memcached import limit_for, needs_pymemcache
from .sockets import GRACE, LIMIT, assert_cut, call, get, put, timed, until_answered

pytestmark = needs_pymemcache


class Interrupted(BaseException):
    """What a signal handler, a greenlet's killer or an event loop throws in."""


def get_many(raw, keys):
    return raw.get_many(keys)


def _connections(limit):
    """The pools of the limit's client, one for each server."""
    return [client.client_pool for client in limit.backend()._cache.clients.values()]


def test_an_interrupt_between_request_and_answer_resets_the_connection(memcached):
    """pymemcache itself closes a connection after an Exception only."""
    with services.Proxy(memcached.address) as proxy, limit_for(proxy.location) as limit:
        call(limit, put, "key", "value", budget=2.0)
        (pool,) = _connections(limit)
        sock = pool.free[-1].sock
        proxy.answers = "hold"
        sock._poll = _raising(Interrupted, sock._poll)

        outcome = None
        try:
            call(limit, budget=2.0)
        except Interrupted as error:
            outcome = error

        assert isinstance(outcome, Interrupted)
        assert sock.dead
        assert pool.free[-1].sock is None
        proxy.answers = "pass"
        assert call(limit, budget=2.0) == "value"
        assert proxy.connections == 2


def _raising(kind, poll):
    """A poll that is interrupted when it has to wait."""

    def interrupted(milliseconds):
        if milliseconds:
            raise kind
        return poll(milliseconds)

    return interrupted


def test_an_error_of_the_server_is_the_clients_own(memcached):
    from pymemcache.exceptions import MemcacheClientError

    with limit_for(memcached.location) as limit:
        call(limit, put, "text", "abc", budget=2.0)
        outcome, _ = timed(limit.call, FunctionCall(lambda raw: raw.incr("text")), 2.0, trial=False)

        assert isinstance(outcome, MemcacheClientError)
        assert call(limit, get, "text", budget=2.0) == "abc"


def test_what_many_cut_calls_leave_is_bounded(own_memcached):
    with limit_for(own_memcached.location) as limit:
        call(limit, put, "key", "value", budget=2.0)
        own_memcached.freeze()
        for _ in range(100):
            timed(call, limit, budget=0.001)

        assert len(_connections(limit)[0].free) == 1
        own_memcached.thaw()
        assert until_answered(limit) == "value"


def test_a_budget_that_has_ended_costs_no_connection(memcached):
    """An operation of many commands is cut between two of them."""

    def slow(raw):
        raw.get("key")
        time.sleep(0.05)
        raw.get("key")

    with services.Proxy(memcached.address) as proxy, limit_for(proxy.location) as limit:
        call(limit, put, "key", "value", budget=2.0)
        outcome, _ = timed(limit.call, FunctionCall(slow), 0.04, trial=False)

        assert isinstance(outcome, TimedOut)
        assert call(limit, budget=2.0) == "value"
        assert proxy.connections == 1


def test_threads_share_one_instance_with_a_connection_each(memcached):
    with services.Proxy(memcached.address) as proxy, limit_for(proxy.location) as limit:
        together, answers = threading.Barrier(8), []

        def ask():
            for number in range(50):
                together.wait(10.0)
                call(limit, put, f"key{threading.get_ident()}", number, budget=5.0)
                answers.append(
                    call(limit, get, f"key{threading.get_ident()}", budget=5.0) == number
                )

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert answers == [True] * 400
        assert proxy.connections <= 8


@pytest.mark.slow
def test_threads_that_find_the_server_back_at_the_same_time(memcached):
    """pymemcache would take it off its list of failed servers twice, and the second is an error."""
    # So long a time-out that only the first call reaches it, on a busy machine too.
    with (
        services.Proxy(memcached.address) as proxy,
        limit_for(proxy.location, timeout=2.0) as limit,
    ):
        call(limit, put, "key", "value", budget=10.0)
        proxy.answers = "hold"
        outcome, _ = timed(call, limit, put, "key", "value", budget=10.0)
        assert isinstance(outcome, TimeoutError)
        outcomes = []
        threads = [
            threading.Thread(
                target=lambda: outcomes.append(
                    timed(call, limit, put, "key", "new", budget=10.0)[0]
                )
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        proxy.answers = "pass"
        for thread in threads:
            thread.join()

        assert outcomes == [None] * 4
        assert call(limit, budget=10.0) == "new"


def test_closing_ends_every_connection(memcached):
    with services.Proxy(memcached.address) as proxy, limit_for(proxy.location) as limit:
        call(limit, put, "key", "value", budget=2.0)
        (pool,) = _connections(limit)
        proxy.answers = "hold"
        waiting = threading.Thread(target=timed, args=(call, limit), kwargs={"budget": 0.3})
        waiting.start()
        assert services.wait_until(lambda: not pool.free)
        limit.close()
        waiting.join()

        assert not pool.free
        assert services.wait_until(lambda: not proxy._writers)
        proxy.answers = "pass"
        assert call(limit, budget=2.0) == "value"


def test_a_forked_child_uses_nothing_of_its_parent(own_memcached):
    with services.Proxy(own_memcached.address) as proxy, limit_for(proxy.location) as limit:
        call(limit, put, "key", "value", budget=2.0)
        own_memcached.freeze()
        assert_cut(limit)  # an attempt to connect may be under way in the parent
        own_memcached.thaw()
        until_answered(limit)
        before = proxy.connections
        with limit._lock:
            child = os.fork()
            if not child:
                code = 1
                try:
                    code = 0 if call(limit, budget=2.0) == "value" else 2
                finally:
                    os._exit(code)
        _, status = os.waitpid(child, 0)

        assert os.waitstatus_to_exitcode(status) == 0
        assert proxy.connections == before + 1
        assert call(limit, budget=2.0) == "value"
        assert proxy.connections == before + 1


# Several servers


@pytest.fixture
def two(own_memcached):
    """Two servers; the second is for the test to break."""
    with services.memcached_server() as other:
        yield own_memcached, other


def _by_server(limit, keys):
    """The keys of each server, by the client's own rule."""
    client = limit.backend()._cache
    places = {}
    for key in keys:
        name = limit.backend().make_key(key)
        places.setdefault(client.hasher.get_node(name), []).append(key)
    return places


def test_keys_are_where_the_bare_client_puts_them(two):
    keys = [f"key{number}" for number in range(40)]
    with limit_for([server.location for server in two]) as limit:
        caches["default"].set_many(dict.fromkeys(keys, "theirs"))

        assert call(limit, get_many, keys, budget=5.0) == dict.fromkeys(keys, "theirs")
        call(limit, put, "key1", "ours", budget=2.0)
        assert caches["default"].get("key1") == "ours"
        assert all(len(part) > 5 for part in _by_server(limit, keys).values())


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["freeze", "kill"])
def test_one_of_two_servers_away(two, fault):
    """Its keys fail for as long as it is away, and never turn up on the other one."""
    healthy, broken = two
    keys = [f"key{number}" for number in range(40)]
    with limit_for([server.location for server in two]) as limit:
        for key in keys:
            call(limit, put, key, "old", budget=2.0)
        places = _by_server(limit, keys)
        well, ill = places[healthy.location], places[broken.location]
        getattr(broken, fault)()
        end = time.monotonic() + 3.0  # bare, it is marked dead in this time and its keys move
        while time.monotonic() < end:
            outcome, _ = timed(call, limit, get, random.choice(ill))
            assert isinstance(outcome, TimedOut | OSError), outcome
            assert call(limit, get, random.choice(well), budget=2.0) == "old"
            time.sleep(0.1)
        for operation in (
            lambda raw: raw.get_many(keys),
            lambda raw: raw.set_many(dict.fromkeys(keys, "new")),
            lambda raw: raw.delete_many(ill),
            lambda raw: raw.incr(ill[0]),
            lambda raw: raw.set(ill[0], "new"),
            lambda raw: raw.add(ill[0], "new"),
            lambda raw: raw.clear(),
        ):
            outcomes = [
                timed(limit.call, FunctionCall(operation), LIMIT, trial=False) for _ in range(3)
            ]
            assert all(isinstance(outcome, TimedOut | OSError) for outcome, _ in outcomes), outcomes
            assert min(seconds for _, seconds in outcomes) <= LIMIT + GRACE
        if fault == "freeze":
            broken.thaw()
        else:
            broken.start()

        answers = {key: until_answered(limit, key=key) for key in ill}
        assert set(answers.values()) <= ({"old", "new", None} if fault == "freeze" else {None})
        assert _by_server(limit, keys) == places
