"""What `manage.py check` says about where workers meet, and what then happens at run time."""

from __future__ import annotations

import sys
import tempfile
from types import SimpleNamespace
from typing import Any

import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_resilient_cache import conf
from django_resilient_cache.fleet import _board_of_settings
from django_resilient_cache.fleet.board import stores
from django_resilient_cache.fleet.board_checks import check_board
from django_resilient_cache.fleet.console.control import Control
from tests.entries import DATABASE, DUMMY, FILE, MEMORY, PYMEMCACHE, REDIS, chain, layer

CACHES = {
    "default": chain("memory", "redis"),
    "memory": layer(MEMORY, OPTIONS={"MAX_ENTRIES": 1000}),
    "redis": layer(LOCATION="redis://cache:6379/0"),
    "board": layer(LOCATION="redis://cache:6379/1"),
    "local": layer(MEMORY, LOCATION="local"),
    "none": layer(DUMMY),
}
SETTING = "RESILIENT_CACHE_CONTROL_ALIAS"


def found(alias: Any = None, /, **caches: Any) -> list[checks.CheckMessage]:
    with override_settings(CACHES=CACHES | caches, RESILIENT_CACHE_CONTROL_ALIAS=alias):
        messages = checks.run_checks(tags=[checks.Tags.caches])
    return [message for message in messages if str(message.id).startswith("resilient_cache.")]


def only(alias: Any, /, **caches: Any) -> tuple[str, str]:
    (message,) = found(alias, **caches)
    assert isinstance(message, checks.Error if ".E" in str(message.id) else checks.Warning)
    assert message.hint
    return str(message.id).partition(".")[2], message.msg


@pytest.mark.parametrize("alias", [None, "board"])
def test_nothing_to_say(alias):
    assert found(alias) == []


def test_nothing_to_say_of_the_default(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with override_settings(CACHES=CACHES):
        assert checks.run_checks(tags=[checks.Tags.caches]) == []
    assert list(tmp_path.iterdir()) == []  # a look and no more


@pytest.mark.parametrize(
    ("alias", "id_", "said"),
    [
        ("boord", "E040", 'is "boord", which is not in CACHES.'),
        ("", "E040", 'is "", which is not in CACHES.'),
        (7, "E040", "is 7 (int); it takes an alias."),
        (["board"], "E040", "is a list; it takes an alias."),
        (
            "local",
            "E041",
            'is "local", which each process has to itself: no worker would see another.',
        ),
        (
            "none",
            "E041",
            'is "none", which each process has to itself: no worker would see another.',
        ),
        (
            "default",
            "E042",
            'is "default", a chain: what it answers while a layer is away is this process\'s own '
            "view.",
        ),
    ],
)
def test_mistakes(alias, id_, said, caplog):
    assert only(alias) == (id_, f"{SETTING} {said}")
    with override_settings(CACHES=CACHES, RESILIENT_CACHE_CONTROL_ALIAS=alias):
        with pytest.raises(ImproperlyConfigured, match=f"resilient_cache.{id_}"):
            Control()
        assert _board_of_settings() is None
    (record,) = caplog.records
    assert record.getMessage().startswith(f"Workers share nothing: {SETTING}")


def test_a_backend_that_cannot_be_imported():
    """Django's own checks do not get past it."""
    broken = {"broken": layer("no.such.Backend")}
    with override_settings(CACHES=CACHES | broken, RESILIENT_CACHE_CONTROL_ALIAS="broken"):
        (message,) = check_board(None)
    assert message.msg == f'{SETTING} is "broken", whose BACKEND cannot be imported.'


def test_a_misspelt_alias_is_guessed():
    assert [message.hint for message in found("boord")] == ['Did you mean "board"?']


def test_a_board_that_is_a_layer():
    id_, said = only("redis")
    assert id_ == "W007"
    assert said.startswith(f'{SETTING} is "redis", a layer of a chain: clear() empties the board')


@pytest.mark.parametrize(
    ("backend", "layers", "location"),
    [
        (REDIS, "redis://cache:6379/0", "redis://cache:6379/0"),
        (REDIS, "redis://cache:6379/0", ["redis://other:6379/0", "redis://cache:6379/0/"]),
        (PYMEMCACHE, "one:11211,two:11211", ["two:11211"]),
        (DATABASE, "table", "table"),
        (FILE, "{tmp}/site", "{tmp}/site/"),
    ],
)
def test_a_board_in_the_place_of_a_layer(backend, layers, location, tmp_path):
    if backend is FILE:  # a check of Django's makes the directory
        layers, location = (each.format(tmp=tmp_path) for each in (layers, location))
    id_, said = only(
        "board",
        redis=layer(backend, LOCATION=layers),
        board=layer(backend, LOCATION=location),
    )
    assert id_ == "W007"
    assert said.startswith(f'{SETTING} is "board", which has the LOCATION of the layer "redis"')


def test_a_board_with_a_place_of_its_own():
    assert found("board", board=layer(LOCATION="redis://cache:6379/10")) == []
    assert found("board", board=layer(LOCATION="")) == []
    assert (
        found("board", redis=layer(DATABASE, LOCATION="a"), board=layer(DATABASE, LOCATION="b"))
        == []
    )


def test_a_layer_that_is_wrong_hides_nothing():
    messages = found("redis", redis=layer(REDIS, {"MAX_FAILURES": 0}))
    assert {message.id for message in messages} == {"resilient_cache.E024", "resilient_cache.W007"}


def test_a_private_directory_that_cannot_be_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with override_settings(CACHES=CACHES):
        config = conf.control_config(1.0)
        assert config is not None
        path = stores.private_path(config)
        path.mkdir(mode=0o755)
        path.chmod(0o755)
        (message,) = checks.run_checks(tags=[checks.Tags.caches])
    assert message.id == "resilient_cache.E043"
    assert message.msg == (
        f"{SETTING} is not set, and the directory where workers would meet cannot be trusted: "
        f"{path} is open to other users (mode 755)."
    )


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, ["resilient_cache.W009"]),
        ({b"enable-threads": True}, []),
        ({"threads": b"4"}, []),
        (None, []),
    ],
)
def test_uwsgi_without_threads(monkeypatch, options, ids):
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(opt=options))
    assert [message.id for message in found("board")] == ids
