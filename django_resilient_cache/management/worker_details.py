"""Each worker by itself: what `-v 2` adds beneath the table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django_resilient_cache.fleet.board.layer_view import Change, LayerView
from django_resilient_cache.fleet.console.view import Fleet, Worker
from django_resilient_cache.fleet.console.wording import (
    ahead,
    clock,
    counted,
    introduced,
    plain,
    roughly,
)
from django_resilient_cache.management.check_output import next_trial
from django_resilient_cache.management.terminal import Page

_INDENT = "  "


def details(fleet: Fleet, aliases: Iterable[str], page: Page, now: float) -> list[str]:
    """Return the lines about each worker, the silent ones included."""
    names = list(aliases)
    return [line for worker in fleet.workers for line in _worker(worker, names, page, now)]


def _worker(worker: Worker, aliases: Iterable[str], page: Page, now: float) -> Iterator[str]:
    yield ""
    silent = ", silent: this is its last report" if worker.stale else ""
    text = f"{introduced(worker)}, up {roughly(now - worker.started)}{silent}"
    yield page.warning(page.cut(text)) if worker.stale else page.strong(page.cut(text))
    for alias in aliases:
        if alias in worker.layers:
            yield from _layer(alias, worker.layers[alias], page, now)


def _layer(alias: str, view: LayerView, page: Page, now: float) -> Iterator[str]:
    name = page.cut(f"{_INDENT}{plain(alias)}: ")
    state = page.cut(f"{page.symbol(view.state)} {plain(view.state)}", page.width - len(name))
    rest = f" since {clock(view.since, now)} ({roughly(now - view.since)})"
    trial = next_trial(view.retry_after)
    rest += f", next trial {trial}" if trial else ""
    room = page.width - len(name) - len(state)
    yield f"{name}{page.state(view.state, state)}{page.cut(rest, room)}"
    for text in (_limit(view), _calls(view), *_kept(view), *_errors(view)):
        yield page.cut(f"{_INDENT * 2}{text}")
    for change in view.changes:
        yield page.cut(f"{_INDENT * 2}{_change(change, now)}")


def _limit(view: LayerView) -> str:
    limit = "no limit" if view.limit is None else f"limit {view.limit:g} s"
    return f"{limit} ({plain(view.strategy)})"


def _calls(view: LayerView) -> str:
    counts = {
        "hits": view.hits,
        "misses": view.misses,
        "done": view.done,
        "failures": view.failures,
        "timeouts": view.timeouts,
        "rejected": view.rejected,
    }
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _kept(view: LayerView) -> Iterator[str]:
    if view.missed:
        yield f"{counted(view.missed, 'missed key')} to repair"
    if view.suspect:
        end = view.suspect_seconds
        yield f"not read {'for now' if end is None else f'for {ahead(end)} yet'}"


def _errors(view: LayerView) -> Iterator[str]:
    if view.last_error:
        yield f"last error: {plain(view.last_error)}"


def _change(change: Change, now: float) -> str:
    error = f"; {plain(change.error)}" if change.error else ""
    return (
        f"{clock(change.at, now)} {plain(change.old)} to {plain(change.new)}: "
        f"{plain(change.reason)}{error}"
    )
