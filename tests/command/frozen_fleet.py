"""A fleet made of plain data at a frozen moment, and a Control that shows it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django_resilient_cache.fleet.board.layer_view import Change, LayerView
from django_resilient_cache.fleet.board.order import Action, Order
from django_resilient_cache.fleet.console.view import Fleet, Progress, Standing, Worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: 03:06:20 in Berlin, which is the site's time zone in these tests.
NOW = datetime(2025, 11, 23, 2, 6, 20, tzinfo=UTC).timestamp()
BOARD = "files in /tmp/resilient-cache-0-5e1f (as root)"


def view(state: str = "closed", **changes: Any) -> LayerView:
    """One alias in one worker, closed and fine for two hours unless said otherwise."""
    usual = LayerView(
        state=state,
        since=NOW - 7500,
        retry_after=None,
        last_error=None,
        strategy="sockets",
        limit=0.25,
        hits=930,
        misses=70,
        done=50,
        failures=0,
        timeouts=0,
        rejected=0,
        missed=0,
        suspect=False,
        suspect_seconds=None,
        applied=None,
        changes=(),
    )
    return replace(usual, **changes)


def broken(**changes: Any) -> LayerView:
    """Open since four minutes."""
    return view(
        **{
            "state": "open",
            "since": NOW - 249,
            "retry_after": 5.2,
            "last_error": "OperationTimeout: redis did not answer within 0.25 s",
            "failures": 6,
            "timeouts": 6,
            "rejected": 1408,
            "missed": 512,
            "changes": (
                Change(
                    at=NOW - 249,
                    old="closed",
                    new="open",
                    reason="5 failures in a row",
                    error="OperationTimeout: redis did not answer within 0.25 s",
                ),
            ),
            **changes,
        }
    )


def worker(pid: int = 4711, host: str = "web1", **changes: Any) -> Worker:
    """One process, an hour old, with a near layer and Redis closed unless said otherwise."""
    usual = Worker(
        id=f"{host}-{pid}",
        host=host,
        pid=pid,
        started=NOW - 3600,
        program="gunicorn",
        stale=False,
        layers={"memory": view(strategy="direct", limit=None), "redis": view()},
    )
    return replace(usual, **changes)


def workers(*redis: LayerView) -> tuple[Worker, ...]:
    """As many workers as there are views of Redis."""
    return tuple(
        worker(4711 + index, layers={"memory": view(strategy="direct", limit=None), "redis": each})
        for index, each in enumerate(redis)
    )


def order(action: Action = Action.FORCE_OPEN, **changes: Any) -> Order:
    """An order that ada gave ten minutes ago."""
    usual = Order(
        alias="redis",
        action=action,
        id="0123456789abcdef",
        number=1,
        actor="admin ada",
        reason="moving to the new cluster",
        given=NOW - 600,
        seconds=3600 if action.stands else None,
    )
    return replace(usual, **changes)


def fleet(*members: Worker, **standing: Standing) -> Fleet:
    """All workers; `redis=Standing(...)`."""
    return Fleet(board=BOARD, workers=members, standing=standing)


@dataclass
class FakeControl:
    """A Control whose workers have applied everything at once, except the laggards."""

    seen: Fleet
    laggards: tuple[Worker, ...] = ()
    superseded: Order | None = None
    looks: int = 0
    """How often progress is asked for before the workers have applied anything."""
    given: list[Order] = field(default_factory=list)
    asked: int = 0

    def fleet(self) -> Fleet:
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
        orders = [
            Order(
                alias=alias,
                action=action,
                id=f"{len(self.given):016x}",
                number=2,
                actor=actor,
                reason=reason,
                given=NOW,
                seconds=seconds,
            )
            for alias in aliases
        ]
        self.given += orders
        return orders

    def progress(self, orders: Sequence[Order]) -> list[Progress]:
        self.asked += 1
        live = self.seen.live
        late = live if self.asked <= self.looks else self.laggards
        return [
            Progress(
                order=order,
                applied=tuple(worker for worker in live if worker not in late),
                waiting=tuple(late),
                seconds=3.0 if late else 0.94,
                superseded=self.superseded,
            )
            for order in orders
        ]
