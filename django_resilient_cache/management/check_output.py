"""What is not as it should be, one line each: for monitoring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django_resilient_cache import conf
from django_resilient_cache.fleet.console.summary import Group, LayerSummary
from django_resilient_cache.fleet.console.view import Fleet
from django_resilient_cache.fleet.console.wording import (
    ahead,
    clock,
    counted,
    introduced,
    listed,
    plain,
    roughly,
    standing_order,
)


def problems(fleet: Fleet, layers: Sequence[LayerSummary], now: float) -> list[str]:
    """Return a line for each state but closed, each standing order, each layer that is not read.

    Where nobody reports, that is a problem as well: silence must not pass for health.
    """
    found = [line for layer in layers for line in _problems(layer, now)]
    return found if fleet.live else [f"no live worker on the board: {plain(fleet.board)}", *found]


def nobody(fleet: Fleet, actor: str, *, private: bool, others: Sequence[str] = ()) -> str:
    """Return that no worker reports, where one has looked, and what to change.

    `private`: whether it is the board of this host and user; `others`: those of this host, of
    other users or settings, that are in use.
    """
    return (
        f"No live worker on the board: {plain(fleet.board)}.\n"
        + (f"Silent: {listed(map(introduced, fleet.silent), most=5)}.\n" if fleet.silent else "")
        + f"Looked as {plain(actor)}. A worker reports a second after it has first used a chain. "
        + (_PRIVATE if private else _SHARED)
        + (f"\nIn use on this host: {listed(map(plain, others), most=3)}." if others else "")
    )


_PRIVATE = (
    "This board is seen only on this host, by this user, with this TMPDIR and settings module. "
    f"For other hosts, containers or users set {conf.CONTROL_SETTING} to an alias in CACHES that "
    "all of them reach (Redis, Memcached, a database)."
)
_SHARED = (
    f"Workers meet there whose {conf.CONTROL_SETTING} names the same server, and whose settings "
    "module and SECRET_KEY are the same as here."
)


def all_well(fleet: Fleet, layers: Sequence[LayerSummary]) -> str:
    """Return the line that says so; silent workers are named and are no problem of a breaker."""
    names = listed((plain(layer.alias) for layer in layers), most=8)
    text = f"ok: {names} closed in {counted(len(fleet.live), 'worker')}"
    if fleet.silent:
        text += f"; silent: {listed(map(introduced, fleet.silent), most=5)}"
    return text


def next_trial(wait: float | None) -> str | None:
    """Return when the next trial is, in words; None: none is to come."""
    if wait is None:
        return None
    return f"in {ahead(wait)}" if wait > 0 else "due"


def unread(layer: LayerSummary) -> str:
    """Return that some workers do not read a layer, and for how long yet."""
    end = layer.suspect_seconds
    until = "until it is repaired, or --forget" if end is None else f"for {ahead(end)} yet"
    return f"not read in {len(layer.suspect)} of {counted(layer.count, 'worker')} {until}"


def _problems(layer: LayerSummary, now: float) -> Iterator[str]:
    name, standing = plain(layer.alias), layer.standing
    for group in layer.groups:
        if not group.closed and not (group.forced and standing):
            yield f"{name}: {_trouble(group, layer, now)}"
    if standing:
        held = sum(group.count for group in layer.groups if group.forced)
        where = f"in {held} of {counted(layer.count, 'worker')}"
        yield f"{name}: {standing_order(standing, now)} ({where})"
    if layer.suspect:
        yield f"{name}: {unread(layer)}"


def _trouble(group: Group, layer: LayerSummary, now: float) -> str:
    since = f"since {clock(group.since, now)} ({roughly(now - group.since)})"
    text = f"{plain(group.state)} in {group.count} of {counted(layer.count, 'worker')} {since}"
    trial = next_trial(group.retry_after)
    text += f"; next trial {trial}" if trial else ""
    return text + (f"; {plain(group.why)}" if group.why else "")
