"""What the page shows of each worker."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from django_resilient_cache.admin import translated
from django_resilient_cache.admin.layer_rows import anchor, is_trouble, suspect_left, trial_text
from django_resilient_cache.admin.translated import Moment, Shape
from django_resilient_cache.fleet.board.layer_view import Change, LayerView
from django_resilient_cache.fleet.board.order import Order
from django_resilient_cache.fleet.console.view import Worker

#: Up to so many workers, the page has everything that each of them says; of more, it has that of
#: those alone that a reader has opened: else a page of 200 were megabytes, every few seconds.
FEW = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerRow:
    """One alias in one worker."""

    alias: str
    shape: Shape
    since: Moment | None
    trial: str | None
    error: str | None
    kept: str
    """How its limit is kept."""
    view: LayerView
    suspect_left: str | None
    applied: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeRow:
    """One transition."""

    alias: str
    at: Moment | None
    old: Shape
    new: Shape
    reason: str
    error: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerRow:
    """One process."""

    id: str
    anchor: str
    name: str
    program: str
    started: Moment | None
    stale: bool
    used: bool
    """Whether it has used any layer."""
    troubled: tuple[tuple[str, Shape], ...]
    """The layers that are not simply at work."""
    asked: bool
    """Whether the reader has asked for this one."""
    inside: Inside | None
    """What it says; None: it is not on the page, see `FEW`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inside:
    """What one process says."""

    layers: tuple[LayerRow, ...]
    changes: tuple[ChangeRow, ...]
    """Of all its layers, the newest first."""


def worker_rows(
    workers: Sequence[Worker], now: float, asked: Collection[str] = ()
) -> tuple[WorkerRow, ...]:
    """Return a row for each worker, in the same order; `asked`: the ids of those to be opened."""
    few = len(workers) <= FEW
    return tuple(_worker(worker, now, asked=worker.id in asked, few=few) for worker in workers)


def _worker(worker: Worker, now: float, *, asked: bool, few: bool) -> WorkerRow:
    return WorkerRow(
        id=worker.id,
        anchor=anchor("worker", worker.id),
        name=worker.name,
        program=worker.program,
        started=translated.moment(worker.started, now),
        stale=worker.stale,
        used=bool(worker.layers),
        troubled=tuple(
            (alias, translated.shape(view.state))
            for alias, view in worker.layers.items()
            if is_trouble(view.state)
        ),
        asked=asked,
        inside=_inside(worker, now) if asked or few else None,
    )


def _inside(worker: Worker, now: float) -> Inside:
    changes = [(alias, change) for alias, view in worker.layers.items() for change in view.changes]
    changes.sort(key=lambda pair: pair[1].at, reverse=True)
    return Inside(
        layers=tuple(_layer(alias, view, now) for alias, view in worker.layers.items()),
        changes=tuple(_change(alias, change, now) for alias, change in changes),
    )


def _layer(alias: str, view: LayerView, now: float) -> LayerRow:
    return LayerRow(
        alias=alias,
        shape=translated.shape(view.state),
        since=translated.moment(view.since, now),
        trial=trial_text(view.retry_after),
        error=translated.error_text(view.last_error),
        kept=_kept(view),
        view=view,
        suspect_left=suspect_left(view.suspect_seconds),
        applied=_applied(view.applied),
    )


def _kept(view: LayerView) -> str:
    if view.limit is None:
        return _("no limit")
    return _("%(seconds)s s, %(strategy)s") % {
        "seconds": f"{view.limit:g}",
        "strategy": view.strategy,
    }


def _applied(order: Order | None) -> str | None:
    if order is None:
        return None
    word = translated.ACTION_WORDS[order.action]
    return _("%(order)s by %(actor)s") % {"order": word, "actor": order.actor}


def _change(alias: str, change: Change, now: float) -> ChangeRow:
    return ChangeRow(
        alias=alias,
        at=translated.moment(change.at, now),
        old=translated.shape(change.old),
        new=translated.shape(change.new),
        reason=change.reason,
        error=translated.error_text(change.error),
    )
