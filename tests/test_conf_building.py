"""Clients that cannot be made are found before the first call, and nothing is connected to."""

from __future__ import annotations

import copy
import socket
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import BaseCache, caches
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_resilient_cache import conf
from django_resilient_cache.conf import client_check
from tests.entries import (
    DATABASE,
    DJANGO_REDIS,
    DJANGO_VALKEY,
    DUMMY,
    FILE,
    MEMORY,
    PYLIBMC,
    PYMEMCACHE,
    REDIS,
    VALKEY_CLUSTER,
    chain,
    layer,
    layer_refusal,
)

ID = "(resilient_cache.E032)"
CORRECT = "Correct it, or leave it out."
REDIS_EXAMPLE = 'Write for example "redis://cache:6379/0".'


def needs(backend: str) -> None:
    names = {PYMEMCACHE: "pymemcache", PYLIBMC: "pylibmc", REDIS: "redis"}
    pytest.importorskip(names.get(backend, backend.partition(".")[0]))


@pytest.fixture(autouse=True)
def _no_connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever looks up a name or connects here has failed."""
    tried = []

    def connect(*args: Any, **kwargs: Any) -> None:
        tried.append(args)
        raise AssertionError(f"it connects: {args}")

    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket.socket, "connect", connect)
    yield
    assert not tried


SCHEMES = (
    'ValueError "Redis URL must specify one of the following schemes '
    '(redis://, rediss://, unix://)"'
)


@pytest.mark.parametrize("backend", [REDIS, DJANGO_REDIS])
@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("cache:6379/0", "cache:6379/0"),
        ("user:secret@cache:6379/0", "***@cache:6379/0"),
        ("http://user:secret@cache:6379/0", "http://***@cache:6379/0"),
    ],
)
def test_an_address_without_its_scheme(backend: str, location: str, shown: str) -> None:
    needs(backend)
    assert layer_refusal(it=layer(backend, LOCATION=location)) == (
        f'CACHES["it"]["LOCATION"] is "{shown}", with which no client can be made: {SCHEMES}. '
        f"{REDIS_EXAMPLE} {ID}"
    )


def test_one_address_of_several() -> None:
    servers = ["redis://one:6379/0", "redis://two:6379/0", "three:6379/0"]
    needs(DJANGO_REDIS)
    refusal = layer_refusal(it=layer(DJANGO_REDIS, LOCATION=servers))
    assert refusal.startswith('CACHES["it"]["LOCATION"][2] is "three:6379/0", with which no')


def test_a_password_that_an_error_repeats_is_not_shown() -> None:
    """The part before the slash is taken for a port, and the error says which."""
    needs(REDIS)
    refusal = layer_refusal(it=layer(REDIS, LOCATION="redis://:topsecret/rest@cache:6379/0"))
    assert "secret" not in refusal
    assert refusal.startswith('CACHES["it"]["LOCATION"] is "redis://:***@cache:6379/0"')


@pytest.mark.parametrize(
    ("backend", "entry", "path", "value", "error"),
    [
        (
            DJANGO_REDIS,
            {"OPTIONS": {"CONNECTION_POOL_KWARGS": {"max_connections": 5, "sockt_timeout": 1}}},
            '["OPTIONS"]["CONNECTION_POOL_KWARGS"]["sockt_timeout"]',
            "1 (int)",
            "unexpected keyword argument 'sockt_timeout'",
        ),
        (
            DJANGO_REDIS,
            {"OPTIONS": {"SERIALIZER": "no.such.Serializer"}},
            '["OPTIONS"]["SERIALIZER"]',
            '"no.such.Serializer" (str)',
            "No module named 'no'",
        ),
        (
            DJANGO_REDIS,
            {"OPTIONS": {"PARSER_CLASS": "redis.connection.NoSuchParser"}},
            '["OPTIONS"]["PARSER_CLASS"]',
            '"redis.connection.NoSuchParser" (str)',
            "NoSuchParser",
        ),
        (
            DJANGO_REDIS,
            {"OPTIONS": {"CLIENT_CLASS": "django_redis.client.NoSuchClient"}},
            '["OPTIONS"]["CLIENT_CLASS"]',
            '"django_redis.client.NoSuchClient" (str)',
            "NoSuchClient",
        ),
        (
            DJANGO_REDIS,
            {"OPTIONS": {"REDIS_CLIENT_KWARGS": {"no_such": True}}},
            '["OPTIONS"]["REDIS_CLIENT_KWARGS"]["no_such"]',
            "True (bool)",
            "unexpected keyword argument 'no_such'",
        ),
        (
            DJANGO_REDIS,
            {"OPTIONS": {"SOCKET_TIMEOUT": "0.5"}},
            '["OPTIONS"]["SOCKET_TIMEOUT"]',
            '"0.5" (str)',
            "Socket timeout should be float or integer",
        ),
        (
            DJANGO_VALKEY,
            {"OPTIONS": {"SERIALIZER": "no.such.Serializer"}},
            '["OPTIONS"]["SERIALIZER"]',
            '"no.such.Serializer" (str)',
            "No module named 'no'",
        ),
        (
            DJANGO_VALKEY,
            {"OPTIONS": {"CONNECTION_POOL_KWARGS": {"sockt_timeout": 1}}},
            '["OPTIONS"]["CONNECTION_POOL_KWARGS"]["sockt_timeout"]',
            "1 (int)",
            "unexpected keyword argument 'sockt_timeout'",
        ),
        (
            REDIS,
            {"OPTIONS": {"sockt_timeout": 1, "db": 1}},
            '["OPTIONS"]["sockt_timeout"]',
            "1 (int)",
            "unexpected keyword argument 'sockt_timeout'",
        ),
        (
            REDIS,
            {"OPTIONS": {"pool_class": "no.such.Pool"}},
            '["OPTIONS"]["pool_class"]',
            '"no.such.Pool" (str)',
            "No module named 'no'",
        ),
        (
            REDIS,
            {"OPTIONS": {"pasword": "topsecret"}},
            '["OPTIONS"]["pasword"]',
            "***",
            "unexpected keyword argument 'pasword'",
        ),
        (
            REDIS,
            {"KEY_FUNCTION": "no.such.function"},
            '["KEY_FUNCTION"]',
            '"no.such.function" (str)',
            "No module named",
        ),
        (
            PYMEMCACHE,
            {"OPTIONS": {"no_such": 1}},
            '["OPTIONS"]["no_such"]',
            "1 (int)",
            "unexpected keyword argument 'no_such'",
        ),
        (
            PYMEMCACHE,
            {"OPTIONS": {"use_pooling": True, "socket_keepalive": 3}},
            '["OPTIONS"]["socket_keepalive"]',
            "3 (int)",
            "Unsupported keepalive options",
        ),
        (
            PYLIBMC,
            {"OPTIONS": {"behaviors": {"ketama": 1, "no_such": 1}}},
            '["OPTIONS"]["behaviors"]["no_such"]',
            "1 (int)",
            "unknown behavior names: no_such",
        ),
    ],
)
def test_an_option_that_no_client_can_be_made_with(
    backend: str, entry: dict[str, Any], path: str, value: str, error: str
) -> None:
    needs(backend)
    refusal = layer_refusal(it=layer(backend, **entry))
    assert refusal.startswith(f'CACHES["it"]{path} is {value}, with which no client can be made: ')
    assert error in refusal
    assert refusal.endswith(f"{CORRECT} {ID}")
    assert "topsecret" not in refusal


@pytest.mark.parametrize(
    ("backend", "location", "example"),
    [
        (PYMEMCACHE, "cache:port", "cache:11211"),
        (PYMEMCACHE, ["one:11211", 3], "cache:11211"),
        (DJANGO_REDIS, "", "redis://cache:6379/0"),
        (REDIS, "redis://cache:6379/0?sockt_timeout=1", "redis://cache:6379/0"),
        (DJANGO_VALKEY, "cache:6379", "valkey://cache:6379/0"),
    ],
)
def test_an_address_that_no_client_can_be_made_with(
    backend: str, location: Any, example: str
) -> None:
    needs(backend)
    refusal = layer_refusal(it=layer(backend, LOCATION=location))
    assert refusal.startswith('CACHES["it"]["LOCATION"]')
    assert refusal.endswith(f'Write for example "{example}". {ID}')


class Broken(BaseCache):
    def __init__(self, location: Any, params: dict[str, Any]) -> None:
        raise RuntimeError("on purpose")


def test_where_nobody_knows_the_setting_it_is_the_alias() -> None:
    assert layer_refusal(it=layer(f"{__name__}.Broken")) == (
        'CACHES["it"] is an alias for which no client can be made: RuntimeError "on purpose". '
        f"Correct what the error names. {ID}"
    )


def test_one_mistake_is_told_once() -> None:
    """What another message explains is not told again as what the client says of it."""
    refusal = layer_refusal(it=layer(REDIS, OPTIONS={"MAX_FAILURES": 3}))
    assert "E022" in refusal
    assert "E032" not in refusal


SENTINEL = {
    "CLIENT_CLASS": "django_redis.client.SentinelClient",
    "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
    "SENTINELS": [("sentinel", 26379)],
}


@pytest.mark.parametrize(
    ("backend", "entry"),
    [
        (DJANGO_REDIS, {}),
        (DJANGO_REDIS, {"LOCATION": ["redis://one:6379/0", "rediss://two:6379/0?db=2"]}),
        (DJANGO_REDIS, {"LOCATION": "redis://one:6379/0,redis://two:6379/0"}),
        (DJANGO_REDIS, {"LOCATION": "unix:///no/such/socket?db=1"}),
        (DJANGO_REDIS, {"LOCATION": "redis://service/0", "OPTIONS": SENTINEL}),
        (DJANGO_REDIS, {"OPTIONS": {"CLIENT_CLASS": "django_redis.client.ShardClient"}}),
        (DJANGO_REDIS, {"OPTIONS": {"CLIENT_CLASS": "django_redis.client.HerdClient"}}),
        (DJANGO_REDIS, {"OPTIONS": {"REDIS_CLIENT_CLASS": "redis.cluster.RedisCluster"}}),
        (DJANGO_REDIS, {"OPTIONS": {"CONNECTION_POOL_CLASS": "redis.BlockingConnectionPool"}}),
        (DJANGO_REDIS, {"OPTIONS": {"PASSWORD": "x", "COMPRESSOR": None}}),
        (DJANGO_VALKEY, {"LOCATION": "valkey://cache:6379/0"}),
        (VALKEY_CLUSTER, {"LOCATION": "valkey://cache:6379/0"}),
        (REDIS, {}),
        (REDIS, {"LOCATION": ["redis://one:6379/0", "redis://two:6379/0"]}),
        (REDIS, {"OPTIONS": {"db": 3, "health_check_interval": 30, "socket_timeout": 1}}),
        (PYMEMCACHE, {"LOCATION": ["one:11211", "two"]}),
        (PYMEMCACHE, {"LOCATION": "unix:/no/such/socket"}),
        (PYMEMCACHE, {"OPTIONS": {"use_pooling": True, "max_pool_size": 4, "no_delay": True}}),
        (PYLIBMC, {"LOCATION": "one:11211;two:11211", "OPTIONS": {"binary": True}}),
        (DATABASE, {"LOCATION": "table"}),
        (FILE, {"LOCATION": "/no/such/directory"}),
        (MEMORY, {"OPTIONS": {"MAX_ENTRIES": 10}}),
        (DUMMY, {}),
    ],
)
def test_what_can_be_made(backend: str, entry: dict[str, Any]) -> None:
    needs(backend)
    if entry.get("OPTIONS", {}).get("COMPRESSOR", "") is None:
        del entry["OPTIONS"]["COMPRESSOR"]
    settings = {"default": layer(backend, **entry)}
    before = copy.deepcopy(settings)
    with override_settings(CACHES=settings):
        assert conf.layer_problems("default") == []
    assert settings == before, "nothing is written into the settings"


def test_it_leaves_no_pool_to_other_aliases() -> None:
    """django-redis would serve the pool that was first made for an address."""
    pool = pytest.importorskip("django_redis.pool")
    before = dict(pool.ConnectionFactory._pools)
    with override_settings(CACHES={"default": layer(DJANGO_REDIS, LOCATION="redis://new:6379/5")}):
        assert conf.layer_problems("default") == []

    assert pool.ConnectionFactory._pools == before


class Warns(BaseCache):
    def __init__(self, location: Any, params: dict[str, Any]) -> None:
        super().__init__(params)
        warnings.warn("an old option", DeprecationWarning, stacklevel=2)


def test_a_warning_that_is_made_an_error_is_nobodys_mistake() -> None:
    with override_settings(CACHES={"default": layer(f"{__name__}.Warns")}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert conf.layer_problems("default") == []


def test_it_is_raised_at_first_use_and_never_looked_for_again_where_all_is_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    monkeypatch.setitem(client_check._MAKE, "local_memory", made.append)
    entries = {"default": chain("memory"), "memory": layer(MEMORY), "bad": chain("redis")}
    entries["redis"] = layer(REDIS, LOCATION="cache:6379")
    with override_settings(CACHES=entries):
        for number in range(5):
            caches["default"].set("key", number)
            assert caches["default"].get("key") == number
        assert len(made) == 1
        for _ in range(2):
            with pytest.raises(ImproperlyConfigured, match="E032"):
                caches["bad"].get("key")
