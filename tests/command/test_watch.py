"""`--watch`: appended where it is kept, in place where it is looked at."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from django.core.management.base import OutputWrapper

from django_resilient_cache.fleet.console.control import BoardUnavailable
from django_resilient_cache.management.commands import breakers
from django_resilient_cache.management.terminal import fitting, moves_cursor, watch
from tests.command.conftest import Run
from tests.command.frozen_fleet import FakeControl, broken, fleet, view, workers

if TYPE_CHECKING:
    from collections.abc import Callable

    Shown = Callable[..., FakeControl]


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Three looks, then Ctrl-C; how long was slept between them."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    return slept


class Screen(StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_looks_are_appended_and_ctrl_c_is_no_failure(shown: Shown, pauses: list[float]):
    shown(fleet(*workers(view())))
    once = Run().out
    run = Run("--watch")
    assert (run.code, run.out) == (0, f"{once}\n" * 3)
    assert all(0.5 < pause <= 1.0 for pause in pauses)


def test_json_is_one_object_per_line(shown: Shown):
    shown(fleet(*workers(broken())))
    lines = Run("--watch", "--format", "json").out.splitlines()
    assert len(lines) == 3
    assert all(json.loads(line)["layers"]["redis"]["state"] == "open" for line in lines)


def test_each_worker_can_be_watched(shown: Shown):
    shown(fleet(*workers(view())))
    assert Run("--watch", verbosity=2).out.count("web1/4711 (gunicorn)") == 3


def test_nobody_there_yet_is_watched_for(shown: Shown):
    shown(fleet())
    run = Run("--watch")
    assert (run.code, run.out.count("No live worker")) == (0, 3)


class Flaky(FakeControl):
    """A board that does not answer the second look."""

    def fleet(self):
        self.asked += 1
        if self.asked == 2:
            raise BoardUnavailable("The board is away.")
        return self.seen


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_board_that_goes_away_meanwhile_is_waited_for(monkeypatch: pytest.MonkeyPatch, form: str):
    monkeypatch.setattr(breakers, "Control", lambda: Flaky(fleet(*workers(view()))))
    run = Run("--watch", "--format", form)
    assert run.code == 0
    assert run.out.count("The board is away.") == 1
    if form == "json":
        assert [json.loads(line)["ok"] for line in run.out.splitlines()] == [True, False, True]
    else:
        assert "03:06:20 CET: The board is away.\n" in run.out


def test_an_unknown_alias_ends_it_at_once(shown: Shown):
    shown(fleet(*workers(view())))
    assert Run("redsi", "--watch").code == 2


def test_a_terminal_is_redrawn_in_place():
    screen = Screen()
    watch(lambda: ["one", "two"], OutputWrapper(screen), redraw=True, gap=True)
    frame = "\x1b[Hone\x1b[K\ntwo\x1b[K\n\x1b[J"
    assert screen.getvalue() == f"\x1b[2J{frame}{frame}{frame}\n"


def test_a_terminal_that_cannot_move_its_cursor_is_appended_to(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    assert moves_cursor(Screen())
    assert not moves_cursor(StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not moves_cursor(Screen())


@pytest.mark.parametrize("height", [1, 2, 3, 10])
def test_what_does_not_fit_on_the_screen_is_counted(height: int):
    lines = [str(number) for number in range(20)]
    shown = fitting(lines, height)
    assert len(shown) < max(height, 2)
    assert shown[-1].startswith(f"... {20 - len(shown) + 1} more lines")
    assert fitting(lines, 21) == lines
