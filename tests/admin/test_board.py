"""The page on a real board: it reads, on one client, and gives what it is told to give."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from django_resilient_cache.admin import fleet_client
from django_resilient_cache.fleet.board.order import Action
from django_resilient_cache.fleet.console.control import BoardUnavailable, SharingOff
from tests.admin.conftest import CHAIN, PAGE

if TYPE_CHECKING:
    from pathlib import Path

    from django.test import Client

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
FILES = "django.core.cache.backends.filebased.FileBasedCache"


@pytest.fixture(autouse=True)
def _chain(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("django_resilient_cache.admin.fleet_client.SETTLING_SECONDS", 0.0)
    settings.CACHES = {
        "default": {"BACKEND": CHAIN, "LOCATION": ["redis"]},
        "redis": {"BACKEND": FILES, "LOCATION": str(tmp_path / "redis")},
    }


def records(tmp_path: Path) -> dict[str, bytes]:
    """Everything that is on the board in the private directory."""
    return {file.name: file.read_bytes() for file in tmp_path.glob("resilient-cache-*/*")}


@pytest.mark.django_db
def test_looking_writes_nothing(viewer: Client, tmp_path: Path):
    viewer.get(PAGE)
    assert records(tmp_path) == {}


@pytest.mark.django_db
def test_an_order_that_the_board_has_lost_is_not_given_again_by_looking(
    operator: Client, tmp_path: Path
):
    """Else a tab that was left open would give an order that is over for another hour."""
    data = {"order": "force-open", "alias": "redis", "seconds": "300"}
    address = operator.post(f"{PAGE}order/", data)["Location"]
    written = records(tmp_path)
    assert len(written) == 1
    page = operator.get(address).content.decode()
    assert "no worker is there to apply it" in page
    assert "by admin ada, until" in page
    assert records(tmp_path) == written
    for file in tmp_path.glob("resilient-cache-*/*"):
        file.unlink()
    operator.get(address)
    assert records(tmp_path) == {}


def test_an_order_that_was_lost_while_it_is_given_is_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    giver = fleet_client.control()
    orders = giver.give(["redis"], Action.RESET, actor="admin ada")
    written = records(tmp_path)
    for file in tmp_path.glob("resilient-cache-*/*"):
        file.unlink()
    fleet_client.settle(giver, orders)
    assert records(tmp_path).keys() == written.keys()


def test_settling_survives_a_board_that_goes_away(monkeypatch: pytest.MonkeyPatch):
    giver = fleet_client.control()

    def away(*args: Any) -> Any:
        raise BoardUnavailable("gone")

    monkeypatch.setattr(giver, "progress", away)
    fleet_client.settle(giver, [])


def test_looks_share_one_client_and_no_deadline():
    one, other = fleet_client.control(), fleet_client.control()
    assert one._board is not other._board
    assert one._board._store is other._board._store
    one._board.allow(100.0)
    assert other._board._until == 0.0


def test_another_configuration_is_another_client(settings: Any, tmp_path: Path):
    before = fleet_client.control()._board._store
    settings.CACHES = {**settings.CACHES, "board": {"BACKEND": FILES, "LOCATION": str(tmp_path)}}
    settings.RESILIENT_CACHE_CONTROL_ALIAS = "board"
    assert fleet_client.control()._board._store is not before
    assert fleet_client.control().board == 'CACHES["board"]'


def test_no_sharing(settings: Any):
    settings.RESILIENT_CACHE_CONTROL_ALIAS = None
    with pytest.raises(SharingOff):
        fleet_client.control()
