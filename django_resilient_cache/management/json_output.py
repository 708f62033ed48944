"""The same facts as JSON: a schema that scripts may rely on, see docs/command.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from django_resilient_cache.fleet.board.layer_view import LayerView
from django_resilient_cache.fleet.board.order import Order
from django_resilient_cache.fleet.console.summary import Group, LayerSummary
from django_resilient_cache.fleet.console.view import Fleet, Standing, Worker
from django_resilient_cache.management.check_output import problems
from django_resilient_cache.management.order_results import Outcome

SCHEMA = 1
"""Raised when a name goes away or changes its meaning; new names may come without."""

Json = dict[str, Any]


def listing(fleet: Fleet, layers: Sequence[LayerSummary], now: float) -> Json:
    """Return the fleet."""
    found = problems(fleet, layers, now)
    return {
        **_head(now),
        "board": fleet.board,
        "live": len(fleet.live),
        "stale": len(fleet.silent),
        "ok": not found,
        "problems": found,
        "layers": {layer.alias: _layer(layer, now) for layer in layers},
        "workers": [_worker(worker, [layer.alias for layer in layers]) for worker in fleet.workers],
    }


def results(outcomes: Sequence[Outcome], board: str, now: float) -> Json:
    """Return what came of orders."""
    return {
        **_head(now),
        "board": board,
        "ok": all(outcome.done for outcome in outcomes),
        "orders": [_outcome(outcome) for outcome in outcomes],
    }


def failure(message: str, now: float) -> Json:
    """Return that nothing can be told, and why."""
    return {**_head(now), "ok": False, "error": message}


def dumps(report: Json, *, indent: int | None = 2) -> str:
    """Return a report as text, its keys sorted."""
    return json.dumps(_finite(report), indent=indent, sort_keys=True, allow_nan=False)


def _head(now: float) -> Json:
    return {"schema": SCHEMA, **_moment("at", now)}


def _layer(layer: LayerSummary, now: float) -> Json:
    worst = layer.worst
    return {
        "state": None if worst is None else worst.state,
        "workers": layer.count,
        "states": {group.state: _group(group) for group in layer.groups},
        "missed": layer.missed,
        "missed_workers": layer.missing,
        "suspect_workers": len(layer.suspect),
        "suspect_seconds": layer.suspect_seconds,
        "hit_share": layer.hit_share,
        "order": _standing(layer.standing, now),
    }


def _group(group: Group) -> Json:
    return {
        "workers": group.count,
        **_moment("since", group.since),
        "retry_after": group.retry_after,
        "last_error": group.why,
    }


def _worker(worker: Worker, aliases: Sequence[str]) -> Json:
    return {
        **_name(worker),
        **_moment("started", worker.started),
        "stale": worker.stale,
        "layers": {alias: _view(view) for alias, view in worker.layers.items() if alias in aliases},
    }


def _view(view: LayerView) -> Json:
    values = asdict(view)
    values |= _moment("since", view.since)
    values |= {"applied": _order(view.applied), "forgot": _order(view.forgot)}
    values["changes"] = [{**asdict(change), **_moment("at", change.at)} for change in view.changes]
    return values


def _name(worker: Worker) -> Json:
    return {
        "id": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "program": worker.program,
    }


def _order(order: Order | None) -> Json | None:
    if order is None:
        return None
    values = asdict(order) | _moment("given", order.given)
    return {**values, "action": order.action.value}


def _standing(standing: Standing | None, now: float) -> Json | None:
    if standing is None:
        return None
    end = None if standing.left is None else now + standing.left
    return {**(_order(standing.order) or {}), "left": standing.left, **_moment("until", end)}


def _outcome(outcome: Outcome) -> Json:
    progress, forgotten = outcome.progress, outcome.forgotten
    return {
        "alias": progress.order.alias,
        "action": progress.order.action.value,
        "order": _order(progress.order),
        "ok": outcome.done,
        "waited": outcome.waited,
        "applied": len(progress.applied),
        "of": outcome.workers,
        "laggards": [_name(worker) for worker in progress.waiting],
        "seconds": progress.seconds,
        "ended": _order(outcome.ended),
        "superseded": _order(progress.superseded),
        "forgotten": forgotten and {"keys": forgotten[0], "workers": forgotten[1]},
    }


def _moment(name: str, at: float | None) -> Json:
    """Return a moment twice: as seconds since the epoch and as ISO 8601 in UTC."""
    return {name: at, f"{name}_iso": None if at is None else _iso(at)}


def _iso(at: float) -> str | None:
    try:
        text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError):  # no clock says that
        return None
    return text.replace("+00:00", "Z")


def _finite(value: Any) -> Any:
    """Return a value with null for what JSON has no number for."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
