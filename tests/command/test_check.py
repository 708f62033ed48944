"""`--check`: one line per problem, or one that says ok."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_resilient_cache.fleet.console.view import Standing
from tests.command.conftest import Run
from tests.command.frozen_fleet import NOW, broken, fleet, order, view, worker, workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.command.frozen_fleet import FakeControl

    Shown = Callable[..., FakeControl]


def test_all_closed_is_ok(shown: Shown):
    shown(fleet(*workers(view(), view())))
    run = Run("--check")
    assert (run.code, run.out) == (0, "ok: memory, redis closed in 2 workers\n")


def test_a_breaker_that_is_not_closed_is_a_problem(shown: Shown):
    half = view("half-open", since=NOW - 3, retry_after=0.0)
    shown(fleet(*workers(broken(), half, view())))
    run = Run("--check")
    assert run.code == 1
    assert run.out == (
        "redis: open in 1 of 3 workers since 03:02:11 (4 min); next trial in 6 s; "
        "OperationTimeout: redis did not answer within 0.25 s\n"
        "redis: half-open in 1 of 3 workers since 03:06:17 (3 s); next trial due\n"
    )


def test_only_the_named_layers_are_looked_at(shown: Shown):
    shown(fleet(*workers(broken())))
    assert Run("memory", "--check").out == "ok: memory closed in 1 worker\n"


def test_a_standing_order_is_a_problem_even_where_nobody_has_it_yet(shown: Shown):
    shown(fleet(*workers(view()), redis=Standing(order=order(), left=3000.0)))
    run = Run("--check")
    assert run.code == 1
    assert run.out == (
        "redis: force open until 03:56:20 (50 min left), by admin ada at 02:56:20: "
        "moving to the new cluster (in 0 of 1 worker)\n"
    )


def test_what_an_order_holds_is_one_problem_and_not_two(shown: Shown):
    held = view("forced closed")
    shown(fleet(*workers(held, held), redis=Standing(order=order(), left=None)))
    assert Run("--check").out.count("\n") == 1


def test_a_breaker_that_one_process_forced_by_itself_is_a_problem(shown: Shown):
    shown(fleet(*workers(view("forced open"), view())))
    assert Run("--check").out == (
        "redis: forced open in 1 of 2 workers since 01:01:20 (2 h 5 min)\n"
    )


def test_a_layer_that_is_not_read_is_a_problem(shown: Shown):
    shown(fleet(*workers(view(suspect=True, suspect_seconds=95.0), view())))
    run = Run("--check")
    assert (run.code, run.out) == (1, "redis: not read in 1 of 2 workers for 1 min yet\n")


def test_a_silent_worker_is_named_and_is_no_problem(shown: Shown):
    """A worker that was killed stays on the roster for a while: no reason to wake anybody."""
    shown(fleet(worker(), worker(99, "web2", stale=True)))
    run = Run("--check")
    assert run.code == 0
    assert run.out == "ok: memory, redis closed in 1 worker; silent: web2/99 (gunicorn)\n"


def test_seeing_nobody_is_not_ok(shown: Shown):
    shown(fleet())
    run = Run("--check")
    assert run.code == 1
    assert run.out == (
        "no live worker on the board: files in /tmp/resilient-cache-0-5e1f (as root)\n"
    )
