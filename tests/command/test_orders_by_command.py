"""Orders: who is told what, how long one waits, and what is said about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_resilient_cache.fleet.board.order import Action
from django_resilient_cache.fleet.console.control import BoardUnavailable, SharingOff
from django_resilient_cache.fleet.console.view import Standing
from django_resilient_cache.management import order_results
from django_resilient_cache.management.arguments import user
from django_resilient_cache.management.commands import breakers
from tests.command.conftest import Run
from tests.command.frozen_fleet import FakeControl, broken, fleet, order, view, worker, workers

if TYPE_CHECKING:
    from collections.abc import Callable

    Shown = Callable[..., FakeControl]

HELD = Standing(order=order(), left=3000.0)
ENDED = "  ended: force open for 1 h, by admin ada at 02:56:20: moving to the new cluster\n"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(order_results, "_EVERY", 0.001)


def eight():
    return workers(*[view()] * 8)


def test_reset_reaches_the_named_layer_in_all_workers(shown: Shown):
    control = shown(fleet(*eight()))
    run = Run("redis", "--reset")
    assert (run.code, run.out) == (0, "redis: reset, applied by 8 of 8 workers in 0.9 s\n")
    (given,) = control.given
    assert (given.alias, given.action, given.seconds) == ("redis", Action.RESET, None)
    assert (given.actor, given.reason) == ("shell ada@web1", "")


def test_reset_without_names_is_for_all_layers(shown: Shown):
    shown(fleet(*eight()))
    assert Run("--reset").out == (
        "memory: reset, applied by 8 of 8 workers in 0.9 s\n"
        "redis: reset, applied by 8 of 8 workers in 0.9 s\n"
    )


@pytest.mark.parametrize("option", ["reset", "auto"])
def test_the_order_that_it_ends_is_named(shown: Shown, option: str):
    shown(fleet(*eight(), redis=HELD))
    run = Run("redis", f"--{option}")
    assert run.code == 0
    assert run.out == f"redis: {option}, applied by 8 of 8 workers in 0.9 s\n{ENDED}"


def test_a_forced_state_names_the_order_whose_place_it_takes(shown: Shown):
    shown(fleet(*eight(), redis=HELD))
    assert Run("redis", "--force-closed").out.endswith(ENDED)


@pytest.mark.parametrize(
    ("args", "seconds", "said"),
    [
        ((), 3600, "force open for 1 h (until 04:06:20)"),
        (("--for", "90"), 90, "force open for 1 min 30 s (until 03:07:50)"),
        (("--for", "0.5"), 0.5, "force open for 0.5 s (until 03:06:20)"),
        (("--for", "86400"), 86400, "force open for 1 d (until 24 Nov 03:06)"),
        (("--for", "0"), None, "force open until revoked"),
    ],
)
def test_a_forced_state_says_until_when(
    shown: Shown, args: tuple[str, ...], seconds: float | None, said: str
):
    control = shown(fleet(*eight()))
    run = Run("redis", "--force-open", *args)
    assert run.out == f"redis: {said}, applied by 8 of 8 workers in 0.9 s\n"
    assert control.given[0].seconds == seconds
    assert control.given[0].action is Action.FORCE_OPEN


def test_all_layers_can_be_forced_with_a_reason(shown: Shown):
    control = shown(fleet(*eight()))
    assert Run("--all", "--force-closed", "--reason", " the drill ").code == 0
    assert [given.alias for given in control.given] == ["memory", "redis"]
    assert {given.reason for given in control.given} == {"the drill"}


def test_forget_says_how_much_was_dropped(shown: Shown):
    control = shown(fleet(*workers(broken(), broken(missed=3), view()), redis=HELD))
    run = Run("redis", "--forget")
    assert (run.code, run.out) == (
        0,
        "redis: forget, applied by 3 of 3 workers in 0.9 s; 515 missed keys in 2 workers dropped\n",
    )
    assert [given.action for given in control.given] == [Action.FORGET]


def test_what_a_silent_worker_missed_is_not_dropped_yet(shown: Shown):
    members = workers(broken(), broken(missed=1))
    shown(fleet(*members), laggards=members[:1])
    assert "; 1 missed key in 1 worker dropped\n" in Run("redis", "--forget", "--wait", "0.01").out


def test_reset_and_forget_go_together(shown: Shown):
    """The ledger goes first: what is forgotten on purpose is not repaired in between."""
    control = shown(fleet(*workers(broken()), redis=HELD))
    assert Run("--all", "--reset", "--forget").out == (
        "memory: forget, applied by 1 of 1 worker in 0.9 s; 0 missed keys in 0 workers dropped\n"
        "memory: reset, applied by 1 of 1 worker in 0.9 s\n"
        "redis: forget, applied by 1 of 1 worker in 0.9 s; 512 missed keys in 1 worker dropped\n"
        f"redis: reset, applied by 1 of 1 worker in 0.9 s\n{ENDED}"
    )
    assert [given.action for given in control.given] == [Action.FORGET] * 2 + [Action.RESET] * 2


def test_laggards_are_named_and_fail_the_command(shown: Shown):
    members = eight()
    shown(fleet(*members), laggards=members[2:3])
    run = Run("--reset", "--wait", "0.01")
    assert run.code == 1
    assert run.out == (
        "memory: reset, applied by 7 of 8 workers in 3.0 s; silent: web1/4713\n"
        "redis: reset, applied by 7 of 8 workers in 3.0 s; silent: web1/4713\n"
    )
    assert run.error == (
        "Not applied within 3.0 s by web1/4713 (gunicorn): stopped, frozen or cut off from the "
        "board. A worker that goes on applies the order then; --wait SECONDS waits longer."
    )


def test_one_waits_until_the_last_worker_has_it_and_no_longer(shown: Shown):
    control = shown(fleet(*eight()), looks=5)
    assert Run("redis", "--reset", "--wait", "60").code == 0
    assert control.asked == 6


def test_the_wait_ends(shown: Shown):
    control = shown(fleet(*eight()), looks=10**9)
    assert Run("redis", "--reset", "--wait", "0.05").code == 1
    assert control.asked > 1


def test_no_wait_asks_once_and_is_content(shown: Shown):
    control = shown(fleet(*eight()), looks=10**9)
    run = Run("redis", "--reset", "--wait", "0")
    assert (run.code, control.asked) == (0, 1)
    assert run.out == "redis: reset, written to the board; not waited for 8 workers\n"


def test_ctrl_c_ends_the_waiting_and_says_how_far_it_got(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
):
    shown(fleet(*eight()), looks=10**9)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    run = Run("redis", "--reset", "--wait", "60")
    assert run.code == 1
    assert run.out.startswith("redis: reset, applied by 0 of 8 workers in 3.0 s; silent: web1/")


def test_another_operators_order_is_not_waited_for(shown: Shown):
    control = shown(fleet(*eight()), superseded=order())
    run = Run("redis", "--reset", "--wait", "60")
    assert (run.code, control.asked) == (1, 1)
    assert run.out == (
        "redis: reset, superseded: force open for 1 h, by admin ada at 02:56:20: "
        "moving to the new cluster\n"
    )
    assert run.error.startswith("Another order took the place of this one")


@pytest.mark.parametrize("wait", ["0", "0.01"])
def test_without_a_live_worker_the_order_is_written_and_the_command_fails(shown: Shown, wait: str):
    """Those who start later obey a standing order, and one that stood no longer does."""
    control = shown(fleet(worker(99, stale=True), redis=HELD))
    run = Run("redis", "--reset", "--wait", wait)
    assert run.code == 1
    assert run.out == (f"redis: reset, written to the board; no live worker to apply it\n{ENDED}")
    assert run.error.startswith("No live worker on the board: files in /tmp/resilient-cache-0-5e1f")
    assert "RESILIENT_CACHE_CONTROL_ALIAS" in run.error
    assert len(control.given) == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ("redsi", "--reset"),
            '"redsi" is not a layer of any chain in CACHES. Did you mean "redis"?',
        ),
        (
            ("--force-open", "redis", "x"),
            '"x" is not a layer of any chain in CACHES. Layers: memory',
        ),
        (
            ("default", "--auto"),
            '"default" is a chain; its layers have the breakers: memory, redis.',
        ),
        (("redsi",), 'Did you mean "redis"?'),
        (("redsi", "--check"), 'Did you mean "redis"?'),
    ],
)
def test_an_unknown_alias_changes_nothing(shown: Shown, args: tuple[str, ...], said: str):
    control = shown(fleet(*eight()))
    run = Run(*args)
    assert (run.code, run.out, control.given) == (2, "", [])
    assert said in run.error
    assert run.error.endswith("Nothing was changed.")


def test_an_unknown_alias_is_mistyped_even_where_the_board_is_away(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(breakers, "Control", Away)
    assert Run("redsi", "--reset").code == 2


class Away(FakeControl):
    """A board that does not answer."""

    def __init__(self) -> None:
        super().__init__(fleet(*eight()))

    def fleet(self):
        raise BoardUnavailable("The board is away.")


class AwayAfter(FakeControl):
    """A board that goes away after the first order."""

    def progress(self, orders):
        raise BoardUnavailable("The board is away.")


@pytest.mark.parametrize("args", [(), ("--check",), ("--watch",), ("redis", "--reset")])
def test_a_board_that_is_away_fails_loudly(monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]):
    monkeypatch.setattr(breakers, "Control", Away)
    run = Run(*args)
    assert (run.code, run.out, run.error) == (1, "", "The board is away.")


def test_a_board_that_goes_away_meanwhile_says_what_had_been_done(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(breakers, "Control", lambda: AwayAfter(fleet(*eight())))
    run = Run("redis", "--reset")
    assert run.code == 1
    assert run.error == (
        "The board is away. Written before (redis: reset); how far it got is not known."
    )


@pytest.mark.parametrize("error", [SharingOff("It is off."), ImproperlyConfigured("It is off.")])
def test_no_board_to_look_at_fails_loudly(monkeypatch: pytest.MonkeyPatch, error: Exception):
    def none() -> None:
        raise error

    monkeypatch.setattr(breakers, "Control", none)
    run = Run()
    assert (run.code, run.error) == (1, "It is off.")


def test_sudo_names_who_is_behind_it(shown: Shown, monkeypatch: pytest.MonkeyPatch):
    control = shown(fleet(*eight()))
    monkeypatch.setenv("SUDO_USER", "grace")
    Run("redis", "--reset")
    assert control.given[0].actor == "shell ada@web1 (sudo by grace)"


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch):
    """As in a container that runs as any user id."""

    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", unknown)
    monkeypatch.setattr("os.getuid", lambda: 1234)
    assert user() == "uid 1234"


def test_success_and_failure_have_colours(shown: Shown):
    members = eight()
    shown(fleet(*members))
    assert Run("redis", "--reset", force_color=True).out.startswith("\x1b[32;1mredis: reset")
    shown(fleet(*members), laggards=members[:1])
    late = Run("redis", "--reset", "--wait", "0.01", force_color=True)
    assert late.out.startswith("\x1b[31;1mredis: reset")
