"""Fleets as tests want them, and a control that needs no board."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django_resilient_cache.fleet.board.layer_view import Change, LayerView
from django_resilient_cache.fleet.board.order import Action, Order
from django_resilient_cache.fleet.console.view import Fleet, Progress, Standing, Worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BOARD = "files in /tmp/board (as app)"


def layer(state: str = "closed", **values: Any) -> LayerView:
    usual: dict[str, Any] = {
        "state": state,
        "since": time.time() - 60,
        "retry_after": 6.0 if state == "open" else None,
        "last_error": None,
        "strategy": "sockets",
        "limit": 0.25,
        "hits": 0,
        "misses": 0,
        "done": 0,
        "failures": 0,
        "timeouts": 0,
        "rejected": 0,
        "missed": 0,
        "suspect": False,
        "suspect_seconds": None,
        "applied": None,
        "changes": (),
    }
    return LayerView(**{**usual, **values})


def broken(**values: Any) -> LayerView:
    """An open layer, with what opened it."""
    error = "OperationTimeout: redis did not answer within 0.25 s"
    change = Change(
        at=time.time() - 60, old="closed", new="open", reason="5 failures in a row", error=error
    )
    return layer("open", **{"last_error": error, "changes": (change,), "failures": 5, **values})


def worker(number: int = 1, *, stale: bool = False, **layers: LayerView) -> Worker:
    return Worker(
        id=f"id{number}",
        host="web1",
        pid=4710 + number,
        started=time.time() - 3600,
        program="gunicorn",
        stale=stale,
        layers=layers,
    )


def fleet(*workers: Worker, **standing: Standing) -> Fleet:
    return Fleet(board=BOARD, workers=workers, standing=standing)


def order(alias: str = "redis", action: Action = Action.FORCE_OPEN, **values: Any) -> Order:
    usual: dict[str, Any] = {
        "alias": alias,
        "action": action,
        "id": "abc",
        "number": 1,
        "actor": "admin ada",
        "reason": "",
        "given": time.time(),
        "seconds": 3600.0 if action.stands else None,
    }
    return Order(**{**usual, **values})


def standing(left: float | None = 3600.0, **values: Any) -> Standing:
    return Standing(order=order(**values), left=left)


class FakeControl:
    """What `Control` does, on a fleet in memory.  An `error` is raised by whatever is asked."""

    def __init__(self, fleet: Fleet) -> None:
        self.seen = fleet
        self.error: Exception | None = None
        self.given: list[Order] = []
        self.applied: Sequence[Worker] | None = None
        self.superseded: Order | None = None

    def __call__(self) -> FakeControl:
        return self

    def fleet(self) -> Fleet:
        if self.error:
            raise self.error
        return self.seen

    def give(
        self,
        aliases: Iterable[str],
        action: Action,
        *,
        actor: str,
        reason: str = "",
        seconds: float | None = None,
    ) -> list[Order]:
        if self.error:
            raise self.error
        orders = [
            order(alias, action, id=f"id of {alias}", actor=actor, reason=reason, seconds=seconds)
            for alias in aliases
        ]
        self.given += orders
        return orders

    def progress(self, orders: Sequence[Order]) -> list[Progress]:
        applied = tuple(self.seen.live if self.applied is None else self.applied)
        waiting = tuple(worker for worker in self.seen.workers if worker not in applied)
        return [
            Progress(
                order=given,
                applied=applied,
                waiting=waiting,
                seconds=1.0,
                superseded=self.superseded,
            )
            for given in orders
        ]


def stopped(worker: Worker) -> Worker:
    """The same worker, silent."""
    return replace(worker, stale=True)
