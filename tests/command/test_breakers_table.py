"""The table, letter by letter: what an operator reads at 3 a.m."""

from __future__ import annotations

import re
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from django.core.management.color import color_style
from django.test import override_settings

from django_resilient_cache.fleet.board.layer_view import Change
from django_resilient_cache.fleet.console.summary import summarize
from django_resilient_cache.fleet.console.view import Standing
from django_resilient_cache.management.commands import breakers
from django_resilient_cache.management.table import table
from django_resilient_cache.management.terminal import Page, page_of
from tests.command.conftest import Run
from tests.command.frozen_fleet import NOW, broken, fleet, order, view, worker, workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_resilient_cache.fleet.console.view import Fleet
    from tests.command.frozen_fleet import FakeControl

    Shown = Callable[..., FakeControl]

TRIAL = view(
    "half-open",
    since=NOW - 3,
    retry_after=0.0,
    last_error="ConnectionError: Error 111 connecting to cache:6379. Connection refused.",
    missed=3,
)
GONE = worker(99, "web2", stale=True, layers={})
FORCED = view("forced open", since=NOW - 599, suspect=True, suspect_seconds=200.0, missed=100_000)


def outage():
    """Open in two of eight, trying in one, and a ninth that is gone."""
    return fleet(*workers(broken(), broken(since=NOW - 100), TRIAL, *[view()] * 5), GONE)


def held():
    """Forced open by an operator, and not read afterwards either."""
    return fleet(*workers(*[FORCED] * 8), redis=Standing(order=order(), left=3000.0))


def test_all_is_well(shown: Shown):
    shown(fleet(*workers(*[view()] * 8)))
    run = Run()
    assert run.code == 0
    assert run.out == (
        "8 workers on web1, 03:06:20 CET\n"
        "Board: files in /tmp/resilient-cache-0-5e1f (as root)\n"
        "\n"
        "Layer   State            Since                 Next trial  Missed  Hits\n"
        "memory  ● closed 8 of 8  01:01:20 (2 h 5 min)  -                0   93%\n"
        "redis   ● closed 8 of 8  01:01:20 (2 h 5 min)  -                0   93%\n"
    )


def test_an_outage_in_80_columns(shown: Shown):
    shown(outage())
    run = Run()
    assert run.code == 0
    assert run.out == (
        "8 workers on web1, 1 silent, 03:06:20 CET\n"
        "Board: files in /tmp/resilient-cache-0-5e1f (as root)\n"
        "\n"
        "Layer   State               Since                 Next trial  Missed  Hits\n"
        "memory  ● closed 8 of 8     01:01:20 (2 h 5 min)  -                0   93%\n"
        "redis   ○ open 2 of 8       03:02:11 (4 min)      in 6 s       1,027   93%\n"
        "  why: OperationTimeout: redis did not answer within 0.25 s\n"
        "        ◐ half-open 1 of 8  03:06:17 (3 s)        due\n"
        "  why: ConnectionError: Error 111 connecting to cache:6379. Connection refused.\n"
        "\n"
        "Silent, not counted: web2/99 (gunicorn)\n"
    )


def test_an_outage_in_120_columns(shown: Shown, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "120")
    shown(outage())
    assert Run().out == (
        "8 workers on web1, 1 silent, 03:06:20 CET\n"
        "Board: files in /tmp/resilient-cache-0-5e1f (as root)\n"
        "\n"
        "Layer   State               Since                 Next trial  Missed  Hits  Why\n"
        "memory  ● closed 8 of 8     01:01:20 (2 h 5 min)  -                0   93%\n"
        "redis   ○ open 2 of 8       03:02:11 (4 min)      in 6 s       1,027   93%"
        "  OperationTimeout: redis did not answer with…\n"
        "        ◐ half-open 1 of 8  03:06:17 (3 s)        due                     "
        "  ConnectionError: Error 111 connecting to ca…\n"
        "\n"
        "Silent, not counted: web2/99 (gunicorn)\n"
    )


def test_a_standing_order_has_a_line_of_its_own(shown: Shown):
    shown(held())
    assert Run("redis").out == (
        "8 workers on web1, 03:06:20 CET\n"
        "Board: files in /tmp/resilient-cache-0-5e1f (as root)\n"
        "\n"
        "Layer  State                 Since             Next trial   Missed  Hits\n"
        "redis  □ forced open 8 of 8  02:56:21 (9 min)  -           800,000   93%\n"
        "  order: force open until 03:56:20 (50 min left), by admin ada at 02:56:20: mov…\n"
        "  not read in 8 of 8 workers for 3 min yet\n"
    )


def test_an_error_from_before_is_not_why_it_is_forced_open(shown: Shown):
    shown(fleet(*workers(broken(state="forced open", retry_after=None))))
    assert "why" not in Run().out
    shown(fleet(*workers(broken(state="forced closed", retry_after=None))))
    assert "  why: OperationTimeout: redis did not answer within 0.25 s\n" in Run().out


def test_an_order_without_an_end_says_so(shown: Shown):
    standing = Standing(order=order(seconds=None, reason=""), left=None)
    shown(fleet(*workers(view("forced open")), redis=standing))
    assert "  order: force open until revoked, by admin ada at 02:56:20\n" in Run().out


def test_a_suspect_layer_without_an_end_names_the_remedy(shown: Shown):
    shown(fleet(*workers(view(suspect=True), view(suspect=True, suspect_seconds=5.0), view())))
    assert "  not read in 2 of 3 workers until it is repaired, or --forget\n" in Run().out


def test_each_worker_by_itself(shown: Shown, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "120")
    shown(fleet(*workers(broken(suspect=True)), GONE))
    out = Run("redis", verbosity=2).out
    assert out.partition("Silent, not counted: web2/99 (gunicorn)\n")[2] == (
        "\n"
        "web1/4711 (gunicorn), up 1 h 0 min\n"
        "  redis: ○ open since 03:02:11 (4 min), next trial in 6 s\n"
        "    limit 0.25 s (sockets)\n"
        "    hits 930, misses 70, done 50, failures 6, timeouts 6, rejected 1,408\n"
        "    512 missed keys to repair\n"
        "    not read for now\n"
        "    last error: OperationTimeout: redis did not answer within 0.25 s\n"
        "    03:02:11 closed to open: 5 failures in a row; OperationTimeout: "
        "redis did not answer within 0.25 s\n"
        "\n"
        "web2/99 (gunicorn), up 1 h 0 min, silent: this is its last report\n"
    )


def test_colour_is_only_what_the_words_say_already(shown: Shown):
    shown(outage())
    coloured = Run(force_color=True).out
    bare = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert bare == Run().out == Run(no_color=True).out
    assert "\x1b[31;1m○ open 2 of 8     \x1b[0m" in coloured
    assert "\x1b[32;1m● closed 8 of 8   \x1b[0m" in coloured
    assert "\x1b[33;1m◐ half-open 1 of 8\x1b[0m" in coloured


@pytest.mark.parametrize("width", [20, 30, 40, 52, 60, 72, 79, 80, 81, 100, 120, 200])
@pytest.mark.parametrize("scene", [outage, held])
def test_no_line_is_longer_than_the_terminal_is_wide(
    shown: Shown, monkeypatch: pytest.MonkeyPatch, width: int, scene: Callable[[], Fleet]
):
    monkeypatch.setenv("COLUMNS", str(width))
    shown(scene())
    for line in Run(verbosity=2).out.splitlines():
        assert len(line) <= width, line


def test_what_gives_way_on_a_narrow_terminal(shown: Shown, monkeypatch: pytest.MonkeyPatch):
    shown(outage())
    monkeypatch.setenv("COLUMNS", "60")
    assert "redis   ○ open 2 of 8       4 min      in 6 s       1,027\n" in Run().out
    monkeypatch.setenv("COLUMNS", "38")
    assert "redis   ○ open 2 of 8       4 min\n" in Run().out


def test_a_long_name_gives_way_before_a_column_does():
    name = "the-shared-redis-of-the-whole-company"
    seen = fleet(worker(layers={name: broken()}))
    lines = table(seen, summarize(seen, [name]), page(80), NOW)
    assert lines[4] == (
        "the-shared-redis-of-the-whole-c…  ○ open 1 of 1  4 min  in 6 s         512   93%"
    )
    lines = table(seen, summarize(seen, [name]), page(50), NOW)
    assert lines[4] == "the-sha…  ○ open 1 of 1  4 min  in 6 s         512"


def page(width: int, encoding: str = "utf-8") -> Page:
    from django.core.management.color import no_style

    return Page(width, 24, no_style(), encoding)


def test_a_terminal_without_these_letters_gets_question_marks():
    seen = fleet(*workers(broken(last_error="Réseau: x" + "y" * 100), view()))
    lines = table(seen, summarize(seen, ["memory", "redis"]), page(80, "ascii"), NOW)
    assert "\n".join(lines).isascii()
    assert lines[4].startswith("memory  ? closed 2 of 2")
    assert lines[5].startswith("redis   ? open 1 of 2")
    assert lines[6].startswith("  why: R?seau: xyyy")
    assert lines[6].endswith("yyy?")


def test_nothing_that_others_wrote_reaches_the_terminal_as_an_order_to_it(shown: Shown):
    evil = "a\x1b[2J\nb\x07\x9b31m\u202ec"
    standing = Standing(order=order(reason=evil, actor=evil), left=None)
    host = worker(host=evil, program=evil, layers={"redis": broken(last_error=evil)})
    shown(fleet(host, worker(5, evil, stale=True, program=evil), redis=standing))
    for run in (Run(verbosity=2), Run("--check"), Run("redis", "--reset")):
        assert set(re.findall(r"[^\n -~●○…]", run.out)) == {"\ufffd"}
    shown(fleet(host), laggards=(host,))
    assert "\x1b" not in Run("redis", "--reset", "--wait", "0.01").error


def changes(*steps: tuple[float, str, str]) -> tuple[Change, ...]:
    return tuple(
        Change(at=NOW - ago, old=old, new=new, reason="", error=None) for ago, old, new in steps
    )


def test_an_outage_began_in_the_first_worker_that_lost_it(shown: Shown):
    shown(fleet(*workers(broken(since=NOW - 600), broken(since=NOW - 100))))
    assert "○ open 2 of 2    02:56:20 (10 min)" in Run().out
    assert "open in 2 of 2 workers since 02:56:20 (10 min)" in Run("--check").out


def test_why_is_what_failed_in_the_worker_that_tried_last(shown: Shown):
    moves = changes((249, "closed", "open"), (9, "half-open", "open"))
    shown(fleet(*workers(broken(last_error="EOFError: x", changes=moves), broken())))
    assert Run("--check").out.endswith("; EOFError: x\n")


def test_a_layer_that_some_workers_have_not_used_yet_says_so(shown: Shown):
    shown(fleet(worker(1, layers={"redis": view()}), worker(2), worker(3)))
    lines = Run().out.splitlines()
    assert lines[4].startswith("memory  ● closed 2 of 2")
    assert lines[5] == "  not used yet in 1 of 3 workers"
    assert lines[6].startswith("redis   ● closed 3 of 3")


def test_closed_since_the_last_worker_is(shown: Shown):
    shown(fleet(*workers(view(), view(since=NOW - 80), view())))
    assert "● closed 3 of 3  03:05:00 (1 min)" in Run("redis").out


def test_the_last_report_of_a_silent_worker_counts_in_no_figure(shown: Shown):
    shown(fleet(worker(), worker(2, stale=True, layers={"redis": broken()})))
    assert re.search(r"^redis  ● closed 1 of 1 .* 0   93%$", Run("redis").out, re.MULTILINE)


def test_what_is_captured_is_not_coloured_though_one_sits_at_a_terminal():
    """`call_command(stdout=...)` from a shell: Django's style looks at the process's own output."""
    style = color_style(force_color=True)
    assert page_of(StringIO(), style, colours=False).strong("text") == "text"
    assert page_of(StringIO(), style, colours=True).strong("text") != "text"


def test_another_day_shows_its_date(shown: Shown):
    shown(fleet(*workers(broken(since=NOW - 2 * 86400 - 7200))))
    assert "21 Nov 01:06 (2 d 2 h)" in Run("redis").out


def test_a_worker_whose_clock_is_ahead_does_no_harm(shown: Shown):
    shown(fleet(*workers(broken(since=NOW + 90, changes=()))))
    assert "03:07:50 (0 s)" in Run("redis").out


@pytest.mark.parametrize("absurd", [1e300, -1e300, float("inf"), float("nan")])
def test_a_time_that_no_clock_tells_does_no_harm(shown: Shown, absurd: float):
    """A board may hold anything."""
    odd = broken(since=absurd, retry_after=absurd, suspect=True, suspect_seconds=absurd)
    held = Standing(order=order(given=absurd, seconds=absurd), left=absurd)
    shown(fleet(*workers(odd), worker(started=absurd), redis=held))
    assert Run(verbosity=2).code == 0
    assert Run("--check").code == 1
    assert Run("--format", "json").code == 0
    assert Run("redis", "--reset").code == 0


def test_a_state_that_this_version_does_not_know_is_shown(shown: Shown):
    shown(fleet(*workers(view("paused"), view())))
    assert "redis   ? paused 1 of 2" in Run().out


def test_a_layer_that_only_workers_know_is_shown(shown: Shown):
    """During a deployment the workers' settings and this process's differ."""
    shown(fleet(worker(layers={"redis": view(), "old": broken()})))
    out = Run().out
    assert re.search(r"^memory  - not in use", out, re.MULTILINE)
    assert re.search(r"^old     ○ open 1 of 1", out, re.MULTILINE)
    assert Run("old").code == 0


def test_many_silent_workers_are_counted(shown: Shown):
    silent = [worker(pid, "web2", stale=True, program="") for pid in range(12)]
    shown(fleet(worker(), *silent))
    out = Run().out
    assert out.startswith("1 worker on web1, 12 silent, ")
    assert "Silent, not counted: web2/0, web2/1, web2/2, web2/3, web2/4 and 7 more\n" in out


def test_no_live_worker_shows_what_there_is_and_fails(shown: Shown):
    shown(fleet(GONE))
    run = Run()
    assert run.code == 1
    assert run.out.startswith("No live worker, 1 silent, 03:06:20 CET\n")
    assert run.error == (
        "No live worker on the board: files in /tmp/resilient-cache-0-5e1f (as root).\n"
        "Silent: web2/99 (gunicorn).\n"
        "Looked as shell ada@web1. A worker reports a second after it has first used a chain. "
        "This board is seen only on this host, by this user, with this TMPDIR and settings "
        "module. For other hosts, containers or users set RESILIENT_CACHE_CONTROL_ALIAS to an "
        "alias in CACHES that all of them reach (Redis, Memcached, a database)."
    )


def test_no_live_worker_here_says_where_on_this_host_others_are(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
):
    boards = [f"/tmp/resilient-cache-33-shop-{n}\x1b (of www-data)" for n in range(4)]
    monkeypatch.setattr(breakers, "others_in_use", lambda config: boards)
    shown(fleet())
    assert Run().error.endswith(
        "\nIn use on this host: /tmp/resilient-cache-33-shop-0\N{REPLACEMENT CHARACTER} (of www-data)"
        ", /tmp/resilient-cache-33-shop-1\N{REPLACEMENT CHARACTER} (of www-data)"
        ", /tmp/resilient-cache-33-shop-2\N{REPLACEMENT CHARACTER} (of www-data) and 1 more."
    )


def test_no_live_worker_on_a_shared_board_says_who_meets_there(shown: Shown):
    shown(fleet())
    with override_settings(RESILIENT_CACHE_CONTROL_ALIAS="control"):
        assert Run().error.endswith(
            "Workers meet there whose RESILIENT_CACHE_CONTROL_ALIAS names the same server, and "
            "whose settings module and SECRET_KEY are the same as here."
        )


@pytest.mark.parametrize("args", [(), ("--check",), ("--watch",), ("--reset",)])
def test_settings_without_a_chain_have_no_breakers(shown: Shown, args: tuple[str, ...]):
    """The wrong settings module, most likely: nothing must look like success."""
    shown(fleet(worker()))
    local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    with override_settings(CACHES={"default": local}):
        run = Run(*args)
    assert (run.code, run.out) == (1, "")
    assert run.error == (
        "No alias in CACHES is a layer of a chain, so there are no breakers with these settings "
        "(tests.settings)."
    )
