"""Instances of our own: a Memcached that does not answer is not taken for an empty one.

But for what pylibmc cannot tell, of which check W011 speaks.
"""

from __future__ import annotations

import os
import pickle
import time
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.memcached import PyMemcacheCache
from django.test import override_settings

from django_resilient_cache import conf
from django_resilient_cache.adapters.instances import private_instance
from django_resilient_cache.timeouts.direct import OwnDirectLimit
from django_resilient_cache.timeouts.strategy import make_limit, strange_client
from django_resilient_cache.timeouts.threads.thread_limit import ThreadLimit
from tests import services
from tests.calls import FunctionCall
from tests.entries import DATABASE, MEMORY, PYLIBMC, PYMEMCACHE, OwnMemcachedLibrary, chain

from .memcached import CLIENTS, at, configured, needs_pylibmc, needs_pymemcache

#: Each with a key that was there when the server was well.
OPERATIONS = {
    "get": lambda raw: raw.get("key", "default"),
    "get_many": lambda raw: raw.get_many(["key", "other"]),
    "has_key": lambda raw: raw.has_key("key"),
    "set": lambda raw: raw.set("key", 2),
    "set_many": lambda raw: raw.set_many({"key": 2, "other": 3}),
    "add": lambda raw: raw.add("free", 1),
    "touch": lambda raw: raw.touch("key", 60),
    "incr": lambda raw: raw.incr("key"),
    "decr": lambda raw: raw.decr("key"),
    "delete": lambda raw: raw.delete("key"),
    "delete_many": lambda raw: raw.delete_many(["key", "other"]),
    "clear": lambda raw: raw.clear(),
}

#: Time-outs of the clients' own, so that a frozen server is left without a limit of ours.
IMPATIENT: dict[Any, dict[str, Any]] = {
    PYMEMCACHE: {"timeout": 0.1, "connect_timeout": 0.1},
    PYLIBMC: {"behaviors": {"_poll_timeout": 100, "connect_timeout": 100}},
}

#: What is meant to hide an outage.
HIDING: dict[Any, dict[str, Any]] = {
    PYMEMCACHE: {
        "retry_attempts": 1,
        "retry_timeout": 30,
        "dead_timeout": 60,
        "default_noreply": True,
    },
    PYLIBMC: {
        "behaviors": {
            "_noreply": 1,
            "auto_eject": 1,
            "buffer_requests": 1,
            "dead_timeout": 60,
            "failure_limit": 1,
            "remove_failed": 1,
            "retry_timeout": 30,
        }
    },
}

#: What pylibmc takes a connection for that breaks while it reads, and what it then answers.
TAKEN_FOR_MISSES = {"get": "default", "get_many": {}, "has_key": False}

every_client = pytest.mark.parametrize("backend", CLIENTS)


def _own(alias="default") -> Any:
    return private_instance(alias)


def _bare(alias="default") -> Any:
    return caches[alias]


def outcome(operation, raw):
    try:
        return operation(raw)
    except Exception as error:
        return error


def patiently(operation):
    """Do what a busy machine may not do in the client's short time."""
    assert services.wait_until(lambda: not isinstance(outcome(lambda _: operation(), 0), Exception))


def all_fail(raw, operations=OPERATIONS):
    """What each operation answered that should have raised."""
    answers = {name: outcome(operation, raw) for name, operation in operations.items()}
    return {
        name: answer
        for name, answer in answers.items()
        if not isinstance(answer, Exception) or isinstance(answer, ValueError | KeyError)
    }


def unnoticed(backend, name):
    """The answer of the operation that is the first one over a lost connection, by its name."""
    taken = backend == PYLIBMC and name in TAKEN_FOR_MISSES
    return {name: TAKEN_FOR_MISSES[name]} if taken else {}


@every_client
@pytest.mark.parametrize("options", [{}, HIDING], ids=["as installed", "told to hide it"])
def test_killed(backend, options: dict[Any, dict[str, Any]], own_memcached):
    with configured(backend, own_memcached.location, **options.get(backend, {})):
        for name, operation in OPERATIONS.items():  # each is the first one to find out
            raw = private_instance("default")
            raw.set("key", 1)
            own_memcached.kill()
            assert all_fail(raw, {name: operation}) == unnoticed(backend, name)
            assert not all_fail(raw), f"after {name}"
            own_memcached.start()
            if backend == PYMEMCACHE:
                assert raw.get("key", "default") == "default", f"it is asked again, after {name}"
            raw.close()


@needs_pylibmc
@pytest.mark.parametrize("options", [{}, HIDING], ids=["as installed", "told to hide it"])
def test_pylibmc_asks_a_server_that_is_back_within_two_seconds(
    options: dict[Any, dict[str, Any]], own_memcached
):
    with configured(PYLIBMC, own_memcached.location, **options.get(PYLIBMC, {})):
        raw = private_instance("default")
        own_memcached.kill()
        assert isinstance(outcome(OPERATIONS["set"], raw), Exception)
        own_memcached.start()
        assert services.wait_until(lambda: outcome(OPERATIONS["get"], raw) == "default", 5)
        raw.close()


@every_client
def test_gone_before_the_first_connection(backend):
    with services.RefusedPort() as nobody, configured(backend, at(nobody.port)):
        for name, operation in OPERATIONS.items():
            assert not all_fail(private_instance("default"), {name: operation})


@every_client
@pytest.mark.parametrize("name", OPERATIONS)
def test_frozen_for_longer_than_the_client_waits(backend, name, own_memcached):
    with configured(backend, own_memcached.location, **IMPATIENT[backend]):
        raw = private_instance("default")
        patiently(lambda: raw.set("key", 1))
        own_memcached.freeze()
        assert all_fail(raw, {name: OPERATIONS[name]}) == unnoticed(backend, name)
        # pylibmc remembers it for a second, and no longer: on a busy machine that may be over.
        assert services.wait_until(lambda: not all_fail(raw, {name: OPERATIONS[name]}))
        own_memcached.thaw()

        def answers():
            wrote = outcome(lambda raw: raw.set("key", 5), raw)
            return wrote is None and outcome(lambda raw: raw.get("key"), raw) == 5

        assert services.wait_until(answers)  # it works off what it was sent before
        raw.close()


@every_client
def test_the_bare_alias_takes_it_for_empty(backend, own_memcached):
    """Should this fail, a client has changed for the better; or we look at the wrong one."""
    with configured(backend, own_memcached.location):
        bare = caches["default"]
        bare.set("key", 1)
        own_memcached.kill()
        answers = [outcome(lambda raw: raw.get("key", "default"), bare) for _ in range(3)]

        assert not all(isinstance(answer, Exception) for answer in answers)


GARBAGE = {
    "nothing": b"\r\n",
    "no protocol": b"\xff\r\n",
    "out of memory": b"SERVER_ERROR out of memory\r\n",
    "half a value": b"VALUE :1:key 0 10\r\nabc",
}


@needs_pymemcache
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_no_miss(garbage):
    with (
        services.AnsweringServer(lambda piece: garbage) as server,
        configured(PYMEMCACHE, server.location, **IMPATIENT[PYMEMCACHE]),
    ):
        for name in ("get", "get_many", "has_key"):
            assert isinstance(outcome(OPERATIONS[name], private_instance("default")), Exception), (
                name
            )


@needs_pymemcache
def test_a_connection_that_is_cut_is_no_miss(memcached):
    with services.Proxy(memcached.address) as proxy, configured(PYMEMCACHE, proxy.location):
        raw = private_instance("default")
        for _ in range(5):
            raw.set("key", "value")
            proxy.cut()
            assert services.wait_until(lambda: not proxy._writers)
            time.sleep(0.05)
            assert isinstance(outcome(OPERATIONS["get"], raw), Exception)
            assert raw.get("key") == "value"
            assert raw.get_many(["key", "other"]) == {"key": "value"}
        raw.close()


@needs_pylibmc
def test_for_pylibmc_a_connection_that_is_cut_is_one_miss(memcached):
    """Should this fail, pylibmc has changed for the better: then check W011 can go."""
    with services.Proxy(memcached.address) as proxy, configured(PYLIBMC, proxy.location):
        raw = private_instance("default")
        raw.set("key", "value")
        proxy.cut()
        assert services.wait_until(lambda: not proxy._writers)
        time.sleep(0.05)
        assert outcome(OPERATIONS["get"], raw) == "default"
        assert services.wait_until(lambda: outcome(OPERATIONS["get"], raw) == "value", 5)
        raw.close()


def _asking(key):
    return f"get :1:{key}\r\n".encode()


@pytest.mark.slow
@every_client
@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_one_of_two_servers_away(backend, fault, own_memcached):
    """No key is looked for on the other one, neither now nor later."""
    keys = [f"key{number}" for number in range(20)]
    with services.memcached_server() as broken:
        places = [own_memcached.location, broken.location]
        with configured(backend, places, **IMPATIENT[backend]):
            raw = private_instance("default")
            patiently(lambda: raw.set_many(dict.fromkeys(keys, "old")))
            well = [key for key in keys if b"VALUE" in own_memcached.ask(_asking(key))]
            ill = [key for key in keys if key not in well]
            assert ill
            assert well
            getattr(broken, fault)()
            for _ in range(3):  # failing is not what makes the keys move
                found = outcome(lambda raw: raw.get_many(keys), raw)
                if backend == PYLIBMC:
                    assert found.items() <= dict.fromkeys(well, "old").items(), "it leaves keys out"
                else:
                    assert isinstance(found, Exception)
                assert services.wait_until(
                    lambda: isinstance(outcome(lambda raw: raw.get(ill[0]), raw), Exception)
                )
                patiently(lambda: raw.get_many(well))
                assert outcome(lambda raw: raw.get_many(well), raw) == dict.fromkeys(well, "old")
            writes = (
                lambda raw: raw.set_many(dict.fromkeys(keys, "new")),
                lambda raw: raw.set(ill[-1], "new"),
                lambda raw: raw.delete_many(ill),
                lambda raw: raw.clear(),
            )
            for write in writes:
                assert isinstance(outcome(write, raw), Exception)
            if fault == "freeze":
                broken.thaw()
            else:
                broken.start()
            assert services.wait_until(
                lambda: not isinstance(outcome(lambda raw: raw.get(ill[0]), raw), Exception)
            )
            raw.close()


# pylibmc's answers and behaviors


@needs_pylibmc
def test_pylibmcs_answers_that_are_errors_keep_the_connection(memcached):
    import pylibmc

    with services.Proxy(memcached.address) as proxy, configured(PYLIBMC, proxy.location):
        raw = private_instance("default")
        raw.set("text", "abc")
        assert isinstance(outcome(lambda raw: raw.incr("missing"), raw), ValueError)
        assert isinstance(outcome(lambda raw: raw.incr("text"), raw), pylibmc.Error)
        assert isinstance(outcome(lambda raw: raw.set("large", "x" * 2_000_000), raw), Exception)
        assert isinstance(outcome(lambda raw: raw.set("key", lambda: None), raw), Exception)
        assert raw.get("text") == "abc"
        assert proxy.connections == 1


@needs_pylibmc
def test_pylibmcs_other_behaviors_are_kept(memcached):
    wanted = {"tcp_nodelay": 1, "ketama": 1, "connect_timeout": 150, "remove_failed": 3}
    with configured(PYLIBMC, memcached.location, behaviors=wanted):
        kept = dict(_own()._cache.get_behaviors())
        theirs = dict(_bare()._cache.get_behaviors())

        assert {name: kept[name] for name in ("tcp_nodelay", "ketama", "connect_timeout")} == {
            "tcp_nodelay": 1,
            "ketama": 1,
            "connect_timeout": 150,
        }
        assert kept["auto_eject"] == 0
        assert theirs["remove_failed"] == 3, "the bare alias stays as it was"


@needs_pymemcache
def test_the_bare_pymemcache_stays_as_it_was(memcached):
    with configured(PYMEMCACHE, memcached.location, retry_attempts=7):
        private_instance("default")

        assert _bare()._cache.retry_attempts == 7


# pymemcache takes what it cannot read for None


@needs_pymemcache
@pytest.mark.parametrize("compressed", [False, True])
def test_an_entry_that_cannot_be_read_back_is_no_cached_none(compressed, memcached):
    from pymemcache import serde

    name = "compressed_serde" if compressed else "pickle_serde"
    if not hasattr(serde, name):
        pytest.skip(f"no {name} in this version")
    kind = getattr(serde, name)
    with configured(PYMEMCACHE, memcached.location, serde=kind):
        raw, bare = private_instance("default"), caches["default"]
        for value in (None, "text", b"bytes", 7, ["x" * 1000]):
            bare.set("key", value)
            assert raw.get("key", "default") == value
            raw.set("key", value)
            assert bare.get("key", "default") == value
        _bare()._cache.set(":1:key", b"cno.such.module\nThing\n.", flags=serde.FLAG_PICKLE)

        assert bare.get("key", "default") is None
        with pytest.raises(pickle.UnpicklingError, match="No module named"):
            raw.get("key", "default")
        raw.close()


@needs_pymemcache
def test_a_serde_of_ones_own_is_left_alone(memcached):
    class Serde:
        def serialize(self, key, value):
            return b"same", 1

        def deserialize(self, key, value, flags):
            return None

    with configured(PYMEMCACHE, memcached.location, serde=Serde()):
        raw = private_instance("default")
        raw.set("key", 1)
        assert raw.get("key", "default") is None
        raw.close()


# Without a limit


def without_limit(backend, location):
    return override_settings(
        CACHES={
            "default": chain("layer"),
            "layer": {
                "BACKEND": backend,
                "LOCATION": location,
                "RESILIENCE": {"OPERATION_TIMEOUT": None},
            },
        }
    )


@every_client
def test_without_a_limit_it_is_an_instance_of_our_own_too(backend, own_memcached):
    with without_limit(backend, own_memcached.location):
        limit = make_limit(conf.layer_config("layer"))
        assert isinstance(limit, OwnDirectLimit)
        limit.call(FunctionCall(lambda raw: raw.set("key", 1)), None, trial=False)
        raws = [limit.call(FunctionCall(lambda raw: raw), None, trial=False) for _ in range(2)]
        assert raws[0] is raws[1]
        assert raws[0] is not caches["layer"]
        own_memcached.kill()
        assert all_fail(raws[0]) == unnoticed(backend, "get")
        limit.close()


@pytest.mark.parametrize("backend", [MEMORY, DATABASE])
def test_other_backends_without_a_limit_are_called_in_place(backend):
    with without_limit(backend, "place"):
        assert make_limit(conf.layer_config("layer")).strategy == "direct"


@every_client
@pytest.mark.parametrize("make", [OwnDirectLimit, lambda alias: ThreadLimit(alias, 4)])
def test_a_forked_child_leaves_its_parents_connection_alone(backend, make, memcached):
    with services.Proxy(memcached.address) as proxy, configured(backend, proxy.location):
        limit = make("default")

        def call(operation):
            return limit.call(FunctionCall(operation), None, trial=False)

        call(lambda raw: raw.set("key", "value"))
        child = os.fork()
        if not child:
            code = 1
            try:
                code = 0 if call(lambda raw: raw.get("key")) == "value" else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)

        assert os.waitstatus_to_exitcode(status) == 0
        assert call(lambda raw: raw.get("key")) == "value"
        assert proxy.connections == 2
        limit.close()


# Clients that nobody knows


def test_clients_that_are_not_known():
    entry = {"LOCATION": "cache:11211"}
    own = {"BACKEND": "tests.entries.OwnMemcachedCache", **entry}
    foreign = {"BACKEND": f"{__name__}.ForeignPyMemcacheCache", **entry}
    known = {"BACKEND": PYMEMCACHE, **entry}
    memory = {"BACKEND": MEMORY}
    entries = {"default": memory, "own": own, "foreign": foreign, "known": known}
    pytest.importorskip("pymemcache")
    with override_settings(CACHES=entries):
        found = {alias: strange_client(conf.layer_config(alias)) for alias in entries}

        assert found == {
            "default": None,
            "known": None,
            "own": "tests.entries.OwnMemcachedLibrary.Client",
            "foreign": f"{__name__}.ForeignClient",
        }
        for alias in ("own", "foreign"):
            assert _own(alias)._options == _bare(alias)._options


class ForeignClient(OwnMemcachedLibrary.Client):
    """Has nothing of pymemcache's."""


class ForeignPyMemcacheCache(PyMemcacheCache):
    def __init__(self, server, params):
        super().__init__(server, params)
        self._class = ForeignClient
