"""No user name, password or token of a LOCATION is ever shown."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

from django_resilient_cache.conf.masking import masked, masked_in_prose, shown_location
from tests.admin.conftest import PAGE
from tests.admin.fleets import broken, fleet, worker

if TYPE_CHECKING:
    from django.test import Client

    from tests.admin.fleets import FakeControl

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"

ADDRESSES = {
    "redis://host:6379/0": "redis://host:6379/0",
    "redis://:s3cret@host:6379/0": "redis://:***@host:6379/0",
    "redis://ada:s3cret@host:6379/0": "redis://***@host:6379/0",
    "redis://s3cret@host": "redis://***@host",
    "rediss://:s3c@ret/wi:th#all@host:6379/1": "rediss://:***@host:6379/1",
    "redis://:s3%63ret@[2001:db8::1]:6379/0": "redis://:***@[2001:db8::1]:6379/0",
    "redis://:s3c?ret@host:6379/0": "redis://***",
    "redis://host/0?password=s3cret": "redis://host/0?password=***",
    "redis://host/0?db=1&password=s3cret&timeout=0.5": "redis://host/0?db=1&password=***&timeout=0.5",
    "redis://host/0?password=s3c@ret": "redis://***",
    "redis://host/0?db=s3cret": "redis://host/0?db=***",
    "redis://host/0?s3cret": "redis://host/0?***",
    "redis://host/0#s3cret": "redis://host/0?***",
    "redis://host/0?db=1#s3cret": "redis://host/0?db=1&***",
    "redis://:s3cret": "redis://***",
    "redis://ada:s3cret": "redis://***",
    "redis://:s3cret@one,redis://:s3cret@two": "redis://:***@one,redis://:***@two",
    "redis://:s3,cret@one; rediss://:s3;cret@two": "redis://:***@one; rediss://:***@two",
    "redis+sentinel://:s3cret@one:1,two:2/name": "redis+sentinel://***",
    "unix:///run/redis.sock?db=0&password=s3cret": "unix:///run/redis.sock?db=0&password=***",
    "unix://:s3cret@/run/redis.sock?db=0": "unix://:***@/run/redis.sock?db=0",
    "unix:/run/memcached.sock": "unix:/run/memcached.sock",
    "/run/redis.sock?password=s3cret": "/run/redis.sock?password=***",
    "/var/cache/user@host/x": "/var/cache/user@host/x",
    "127.0.0.1:11211;10.0.0.1:11211": "127.0.0.1:11211;10.0.0.1:11211",
    "ada:s3cret@127.0.0.1:11211": "***@127.0.0.1:11211",
    "cache_table": "cache_table",
    "": "",
}


@pytest.mark.parametrize(("address", "shown"), ADDRESSES.items())
def test_an_address(address: str, shown: str):
    assert masked(address) == shown
    assert "s3c" not in shown


def test_a_very_long_address_is_cut_after_it_was_masked():
    shown = masked("redis://:" + "s3cret" * 100 + "@" + "h" * 500)
    assert len(shown) == 200
    assert "s3cret" not in shown


def test_addresses_in_a_message():
    message = "Error 111 connecting to redis://:s3cret@host:6379/0?password=s3cret: refused (x@y)"
    assert masked_in_prose(
        message
    ) == "Error 111 connecting to redis://***@host:6379/0?password=***: refused (x@y)".replace(
        "://***@", "://:***@"
    ).replace("***: refused", "*** refused")


class Secretive:
    def __str__(self) -> str:
        raise AssertionError("nobody asked it to speak")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("location", "lines"),
    [
        (["redis://:s3cret@one", "redis://two"], ["redis://:***@one", "redis://two"]),
        (("redis://:s3cret@one", "redis://two"), ["redis://:***@one", "redis://two"]),
        ([("sentinel", 26379), ("s3cret@other", 26379)], ["sentinel:26379", "***@other:26379"]),
        (PurePosixPath("/var/cache"), ["/var/cache"]),
        ({"host": "h", "password": "s3cret"}, ["(dict)"]),
        ([{"host": "h", "password": "s3cret"}], ["(dict)"]),
        (b"redis://:s3cret@one", ["(bytes)"]),
        (Secretive(), ["(Secretive)"]),
        (lambda: "s3cret", ["(function)"]),
        (None, []),
        ("", []),
        ([], []),
    ],
)
def test_whatever_a_location_is(settings: Any, location: Any, lines: list[str]):
    settings.CACHES = {"default": {"BACKEND": LOCMEM}}
    settings.CACHES["odd"] = {"BACKEND": LOCMEM, "LOCATION": location}
    assert shown_location("odd") == lines


def test_an_alias_that_is_not_configured_has_none():
    assert shown_location("nobody") == []


@pytest.mark.django_db
def test_the_page_shows_no_credentials_anywhere(operator: Client, control: FakeControl):
    error = "ConnectionError: cannot reach redis://:s3cret@cache.internal:6379/0"
    control.seen = fleet(worker(redis=broken(last_error=error)))
    for path in ("", "?fragment=1", "confirm/?order=reset&alias=redis"):
        page = operator.get(PAGE + path).content.decode()
        assert "s3cret" not in page
        assert "0ther" not in page, "OPTIONS"
    assert "redis://:***@cache.internal:6379/0" in operator.get(PAGE).content.decode()
