"""The private directory is this user's own or is not used; an alias is called under a limit."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from typing import Any

import pytest
from django.core.cache import BaseCache, caches

from django_resilient_cache import conf
from django_resilient_cache.fleet.board import stores
from django_resilient_cache.fleet.board.board import Board, BoardUnavailable
from django_resilient_cache.fleet.board.order import Action, Order
from django_resilient_cache.fleet.board.stores import open_board, others_in_use, private_path
from django_resilient_cache.fleet.console.control import Control, SharingOff
from tests.entries import FILE, layer


def config() -> conf.ControlConfig:
    found = conf.control_config(2.0)
    assert found is not None
    return found


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A directory for temporary files of this test's own, open to everybody as usual."""
    tmp_path.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stores._stores.clear()
    yield tmp_path
    stores._stores.clear()


def a_board() -> Board:
    board = open_board(config())
    board.allow(5)
    return board


class TestDirectory:
    def test_it_is_made_for_this_user_alone(self, temporary):
        board = a_board()
        assert list(temporary.iterdir()) == []
        board.set("name", "text", 10)
        (made,) = temporary.iterdir()
        assert made.stat().st_mode & 0o777 == 0o700
        assert board.get("name") == "text"
        board.delete("name")
        assert board.get("name") is None

    def test_it_is_named_after_user_and_settings(self, temporary):
        (name,) = [private_path(config()).name]
        assert name.startswith(f"resilient-cache-{os.geteuid()}-tests.settings-")
        assert private_path(config()).parent == temporary

    def test_another_project_or_settings_module_has_another(self):
        paths = {
            private_path(each)
            for each in (
                config(),
                replace(config(), path="/srv/elsewhere"),
                replace(config(), settings_module="tests.other"),
                replace(config(), settings_module="", path="/srv\udce9"),
                replace(config(), settings_module="x" * 500),
            )
        }
        assert len(paths) == 5
        assert all(len(path.name) < 120 for path in paths)

    def test_the_board_says_where_and_as_whom(self, temporary):
        title = a_board().title
        assert str(private_path(config())) in title
        assert title.endswith(")")
        assert "(as " in title

    def test_those_of_others_are_found_while_they_are_in_use(self, temporary):
        mine = private_path(config())
        same = mine.with_name(f"resilient-cache-33-shop.settings-{mine.name[-12:]}")
        other = temporary / "resilient-cache-32-shop.settings-0a422f14786c"
        idle = temporary / "resilient-cache-33-shop.settings-of-yesterday"
        for path in (mine, same, other, idle):
            path.mkdir()
        os.utime(idle, (0, time.time() - 3600))
        (temporary / "resilient-cache-file").touch()
        (temporary / "resilient-cache-link").symlink_to(other)
        first, second = others_in_use(config())
        assert first.startswith(f"{same} (of ")
        assert second.startswith(f"{other} (of ")

    def refused(self, match: str) -> None:
        for use in (
            lambda: a_board().get("name"),
            lambda: a_board().set("name", "text", 10),
            lambda: a_board().delete("name"),
        ):
            with pytest.raises(BoardUnavailable, match=match) as caught:
                use()
            assert "RESILIENT_CACHE_CONTROL_ALIAS" in str(caught.value)

    def test_a_link_is_refused(self, temporary, tmp_path_factory):
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        elsewhere.chmod(0o700)
        private_path(config()).symlink_to(elsewhere)
        self.refused("is a link")
        assert list(elsewhere.iterdir()) == []

    def test_a_file_is_refused(self, temporary):
        private_path(config()).write_text("")
        self.refused("is no directory")

    @pytest.mark.parametrize("mode", [0o770, 0o707, 0o755])
    def test_one_that_is_open_to_others_is_refused(self, temporary, mode):
        private_path(config()).mkdir()
        private_path(config()).chmod(mode)
        self.refused(f"is open to other users .mode {mode:o}")

    def test_one_of_another_user_is_refused(self, temporary, monkeypatch):
        a_board().set("name", "text", 10)
        real = os.geteuid()
        monkeypatch.setattr(stores, "_user_id", lambda: str(real))
        monkeypatch.setattr(os, "geteuid", lambda: real + 1)
        self.refused(f"belongs to another user .id {real}")

    def test_one_that_is_changed_later_is_refused_from_then_on(self, temporary):
        board = a_board()
        board.set("name", "text", 10)
        private_path(config()).chmod(0o777)
        with pytest.raises(BoardUnavailable, match="open to other users"):
            board.get("name")

    def test_one_that_was_removed_is_made_again(self, temporary):
        board = a_board()
        board.set("name", "text", 10)
        for file in private_path(config()).iterdir():
            file.unlink()
        private_path(config()).rmdir()
        assert board.get("name") is None
        board.set("name", "text", 10)
        assert board.get("name") == "text"

    def test_one_that_cannot_be_made_is_told_of(self, temporary, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(temporary / "nowhere"))
        with pytest.raises(BoardUnavailable, match="No such file or directory"):
            a_board().get("name")

    def test_what_cannot_be_read_is_not_there(self, temporary):
        board = a_board()
        board.set("name", "text", 10)
        board.set("other", "text", 10)
        files = list(private_path(config()).iterdir())
        files[0].write_bytes(b"rubbish")
        assert len(board.get_many(["name", "other"])) == 1

    def test_nothing_but_what_has_expired_is_dropped_to_make_room(self, temporary, monkeypatch):
        monkeypatch.setattr(stores._Files, "_many", 10)
        board = a_board()
        board.allow(60)
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() - 10_000)
        for n in range(10):
            board.set(f"old{n}", "text", 10)
        monkeypatch.undo()
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        monkeypatch.setattr(stores._Files, "_many", 10)
        for n in range(320):  # more than a cache in files keeps
            board.set(f"new{n}", "text", None)
        assert len(board.get_many([f"new{n}" for n in range(320)])) == 320
        assert len(list(private_path(config()).iterdir())) == 320


def test_a_board_on_an_alias(settings, tmp_path):
    settings.CACHES = settings.CACHES | {"board": layer(FILE, LOCATION=str(tmp_path))}
    settings.RESILIENT_CACHE_CONTROL_ALIAS = "board"
    board = a_board()
    assert board.title == 'CACHES["board"]'
    board.set("name", "text", 10)
    assert a_board().get("name") == "text"
    caches["board"].clear()
    assert board.get("name") is None


def test_stores_are_shared_so_that_each_look_does_not_cost_a_connection(settings, tmp_path):
    settings.CACHES = settings.CACHES | {"board": layer(FILE, LOCATION=str(tmp_path))}
    settings.RESILIENT_CACHE_CONTROL_ALIAS = "board"
    assert a_board()._store is a_board()._store
    before = a_board()._store
    settings.CACHES = dict(settings.CACHES)
    assert a_board()._store is not before


class HungCache(BaseCache):
    """A cache that takes its time."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def get_many(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        time.sleep(2.0)
        return {}


def test_a_board_that_hangs_is_given_up(settings):
    settings.CACHES = settings.CACHES | {"board": layer("tests.fleet.test_stores.HungCache")}
    settings.RESILIENT_CACHE_CONTROL_ALIAS = "board"
    board = open_board(config())
    board.allow(0.2)
    began = time.monotonic()
    with pytest.raises(BoardUnavailable, match=r"no answer within 0\.(2|1\d) s"):
        board.get("name")
    assert time.monotonic() - began < 1.0
    with pytest.raises(BoardUnavailable, match="too slow"):
        board.get("name")


def test_without_sharing_there_is_nothing_to_look_at(settings):
    settings.RESILIENT_CACHE_CONTROL_ALIAS = None
    with pytest.raises(SharingOff, match="RESILIENT_CACHE_CONTROL_ALIAS is None"):
        Control()


def test_the_project_tells_boards_apart(settings):
    first = config().project
    settings.SECRET_KEY = "another"
    assert config().project != first


def standing() -> dict[str, Order]:
    return {alias: each.order for alias, each in Control().fleet().standing.items()}


def test_an_empty_fleet_is_empty(temporary):
    control = Control()
    fleet = control.fleet()
    assert fleet.workers == ()
    assert fleet.board == control.board == a_board().title
    (order,) = control.give(["redis"], Action.FORCE_OPEN, actor="ada", reason="x", seconds=9)
    assert standing() == {"redis": order}
    with pytest.raises(ValueError, match='"memory" is no layer of any chain'):
        control.give(["other", "memory"], Action.RESET, actor="ada")
    assert standing() == {"redis": order}
    for seconds in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="seconds must be"):
            control.give(["redis"], Action.FORCE_OPEN, actor="ada", seconds=seconds)
