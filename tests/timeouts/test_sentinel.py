"""Sentinel under the sockets limit: masters, replicas and Sentinels that freeze, and failovers."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from importlib import import_module

import pytest
from django.test import override_settings

from django_resilient_cache.adapters.commands import GetWithTtl
from django_resilient_cache.timeouts.sockets.socket_limit import SocketsLimit
from django_resilient_cache.timeouts.sockets.supported_clients import unsupported
from django_resilient_cache.timeouts.time_limit import TimedOut
from tests import services
from tests.calls import FunctionCall
from tests.services.replication import SERVICE, watched

from .in_loop import called
from .sockets import (
    BACKENDS,
    DJANGO_REDIS,
    GRACE,
    LIMIT,
    assert_cut,
    call,
    get,
    package_of,
    put,
    timed,
    until_answered,
)

WITH_SENTINEL = [each for each in BACKENDS if each.id != "django"]
pytestmark = [
    pytest.mark.parametrize("backend", WITH_SENTINEL),
    pytest.mark.usefixtures("way"),
]


@pytest.fixture
def own_servers():
    """Servers of the test's own, whose roles it may change."""
    with watched() as made:
        yield made


@pytest.fixture(scope="module")
def kept():
    """What keeps the servers behind `servers`; not for tests."""
    with contextlib.ExitStack() as stack:
        yield stack, []


@pytest.fixture
def servers(kept):
    """Servers to be frozen for less than a Sentinel needs to notice, healthy and empty."""
    stack, made = kept
    if made:
        made[-1].thaw()
    if not made or not services.wait_until(lambda: made[-1].is_well, seconds=2.0):
        stack.close()
        made.append(stack.enter_context(watched()))
    made[-1].master.flush()
    return made[-1]


def entry(backend, sentinels, **options):
    package = backend.partition(".")[0]
    own = {
        "CLIENT_CLASS": f"{package}.client.SentinelClient",
        "CONNECTION_FACTORY": f"{package}.pool.SentinelConnectionFactory",
        "SENTINELS": sentinels,
    }
    location = f"{package_of(backend)}://{SERVICE}/0"
    return {"BACKEND": backend, "LOCATION": location, "OPTIONS": own | options}


@contextlib.contextmanager
def limit_for(backend, sentinels, **options):
    with override_settings(CACHES={"default": entry(backend, sentinels, **options)}):
        assert unsupported("default") is None
        limit = SocketsLimit("default")
        yield called(limit)
        limit.close()


def until_put(limit, value="value", seconds=5.0):
    """Write until it is done, each time within the limit; the number of writes."""
    end, number = time.monotonic() + seconds, 1
    while (outcome := timed(call, limit, put, "key", value)[0]) is not True:
        assert time.monotonic() < end, outcome
        time.sleep(0.01)
        number += 1
    return number


def replicated(limit, value="value"):
    """Whether what was written can be read; it is the replica that reads are sent to."""
    return services.wait_until(lambda: call(limit, budget=2.0) == value)


def test_healthy(backend, servers):
    entries = {f"key{number}": number for number in range(100)}
    with limit_for(backend, servers.addresses) as limit:
        assert call(limit, put, "key", "value", budget=2.0) is True
        assert replicated(limit)
        limit.call(FunctionCall(lambda raw: raw.set_many(entries, timeout=60)), 5.0, trial=False)

        assert services.wait_until(
            lambda: (
                limit.call(FunctionCall(lambda raw: raw.get_many(entries)), 5.0, trial=False)
                == entries
            )
        )
        assert call(limit, budget=None) == "value"


def test_lifetimes_come_with_hits(backend, servers):
    with limit_for(backend, servers.addresses) as limit:
        limit.call(FunctionCall(lambda raw: raw.set("key", "value", timeout=60)), 2.0, trial=False)
        assert replicated(limit)
        found = limit.call(GetWithTtl("key", None), 2.0, trial=False)

        assert found.value == "value"
        assert 50 < found.ttl <= 60


def test_a_frozen_master(backend, servers):
    with limit_for(backend, servers.addresses) as limit:
        call(limit, put, "key", "value", budget=2.0)
        servers.master.freeze()
        assert_cut(limit, put, "key", "other")
        servers.master.thaw()

        until_put(limit)


def test_a_master_frozen_before_the_first_connection(backend, servers):
    with limit_for(backend, servers.addresses) as limit:
        servers.master.freeze()
        assert_cut(limit, put, "key", "value")
        servers.master.thaw()

        until_put(limit)


def test_a_frozen_replica_cuts_reads_alone(backend, servers):
    if backend != DJANGO_REDIS:
        pytest.skip("django-valkey reads from the master")
    with limit_for(backend, servers.addresses) as limit:
        call(limit, put, "key", "value", budget=2.0)
        assert replicated(limit)
        servers.replica.freeze()
        assert_cut(limit)
        assert call(limit, put, "key", "value", budget=2.0) is True
        servers.replica.thaw()

        assert until_answered(limit) == "value"


def test_a_frozen_sentinel_leaves_time_for_the_next_one(backend, servers):
    with limit_for(backend, servers.addresses) as limit:
        servers.sentinels[0].freeze()
        took = [timed(call, limit, put, "key", "value") for _ in range(8)]

        assert took[-1][0] is True
        assert all(outcome is True or isinstance(outcome, TimedOut) for outcome, _ in took)
        assert sorted(seconds for _, seconds in took)[len(took) // 2] <= LIMIT + GRACE


def test_a_dripping_sentinel_leaves_time_for_the_next_one(backend, servers):
    with services.DrippingServer(every=0.05) as slow:
        with limit_for(backend, [slow.address, *servers.addresses]) as limit:
            assert until_put(limit) < 10


def test_a_dead_sentinel_costs_no_call(backend, servers):
    with services.RefusedPort() as dead:
        with limit_for(backend, [dead.address, *servers.addresses]) as limit:
            assert call(limit, put, "key", "value", budget=2.0) is True


def test_without_sentinels_what_is_connected_goes_on(backend, servers):
    with limit_for(backend, servers.addresses) as limit:
        call(limit, put, "key", "value", budget=2.0)
        for sentinel in servers.sentinels:
            sentinel.freeze()
        assert call(limit, put, "key", "other", budget=2.0) is True
        _client(limit).connection_pool.disconnect()
        assert_cut(limit, put, "key", "value")
        for sentinel in servers.sentinels:
            sentinel.thaw()

        until_put(limit)


def test_all_sentinels_dead_is_the_clients_own_error(backend):
    errors = import_module(f"{package_of(backend)}.exceptions")
    with services.RefusedPort() as dead:
        with limit_for(backend, [dead.address, dead.address]) as limit:
            outcomes = [timed(call, limit, put, "key", "value") for _ in range(3)]

    assert all(isinstance(outcome, errors.ConnectionError | TimedOut) for outcome, _ in outcomes)
    assert min(seconds for _, seconds in outcomes) <= LIMIT + GRACE


@pytest.mark.parametrize("slow", ["sentinels", "master"])
def test_an_attempt_to_connect_outlives_its_caller(backend, slow, servers):
    """The connection that came too late for its caller is there for the next one."""
    frozen = servers.sentinels if slow == "sentinels" else [servers.master]
    with limit_for(backend, servers.addresses) as limit:
        pool = _client(limit).connection_pool
        pool.connection_kwargs["db"] = 1  # so that there is something to ask while connecting
        for server in frozen:
            server.freeze()
        assert isinstance(timed(call, limit, put, "key", "value")[0], TimedOut)
        made = list(pool._available_connections)
        for server in frozen:
            server.thaw()
        until_put(limit)

        assert len(made) == 1
        assert pool._available_connections == made


@pytest.mark.parametrize("frozen", [False, True], ids=["healthy", "frozen"])
def test_a_master_behind_tls(backend, frozen, own_valkey, certificates):
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(services.TlsProxy(own_valkey.address, certificates))
        sentinel = stack.enter_context(naming(master.port))
        pool = {"ssl": True, "ssl_ca_certs": certificates.authority}
        limit = stack.enter_context(
            limit_for(backend, [sentinel.address], CONNECTION_POOL_KWARGS=pool, SENTINEL_KWARGS={})
        )
        call(limit, put, "key", "x" * 300_000, budget=5.0)
        if frozen:
            own_valkey.freeze()
            assert_cut(limit, put, "key", "value")
            own_valkey.thaw()
            until_put(limit, "x" * 300_000)

        assert b"300" in own_valkey.ask(b"STRLEN :1:key\r\n")


def naming(port):
    """What stands for a Sentinel that names this port as the master's, whatever it is asked."""
    fields = {"name": SERVICE, "ip": services.HOST, "port": port, "flags": "master"}
    fields["num-other-sentinels"] = 0
    words = [str(word).encode() for pair in fields.items() for word in pair]
    told = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    protocols = []

    def answer_one(request):
        if b"HELLO" in request:
            protocols.append(3)
            return b"%1\r\n+proto\r\n:3\r\n"
        if b"MASTERS" not in request.upper():
            return b"+OK\r\n"
        start = b"%%%d" % len(fields) if protocols else b"*%d" % len(words)
        return b"*1\r\n" + start + b"\r\n" + told

    return services.AnsweringServer(
        lambda piece: b"".join(map(answer_one, filter(None, piece.split(b"*"))))
    )


@pytest.mark.slow
def test_a_failover(backend, own_servers):
    errors = import_module(f"{package_of(backend)}.exceptions")
    with limit_for(backend, own_servers.addresses) as limit:
        call(limit, put, "key", "value", budget=2.0)
        own_servers.promote_the_replica()
        seen = [timed(call, limit, put, "key", "other", budget=2.0)[0] for _ in range(2)]

        # The connection to the demoted master refuses one write at most.
        assert seen[-1] is True, seen
        assert isinstance(seen[0], errors.ReadOnlyError | errors.ConnectionError) or seen[0] is True
        assert b"other" in own_servers.replica.ask(b"GET :1:key\r\n", enough=b"\r\n")


@pytest.mark.slow
def test_a_failover_because_the_master_does_not_answer(backend, own_servers):
    with limit_for(backend, own_servers.addresses) as limit:
        call(limit, put, "key", "value", budget=2.0)
        own_servers.master.freeze()

        until_put(limit, seconds=services.PATIENCE)

        assert any(each.takes_writes(own_servers.replica) for each in own_servers.sentinels)


@pytest.mark.slow
@pytest.mark.parametrize("socket_timeout", [None, 0.01], ids=["limit alone", "its own time-out"])
def test_no_call_ever_gets_the_answer_of_another(backend, socket_timeout, servers):
    """With a time-out of its own the client gives up before the limit, in its own way."""
    errors = import_module(f"{package_of(backend)}.exceptions")
    keys = [f"key{number}" for number in range(30)]
    stop, wrong, cut, right = threading.Event(), [], [], []

    def ask():
        while not stop.is_set():
            key = random.choice(keys)
            budget = random.choice((0.002, 0.005, 0.02, 0.05))
            try:
                if random.random() < 0.5:
                    found = call(limit, get, key, budget=budget)
                else:
                    found = limit.call(GetWithTtl(key, None), budget, trial=False).value
            except (TimedOut, errors.TimeoutError, errors.ConnectionError):
                cut.append(key)
                continue
            right.append(key)
            if found != f"value of {key}":
                wrong.append((key, found))

    def stutter():
        while not stop.is_set():
            for server in (servers.master, servers.replica):
                server.freeze()
            time.sleep(random.uniform(0.001, 0.03))
            for server in (servers.master, servers.replica):
                server.thaw()
            time.sleep(random.uniform(0.001, 0.03))

    with limit_for(backend, servers.addresses) as limit:
        entries = {key: f"value of {key}" for key in keys}
        limit.call(FunctionCall(lambda raw: raw.set_many(entries)), 5.0, trial=False)
        assert services.wait_until(
            lambda: (
                limit.call(FunctionCall(lambda raw: raw.get_many(keys)), 5.0, trial=False)
                == entries
            )
        )
    with limit_for(backend, servers.addresses, SOCKET_TIMEOUT=socket_timeout) as limit:
        threads = [threading.Thread(target=ask) for _ in range(5)]
        threads.append(threading.Thread(target=stutter))
        for thread in threads:
            thread.start()
        time.sleep(2.0)
        stop.set()
        for thread in threads:
            thread.join()

    assert not wrong
    assert len(cut) > 20
    assert len(right) > 20


def _client(limit):
    """The client for writes."""
    return limit.backend().client.get_client(write=True)
