"""One alias on several servers under the sockets limit: a primary with replicas, shards."""

from __future__ import annotations

import contextlib

import pytest
from django.test import override_settings

from django_resilient_cache.timeouts.sockets.socket_limit import SocketsLimit
from django_resilient_cache.timeouts.sockets.supported_clients import unsupported
from django_resilient_cache.timeouts.time_limit import TimedOut
from tests import services
from tests.calls import FunctionCall
from tests.services.replication import Replica, told

from .in_loop import called
from .sockets import (
    BACKENDS,
    DJANGO_VALKEY,
    GRACE,
    LIMIT,
    assert_cut,
    call,
    get,
    put,
    timed,
    until_answered,
)

#: The clients that read and write as they are told, each with the backend that it is for.
CLIENTS: dict[str, list[str | None]] = {
    "django": [None],
    "django_redis": ["DefaultClient", "HerdClient"],
    "django_valkey": ["DefaultClient", "HerdClient", "default.HashClient"],
}

pytestmark = pytest.mark.usefixtures("way")

replicated = pytest.mark.parametrize(
    ("backend", "client"),
    [
        pytest.param(each.values[0], client, id=f"{each.id}-{client}", marks=each.marks)
        for each in BACKENDS
        for client in CLIENTS[str(each.id)]
    ],
)
sharded = pytest.mark.parametrize("backend", [each for each in BACKENDS if each.id != "django"])

ENTRIES = {f"key{number}": f"value {number}" for number in range(40)}


def get_batch(raw):
    return raw.get_many(ENTRIES)


def set_batch(raw):
    return raw.set_many(ENTRIES, timeout=60)


@pytest.fixture(scope="module")
def kept_pair():
    """The servers behind `primary` and `replica`; not for tests."""
    with services.valkey_server() as primary:
        primary.ask(b"CONFIG SET repl-diskless-sync-delay 0\r\n")
        with Replica(primary.program, primary) as replica:
            yield primary, replica


@pytest.fixture
def primary(kept_pair):
    """A server that is healthy and empty, and so is its replica."""
    primary, replica = kept_pair
    healthy(primary, replica)
    assert services.wait_until(lambda: replica.is_in_step)
    return primary


@pytest.fixture
def replica(kept_pair, primary):
    return kept_pair[1]


@pytest.fixture(scope="module")
def kept_shards():
    """The servers behind `shards`; not for tests."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(services.valkey_server()) for _ in range(3)]


@pytest.fixture
def shards(kept_shards):
    """Three servers that are healthy and empty."""
    healthy(*kept_shards)
    return kept_shards


def healthy(*servers):
    for server in servers:
        server.thaw()
    for server in servers:
        if b"role:master" in told(server, b"INFO replication"):
            server.flush()


@contextlib.contextmanager
def limit_for(backend, servers, client=None, **options):
    package = backend.partition(".")[0]
    scheme = "valkey" if backend == DJANGO_VALKEY else "redis"
    if client is not None:
        options["CLIENT_CLASS"] = f"{package}.client.{client}"
    location = [server.url.replace("redis", scheme, 1) for server in servers]
    cache = {"BACKEND": backend, "LOCATION": location, "OPTIONS": options}
    with override_settings(CACHES={"default": cache}):
        assert unsupported("default") is None
        limit = SocketsLimit("default")
        yield called(limit)
        limit.close()


def whole(limit, operation, budget=5.0):
    return limit.call(FunctionCall(operation), budget, trial=False)


@replicated
def test_a_primary_and_its_replica(backend, client, primary, replica):
    with limit_for(backend, [primary, replica], client) as limit:
        assert call(limit, put, "key", "value", budget=2.0) in (True, None)
        whole(limit, set_batch)

        assert services.wait_until(lambda: call(limit, budget=2.0) == "value")
        assert services.wait_until(lambda: whole(limit, get_batch) == ENTRIES)


@replicated
def test_a_frozen_replica_cuts_reads_alone(backend, client, primary, replica):
    with limit_for(backend, [primary, replica], client) as limit:
        call(limit, put, "key", "value", budget=2.0)
        assert services.wait_until(lambda: call(limit, budget=2.0) == "value")
        replica.freeze()
        assert_cut(limit)
        assert call(limit, put, "key", "other", budget=2.0) in (True, None)
        replica.thaw()

        assert services.wait_until(lambda: until_answered(limit) == "other")


@replicated
def test_a_frozen_primary_cuts_writes_alone(backend, client, primary, replica):
    with limit_for(backend, [primary, replica], client) as limit:
        call(limit, put, "key", "value", budget=2.0)
        assert services.wait_until(lambda: call(limit, budget=2.0) == "value")
        primary.freeze()
        assert_cut(limit, put, "key", "other")

        assert call(limit, budget=2.0) == "value"


@pytest.mark.parametrize("backend", [each for each in BACKENDS if each.id == "django_redis"])
def test_trying_every_server_fits_one_budget(backend, primary, replica):
    """REPLICA_READ_ONLY False: a server that fails is no reason to fail, the next one is asked."""
    with limit_for(backend, [primary, replica], REPLICA_READ_ONLY=False) as limit:
        call(limit, put, "key", "value", budget=2.0)
        primary.freeze()
        replica.freeze()
        outcomes = [timed(call, limit, put, "key", "other") for _ in range(3)]

        assert all(isinstance(outcome, TimedOut) for outcome, _ in outcomes)
        assert min(seconds for _, seconds in outcomes) <= LIMIT + GRACE


# django-redis warns of what its own backend passes to it.
sharded_get = pytest.mark.filterwarnings("ignore:(get|set) on sharded client:UserWarning")


@sharded_get
@sharded
def test_shards(backend, shards):
    with limit_for(backend, shards, "ShardClient") as limit:
        whole(limit, set_batch)

        assert whole(limit, get_batch) == ENTRIES
        assert [call(limit, get, key, budget=2.0) for key in ENTRIES] == list(ENTRIES.values())
        assert all(server.ask(b"DBSIZE\r\n") != b":0\r\n" for server in shards)


@sharded_get
@sharded
@pytest.mark.parametrize("operation", [get_batch, set_batch])
def test_a_frozen_shard_cuts_a_batch_over_all_of_them(backend, operation, shards):
    with limit_for(backend, shards, "ShardClient") as limit:
        whole(limit, set_batch)
        shards[1].freeze()
        outcomes = [timed(whole, limit, operation, LIMIT) for _ in range(4)]

        assert all(isinstance(outcome, TimedOut) for outcome, _ in outcomes)
        assert min(seconds for _, seconds in outcomes) <= LIMIT + GRACE
        shards[1].thaw()
        assert services.wait_until(lambda: timed(whole, limit, get_batch)[0] == ENTRIES)


@sharded_get
@sharded
def test_a_frozen_shard_cuts_its_own_keys_alone(backend, shards):
    with limit_for(backend, shards, "ShardClient") as limit:
        whole(limit, set_batch)
        shards[1].freeze()
        cut, answered = [], []
        for key in ENTRIES:
            outcome, seconds = timed(call, limit, get, key)
            if isinstance(outcome, TimedOut):
                cut.append(seconds)
            elif isinstance(outcome, str):
                answered.append(outcome)
            if len(cut) > 3 and len(answered) > 10:
                break
        assert len(cut) > 3
        assert len(answered) > 10
        assert sorted(cut)[len(cut) // 2] <= LIMIT + GRACE


@sharded_get
@sharded
def test_slow_shards_share_one_budget(backend, valkey):
    """Each answers in time; together they do not."""
    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(services.Proxy(valkey.address, every=0.001)) for _ in "123"]
        limit = stack.enter_context(limit_for(backend, proxies, "ShardClient"))
        whole(limit, set_batch)
        for proxy in proxies:
            proxy.answers = "drip"  # some 10 ms an answer
        assert all(isinstance(call(limit, get, key, budget=1.0), str) for key in list(ENTRIES)[:5])
        outcomes = [timed(whole, limit, get_batch, LIMIT) for _ in range(3)]

        assert all(isinstance(outcome, TimedOut) for outcome, _ in outcomes)
        assert min(seconds for _, seconds in outcomes) <= LIMIT + GRACE
        assert max(outcome.server_seconds for outcome, _ in outcomes) >= 0.5 * LIMIT
