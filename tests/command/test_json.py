"""JSON: the same facts for scripts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from django_resilient_cache.fleet.console.control import BoardUnavailable
from django_resilient_cache.fleet.console.view import Standing
from django_resilient_cache.management.commands import breakers
from tests.command.conftest import Run
from tests.command.frozen_fleet import (
    BOARD,
    NOW,
    FakeControl,
    broken,
    fleet,
    order,
    view,
    worker,
    workers,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Shown = Callable[..., FakeControl]

AT = {"at": NOW, "at_iso": "2025-11-23T02:06:20.000Z"}
ORDER = {
    "action": "force open",
    "actor": "admin ada",
    "alias": "redis",
    "given": NOW - 600,
    "given_iso": "2025-11-23T01:56:20.000Z",
    "id": "0123456789abcdef",
    "number": 1,
    "reason": "moving to the new cluster",
    "seconds": 3600,
}


def asked(*args: str, code: int = 0):
    run = Run(*args, "--format", "json")
    assert run.code == code
    return json.loads(run.out, parse_constant=pytest.fail)


def test_the_listing(shown: Shown):
    standing = Standing(order=order(), left=3000.0)
    mine = broken(applied=order())
    shown(fleet(*workers(mine, view()), worker(99, stale=True, layers={}), redis=standing))
    told = asked("redis")
    error = "OperationTimeout: redis did not answer within 0.25 s"
    first = told["workers"].pop(0)
    assert told == {
        "schema": 1,
        **AT,
        "board": BOARD,
        "live": 2,
        "stale": 1,
        "ok": False,
        "problems": [
            f"redis: open in 1 of 2 workers since 03:02:11 (4 min); next trial in 6 s; {error}",
            "redis: force open until 03:56:20 (50 min left), by admin ada at 02:56:20: "
            "moving to the new cluster (in 0 of 2 workers)",
        ],
        "layers": {
            "redis": {
                "state": "open",
                "workers": 2,
                "states": {
                    "open": {
                        "workers": 1,
                        "since": NOW - 249,
                        "since_iso": "2025-11-23T02:02:11.000Z",
                        "retry_after": 5.2,
                        "last_error": error,
                    },
                    "closed": {
                        "workers": 1,
                        "since": NOW - 7500,
                        "since_iso": "2025-11-23T00:01:20.000Z",
                        "retry_after": None,
                        "last_error": None,
                    },
                },
                "missed": 512,
                "missed_workers": 1,
                "suspect_workers": 0,
                "suspect_seconds": None,
                "hit_share": 0.93,
                "order": {
                    **ORDER,
                    "left": 3000.0,
                    "until": NOW + 3000,
                    "until_iso": "2025-11-23T02:56:20.000Z",
                },
            }
        },
        "workers": told["workers"],
    }
    assert [each["stale"] for each in told["workers"]] == [False, True]
    assert first == {
        "id": "web1-4711",
        "host": "web1",
        "pid": 4711,
        "program": "gunicorn",
        "started": NOW - 3600,
        "started_iso": "2025-11-23T01:06:20.000Z",
        "stale": False,
        "layers": {
            "redis": {
                "state": "open",
                "since": NOW - 249,
                "since_iso": "2025-11-23T02:02:11.000Z",
                "retry_after": 5.2,
                "last_error": error,
                "strategy": "sockets",
                "limit": 0.25,
                "hits": 930,
                "misses": 70,
                "done": 50,
                "failures": 6,
                "timeouts": 6,
                "rejected": 1408,
                "missed": 512,
                "suspect": False,
                "suspect_seconds": None,
                "applied": ORDER,
                "forgot": None,
                "changes": [
                    {
                        "at": NOW - 249,
                        "at_iso": "2025-11-23T02:02:11.000Z",
                        "old": "closed",
                        "new": "open",
                        "reason": "5 failures in a row",
                        "error": error,
                    }
                ],
            }
        },
    }


def test_the_outcome_of_orders(shown: Shown):
    members = workers(broken(), view())
    standing = Standing(order=order(), left=3000.0)
    shown(fleet(*members, redis=standing), laggards=members[1:])
    told = asked("redis", "--reset", "--forget", "--wait", "0.01", code=1)
    forget, reset = told.pop("orders")
    assert told == {"schema": 1, **AT, "board": BOARD, "ok": False}
    assert reset == {
        "alias": "redis",
        "action": "reset",
        "ok": False,
        "waited": True,
        "applied": 1,
        "of": 2,
        "laggards": [{"id": "web1-4712", "host": "web1", "pid": 4712, "program": "gunicorn"}],
        "seconds": 3.0,
        "ended": ORDER,
        "superseded": None,
        "forgotten": None,
        "order": reset["order"],
    }
    assert reset["order"]["actor"] == "shell ada@web1"
    assert forget["forgotten"] == {"keys": 512, "workers": 1}
    assert forget["ended"] is None


def test_a_long_reason_is_whole(shown: Shown):
    reason = "because " * 60
    shown(fleet(worker(), redis=Standing(order=order(reason=reason), left=None)))
    told = asked()["layers"]["redis"]["order"]
    assert told["reason"] == reason
    assert (told["left"], told["until"], told["until_iso"]) == (None, None, None)


def test_check_tells_the_whole_listing(shown: Shown):
    shown(fleet(*workers(broken())))
    assert asked("--check", code=1)["ok"] is False
    shown(fleet(*workers(view())))
    told = asked("--check")
    assert (told["ok"], told["problems"]) == (True, [])


def test_seeing_nobody_is_not_ok(shown: Shown):
    shown(fleet())
    told = asked(code=1)
    assert (told["ok"], told["live"], told["layers"]["redis"]["state"]) == (False, 0, None)


def test_there_are_only_numbers_that_json_has(shown: Shown):
    endless = float("inf")
    odd = view(retry_after=endless, limit=float("nan"), since=1e300)
    shown(fleet(*workers(odd)))
    told = asked()["workers"][0]["layers"]["redis"]
    assert (told["retry_after"], told["limit"]) == (None, None)
    assert (told["since"], told["since_iso"]) == (1e300, None)


def test_keys_are_sorted_and_nothing_is_coloured(shown: Shown):
    shown(fleet(*workers(broken())))
    run = Run(format="json", force_color=True)
    assert json.dumps(json.loads(run.out), sort_keys=True, indent=2) + "\n" == run.out
    assert "\x1b" not in run.out


def test_what_cannot_be_told_is_told_as_json_too(monkeypatch: pytest.MonkeyPatch):
    class Away(FakeControl):
        def fleet(self):
            raise BoardUnavailable("The board is away.")

    monkeypatch.setattr(breakers, "Control", lambda: Away(fleet()))
    run = Run("--format", "json")
    assert (run.code, run.error) == (1, "The board is away.")
    assert json.loads(run.out) == {"schema": 1, **AT, "ok": False, "error": "The board is away."}
