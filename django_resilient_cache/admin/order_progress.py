"""How far orders have got: carried from page to page in the address, signed, not in a session."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.core import signing
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_resilient_cache.admin import translated
from django_resilient_cache.fleet.board.order import Order
from django_resilient_cache.fleet.console.view import Progress

#: Seconds for which a page goes on saying how far an order has got.
SHOWN_SECONDS = 3600

SALT = "django_resilient_cache.admin.order_progress"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgressRow:
    """How far one order has got."""

    complete: bool
    text: str


def packed(orders: Iterable[Order]) -> str:
    """Return orders as a value for an address, to be read by this site alone."""
    return signing.dumps([order.to_record() for order in orders], salt=SALT, compress=True)


def unpacked(value: str) -> list[Order]:
    """Return the orders in an address; none if it is not ours or too old."""
    try:
        records = signing.loads(value, salt=SALT, max_age=SHOWN_SECONDS)
    except signing.BadSignature:
        return []
    return [order for order in map(Order.from_record, records) if order]


def progress_rows(progress: Sequence[Progress]) -> tuple[ProgressRow, ...]:
    """Return what is said of each order."""
    return tuple(
        ProgressRow(complete=each.complete and bool(each.applied), text=_text(each))
        for each in progress
    )


def _text(progress: Progress) -> str:
    order = progress.order
    subject = _("%(alias)s: %(order)s") % {
        "alias": order.alias,
        "order": translated.ACTION_WORDS[order.action],
    }
    return f"{subject}: {_got(progress)}"


def _got(progress: Progress) -> str:
    other, applied = progress.superseded, len(progress.applied)
    if other is not None:
        return _("%(actor)s gave another order at the same time, which holds: %(order)s") % {
            "actor": other.actor,
            "order": translated.ACTION_WORDS[other.action],
        }
    of = applied + len(progress.waiting)
    if not of:
        return _("no worker is there to apply it; those that start will")
    text = ngettext(
        "applied by %(count)d of %(workers)d worker",
        "applied by %(count)d of %(workers)d workers",
        of,
    ) % {"count": applied, "workers": of}
    return "; ".join([text, *_laggards(progress)])


def _laggards(progress: Progress) -> list[str]:
    silent = [worker.name for worker in progress.waiting if worker.stale]
    waiting = [worker.name for worker in progress.waiting if not worker.stale]
    texts = []
    if silent:
        texts.append(_("silent: %(names)s") % {"names": translated.some(silent)})
    if waiting:
        texts.append(_("waiting for %(names)s") % {"names": translated.some(waiting)})
    return texts
