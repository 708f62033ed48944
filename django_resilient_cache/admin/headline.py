"""The sentence at the top of the page: what is wrong, the worst first, or that nothing is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_resilient_cache.admin import translated
from django_resilient_cache.admin.layer_rows import AliasRow, is_trouble
from django_resilient_cache.breaker.states import State
from django_resilient_cache.conf.masking import masked_in_prose
from django_resilient_cache.fleet.console.control import SharingOff
from django_resilient_cache.fleet.console.summary import rank
from django_resilient_cache.fleet.console.view import Fleet, Worker

#: How loud a trouble is shown.
BAD, DOUBTFUL, NOTED, FINE = "bad", "doubtful", "noted", "fine"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """One sentence."""

    level: str
    slug: str
    """Names its shape."""
    text: str
    aside: str = ""
    """What changes with every look, such as a countdown; goes on after the sentence."""
    help: str = ""
    """What to do about it."""


def found(rows: Sequence[AliasRow], fleet: Fleet) -> list[Trouble]:
    """Return what is wrong, the worst first; one sentence that all is well if nothing is."""
    if not rows:
        return [_no_chain()]
    if not fleet.live:
        return [_no_worker(fleet)]
    troubled = sorted(
        (row for row in rows if is_trouble(row.state)),
        key=lambda row: (rank(row.state), -row.count),
    )
    troubles = [_of_state(row) for row in troubled]
    troubles += [_suspect(row) for row in rows if row.suspect]
    troubles += _silent(fleet, else_well=not troubles)
    missed = [_missed(row) for row in rows if row.missed and not is_trouble(row.state)]
    return [*(troubles or [_all_closed(len(fleet.live))]), *missed]


def no_board(error: Exception) -> Trouble:
    """Return why nothing is known of the workers."""
    if isinstance(error, SharingOff):
        return Trouble(
            level=BAD,
            slug="unknown",
            text=_("Nothing is known of the workers: they share nothing."),
            help=_(
                "RESILIENT_CACHE_CONTROL_ALIAS is None. Remove it to share through a private "
                "directory on this host, or name an alias in CACHES that all workers reach."
            ),
        )
    text = _("Nothing is known of the workers: the board does not answer.")
    if isinstance(error, ImproperlyConfigured):
        text = _("Nothing is known of the workers: the board is not configured rightly.")
    return Trouble(level=BAD, slug="unknown", text=text, help=masked_in_prose(str(error)))


def silent_text(workers: Sequence[Worker]) -> str:
    """Return which workers say nothing."""
    names = translated.some([worker.name for worker in workers])
    text = ngettext(
        "%(count)d worker is silent: %(names)s",
        "%(count)d workers are silent: %(names)s",
        len(workers),
    )
    return text % {"count": len(workers), "names": names}


def _of_state(row: AliasRow) -> Trouble:
    sentences = {
        State.OPEN.value: _open,
        State.HALF_OPEN.value: _half_open,
        State.FORCED_OPEN.value: _forced_open,
        State.FORCED_CLOSED.value: _forced_closed,
    }
    text = sentences.get(row.state, _other)(row)
    if row.since:
        text = _("%(sentence)s since %(time)s") % {"sentence": text, "time": row.since.text}
    error = None if row.standing else translated.error_name(row.error)
    if error:
        text = f"{text} ({error})"
    bad = row.state in (State.OPEN.value, State.FORCED_OPEN.value)
    return Trouble(
        level=BAD if bad else DOUBTFUL, slug=row.shape.slug, text=text, aside=_aside(row)
    )


def _counted(row: AliasRow) -> dict[str, object]:
    return {"alias": row.alias, "count": row.count, "workers": row.workers}


def _open(row: AliasRow) -> str:
    return ngettext(
        "%(alias)s is open in %(count)d of %(workers)d worker",
        "%(alias)s is open in %(count)d of %(workers)d workers",
        row.workers,
    ) % _counted(row)


def _half_open(row: AliasRow) -> str:
    return ngettext(
        "%(alias)s is half-open in %(count)d of %(workers)d worker",
        "%(alias)s is half-open in %(count)d of %(workers)d workers",
        row.workers,
    ) % _counted(row)


def _forced_open(row: AliasRow) -> str:
    return ngettext(
        "%(alias)s is forced open in %(count)d of %(workers)d worker",
        "%(alias)s is forced open in %(count)d of %(workers)d workers",
        row.workers,
    ) % _counted(row)


def _forced_closed(row: AliasRow) -> str:
    return ngettext(
        "%(alias)s is forced closed in %(count)d of %(workers)d worker",
        "%(alias)s is forced closed in %(count)d of %(workers)d workers",
        row.workers,
    ) % _counted(row)


def _other(row: AliasRow) -> str:
    return f"{row.alias}: {row.shape.word}, {row.count}/{row.workers}"


def _aside(row: AliasRow) -> str:
    if row.standing and row.state in (State.FORCED_OPEN.value, State.FORCED_CLOSED.value):
        return _("by %(actor)s, %(until)s") % {
            "actor": row.standing.actor,
            "until": row.standing.until,
        }
    if row.next_trial is None:
        return ""
    if row.next_trial <= 0:
        return _("next trial with the next call")
    return _("next trial in %(time)s") % {"time": translated.duration(row.next_trial)}


def _suspect(row: AliasRow) -> Trouble:
    text = ngettext(
        "%(alias)s is written but not read in %(count)d of %(workers)d worker: it missed a clear() "
        "or more changes than are remembered",
        "%(alias)s is written but not read in %(count)d of %(workers)d workers: it missed a "
        "clear() or more changes than are remembered",
        row.workers,
    ) % {**_counted(row), "count": row.suspect}
    aside = _("for another %(time)s") % {"time": row.suspect_left} if row.suspect_left else ""
    return Trouble(level=DOUBTFUL, slug="suspect", text=text, aside=aside)


def _missed(row: AliasRow) -> Trouble:
    text = ngettext(
        "%(alias)s has yet to be repaired: it missed the change of %(count)d key",
        "%(alias)s has yet to be repaired: it missed the change of %(count)d keys",
        row.missed,
    ) % {"alias": row.alias, "count": row.missed}
    return Trouble(level=NOTED, slug="suspect", text=text)


def _silent(fleet: Fleet, *, else_well: bool) -> Iterator[Trouble]:
    if not fleet.silent:
        return
    text = silent_text(fleet.silent)
    if else_well:
        text = ngettext(
            "%(silent)s; all breakers are closed in the other %(count)d",
            "%(silent)s; all breakers are closed in the other %(count)d",
            len(fleet.live),
        ) % {"silent": text, "count": len(fleet.live)}
    yield Trouble(level=DOUBTFUL, slug="stale", text=text)


def _all_closed(workers: int) -> Trouble:
    text = ngettext(
        "All breakers are closed in %(count)d worker",
        "All breakers are closed in %(count)d workers",
        workers,
    )
    return Trouble(level=FINE, slug="closed", text=text % {"count": workers})


def _no_worker(fleet: Fleet) -> Trouble:
    text = _("No worker reports")
    if fleet.silent:
        text = f"{text}; {silent_text(fleet.silent)}"
    return Trouble(
        level=DOUBTFUL,
        slug="unknown",
        text=text,
        help=_(
            "Looked at: %(board)s. A worker reports once it has used a chain. Workers on another "
            "host or of another user are seen on a board that they share: name an alias in CACHES "
            "that all of them reach in RESILIENT_CACHE_CONTROL_ALIAS."
        )
        % {"board": masked_in_prose(fleet.board)},
    )


def _no_chain() -> Trouble:
    return Trouble(
        level=DOUBTFUL,
        slug="unknown",
        text=_("No chain is configured"),
        help=_("An alias in CACHES is a chain if its BACKEND is %(backend)s.")
        % {"backend": "django_resilient_cache.backend.ResilientCache"},
    )
