"""States, times, durations and names as the page says them, in the reader's language and zone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, isfinite

from django.conf import settings
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import avoid_wrapping
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext_lazy

from django_resilient_cache.breaker.states import State
from django_resilient_cache.conf.masking import masked_in_prose
from django_resilient_cache.fleet.board.order import Action

#: Shown of an error's text; the log has the rest.
LONGEST_ERROR = 300

#: Below this many seconds they are counted, above it minutes and hours are.
COUNTED_IN_SECONDS = 120

#: Names in one sentence; the others are counted.
NAMES = 3

#: What a worker that has not used an alias is said to be, beside the breaker's own states.
UNUSED = "unused"

STATE_WORDS = {
    State.CLOSED.value: pgettext_lazy("breaker state", "closed"),
    State.OPEN.value: pgettext_lazy("breaker state", "open"),
    State.HALF_OPEN.value: pgettext_lazy("breaker state", "half-open"),
    State.FORCED_OPEN.value: pgettext_lazy("breaker state", "forced open"),
    State.FORCED_CLOSED.value: pgettext_lazy("breaker state", "forced closed"),
    UNUSED: pgettext_lazy("breaker state", "not used yet"),
}

STATE_MEANINGS = {
    State.CLOSED.value: gettext_lazy("At work: the cache is called."),
    State.OPEN.value: gettext_lazy(
        "Skipped at once, without a call, since too many failed. A trial follows after a while."
    ),
    State.HALF_OPEN.value: gettext_lazy(
        "On trial: one call at a time goes through. Enough that succeed close it, one that fails "
        "opens it again."
    ),
    State.FORCED_OPEN.value: gettext_lazy("Skipped by order, until the order ends."),
    State.FORCED_CLOSED.value: gettext_lazy("Called by order, however often it fails."),
    UNUSED: gettext_lazy("The worker has not called this cache since it started."),
}

ACTION_WORDS = {
    Action.RESET: gettext_lazy("Reset"),
    Action.AUTO: gettext_lazy("Automatic again"),
    Action.FORCE_OPEN: gettext_lazy("Force open"),
    Action.FORCE_CLOSED: gettext_lazy("Force closed"),
    Action.FORGET: gettext_lazy("Forget missed keys"),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A state as word and shape."""

    slug: str
    """Names the shape and the colour: "half-open"."""
    word: str


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, in the reader's zone."""

    text: str
    """Hours and minutes, with the date unless it is today."""
    full: str
    iso: str


def shape(state: str) -> Shape:
    """Return how a state is shown; a word that a newer worker may use is shown as it is."""
    word = STATE_WORDS.get(state)
    return Shape("unknown", state) if word is None else Shape(state.replace(" ", "-"), str(word))


def legend() -> list[tuple[Shape, str]]:
    """Return each state with what it means."""
    return [(shape(state), str(meaning)) for state, meaning in STATE_MEANINGS.items()]


def zone() -> str:
    """Return the name of the reader's time zone."""
    return timezone.get_current_timezone_name() if settings.USE_TZ else settings.TIME_ZONE


def moment(seconds: float, now: float) -> Moment | None:
    """Return what people call a time given in seconds since the epoch; None: it is none."""
    try:
        at, today = _local(seconds), _local(now)
    except (OverflowError, OSError, ValueError):  # another host's clock may say anything
        return None
    text = full = date_format(at, "H:i:s")
    if at.date() == today.date():
        text = date_format(at, "H:i")
    else:
        day = date_format(at, "SHORT_DATE_FORMAT")
        text, full = f"{day} {date_format(at, 'H:i')}", f"{day} {full}"
    return Moment(text, full, at.isoformat(timespec="seconds"))


def duration(seconds: float) -> str:
    """Return a span as people say it: "6 s", "12 min", "3 h 20 min", "2 d 4 h"."""
    return avoid_wrapping(_duration(seconds))


def some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    shown, more = ", ".join(names[:NAMES]), len(names) - NAMES
    if more <= 0:
        return shown
    text = ngettext("%(names)s and %(count)d more", "%(names)s and %(count)d more", more)
    return text % {"names": shown, "count": more}


def error_text(error: str | None) -> str | None:
    """Return an error as it may be shown: no credentials, not too long."""
    if not error:
        return None
    text = masked_in_prose(error)
    return text if len(text) <= LONGEST_ERROR else f"{text[: LONGEST_ERROR - 1]}…"


def error_name(error: str | None) -> str | None:
    """Return the type of an error written as "Type: text"."""
    text = error_text(error)
    return text.partition(":")[0].strip()[:60] if text else None


def _duration(seconds: float) -> str:
    left = seconds if isfinite(seconds) and seconds > 0 else 0.0
    if ceil(left) < COUNTED_IN_SECONDS:
        return _seconds(ceil(left))
    minutes = round(left / 60)
    hours, days = minutes // 60, round(left / 3600) // 24
    if not hours:
        return _minutes(minutes)
    if not days:
        return _hours(hours) + (f" {_minutes(minutes % 60)}" if minutes % 60 else "")
    hours = round(left / 3600) % 24
    return _days(days) + (f" {_hours(hours)}" if hours else "")


def _seconds(count: int) -> str:
    return _("%(count)d s") % {"count": count}


def _minutes(count: int) -> str:
    return _("%(count)d min") % {"count": count}


def _hours(count: int) -> str:
    return _("%(count)d h") % {"count": count}


def _days(count: int) -> str:
    return _("%(count)d d") % {"count": count}


def _local(seconds: float) -> datetime:
    at = datetime.fromtimestamp(seconds, tz=UTC)
    if settings.USE_TZ:
        return timezone.localtime(at)
    return timezone.make_naive(at, timezone.get_default_timezone())
