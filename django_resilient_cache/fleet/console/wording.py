"""How times, states and other people's words are put to an operator."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.utils import timezone

from django_resilient_cache.fleet.board.order import Action, Order
from django_resilient_cache.fleet.console.view import Standing, Worker

_DAY, _HOUR, _MINUTE = 86400, 3600, 60
_ABSURD = 1000 * 366 * _DAY
"""No clock goes that far, whatever a board may hold."""

#: With no end, as people say it.
FOR_EVER = "until revoked"


def exactly(seconds: float) -> str:
    """Return a length of time that someone typed: "1 h 1 min 5 s", "0.5 s"."""
    if not abs(seconds) < _ABSURD:
        return "?"
    minutes, rest = divmod(seconds, _MINUTE)
    hours, minutes = divmod(int(minutes), _MINUTE)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (round(rest, 3), "s")]
    return " ".join(f"{count:g} {unit}" for count, unit in parts if count) or "0 s"


def roughly(seconds: float) -> str:
    """Return how long something has lasted or will: "12 s", "4 min", "2 h 5 min", "3 d 4 h"."""
    if not abs(seconds) < _ABSURD:
        return "?"
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def ahead(seconds: float) -> str:
    """Return how long something is still to come; a second begun is a second to wait."""
    return roughly(-(-seconds // 1))


def clock(at: float, now: float) -> str:
    """Return a moment in the site's time zone; with the day, where it is not today."""
    if not abs(at) < _ABSURD:
        return "?"
    moment, today = _local(at), _local(now)
    return moment.strftime("%H:%M:%S" if moment.date() == today.date() else "%d %b %H:%M")


def heading_clock(now: float) -> str:
    """Return the time of day with its time zone, to which all others on the page belong."""
    return _local(now).strftime("%H:%M:%S %Z")


def _local(at: float) -> datetime:
    return datetime.fromtimestamp(at, timezone.get_default_timezone())


def plain(text: str) -> str:
    """Return someone else's words on one line, with nothing that a terminal would obey."""
    return "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in _line(text)
    )


def _line(text: str) -> str:
    return " ".join(text.split())


def shorten(text: str, width: int) -> str:
    """Return a text cut to `width` letters, the last one a "…" where something is missing."""
    if len(text) <= width:
        return text
    return (text[: max(0, width - 1)].rstrip() + "…")[: max(0, width)]


def counted(count: int, noun: str) -> str:
    """Return "1 worker", "8 workers"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(names: Iterable[str], most: int = 20) -> str:
    """Return names as a list in words, and how many more there are."""
    shown = list(names)
    more = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {more} more" if more > 0 else "")


def introduced(worker: Worker) -> str:
    """Return a worker's name and what it runs: "web1/4711 (gunicorn)"."""
    program = plain(worker.program)
    return f"{plain(worker.name)} ({program})" if program else plain(worker.name)


def ordered(order: Order) -> str:
    """Return what was ordered: "reset", "force open for 1 h", "force open until revoked"."""
    if not order.action.stands:
        return order.action.value
    length = FOR_EVER if order.seconds is None else f"for {exactly(order.seconds)}"
    return f"{order.action.value} {length}"


def standing_order(standing: Standing, now: float) -> str:
    """Return a standing order as one says it: its end, its giver, its reason."""
    order, left = standing.order, standing.left
    end = FOR_EVER if left is None else f"until {clock(now + left, now)} ({ahead(left)} left)"
    return f"{order.action.value} {end}{given_by(order, now)}"


def given_by(order: Order, now: float) -> str:
    """Return who gave an order, when and why, as the rest of a sentence."""
    because = f": {plain(order.reason)}" if order.reason.strip() else ""
    return f", by {plain(order.actor)} at {clock(order.given, now)}{because}"


#: What an action is called among the options.
OPTIONS = {
    Action.RESET: "--reset",
    Action.AUTO: "--auto",
    Action.FORCE_OPEN: "--force-open",
    Action.FORCE_CLOSED: "--force-closed",
    Action.FORGET: "--forget",
}
