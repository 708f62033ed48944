"""What the page shows of each alias and chain: plain values, ready to be printed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.contrib.admin.utils import quote
from django.utils.html import avoid_wrapping
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from django_resilient_cache import conf
from django_resilient_cache.admin import translated
from django_resilient_cache.admin.translated import Moment, Shape
from django_resilient_cache.breaker.states import State
from django_resilient_cache.conf.masking import shown_location
from django_resilient_cache.fleet.console.summary import LayerSummary, summarize
from django_resilient_cache.fleet.console.view import Fleet, Standing


@dataclass(frozen=True, kw_only=True, slots=True)
class StandingRow:
    """A standing order: what, who, why, until."""

    word: str
    actor: str
    reason: str
    until: str
    given: Moment | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """So many workers are in this state."""

    shape: Shape
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AliasRow:
    """One alias in all live workers."""

    alias: str
    anchor: str
    """Its id in the page."""
    locations: tuple[str, ...]
    """Where it keeps its entries, without credentials."""
    state: str
    """The worst that it is in anywhere, as a `State`'s value; "" where nobody knows."""
    shape: Shape
    counts: tuple[Count, ...]
    """By state, the worst first."""
    workers: int
    """Live workers, whether or not they have used it."""
    since: Moment | None = None
    """When the trouble began in the first of the workers in the worst state."""
    next_trial: float | None = None
    """Seconds until the first of them tries again; None: none of them will."""
    error: str | None = None
    missed: int = 0
    suspect: int = 0
    """Workers that do not read it for now."""
    suspect_left: str | None = None
    hit_share: str | None = None
    reads: int = 0
    standing: StandingRow | None = None

    @property
    def count(self) -> int:
        """How many workers are in the worst state."""
        return self.counts[0].count if self.counts else 0

    @property
    def trial(self) -> str | None:
        """When the first of them tries again, in words."""
        return trial_text(self.next_trial)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainRow:
    """A chain: its layers, nearest first, the authority last."""

    alias: str
    layers: tuple[AliasRow, ...]


def alias_rows(fleet: Fleet | None, now: float) -> tuple[AliasRow, ...]:
    """Return a row for each layer of any chain; None: nothing is known of the fleet."""
    aliases = conf.layer_aliases()
    if fleet is None:
        return tuple(_unknown(alias) for alias in aliases)
    return tuple(_row(layer, now) for layer in summarize(fleet, aliases))


def chain_rows(rows: Iterable[AliasRow]) -> tuple[ChainRow, ...]:
    """Return the chains, each with the rows of its layers."""
    known = {row.alias: row for row in rows}
    return tuple(
        ChainRow(alias=chain, layers=tuple(known[alias] for alias in conf.layers_of(chain)))
        for chain in conf.chain_aliases()
    )


def standing_row(standing: Standing, now: float) -> StandingRow:
    """Return a standing order as it is shown."""
    order = standing.order
    until = translated.moment(now + standing.left, now) if standing.left is not None else None
    return StandingRow(
        word=str(translated.ACTION_WORDS[order.action]),
        actor=order.actor,
        reason=order.reason,
        given=translated.moment(order.given, now),
        until=_("until revoked")
        if until is None or standing.left is None
        else _("until %(time)s (%(left)s left)")
        % {"time": until.text, "left": translated.duration(standing.left)},
    )


def anchor(kind: str, name: str) -> str:
    """Return an id for an element of the page."""
    return f"{kind}-{quote(name).replace(' ', '_20')}"


def trial_text(seconds: float | None) -> str | None:
    """Return when the next trial is made; None: none is to come."""
    if seconds is None:
        return None
    if seconds <= 0:
        return _("with the next call")
    return pgettext("next trial", "in %(time)s") % {"time": translated.duration(seconds)}


def _unknown(alias: str, standing: StandingRow | None = None) -> AliasRow:
    return AliasRow(
        alias=alias,
        anchor=anchor("breaker", alias),
        locations=tuple(shown_location(alias)),
        state="",
        shape=Shape("unknown", _("unknown")),
        counts=(),
        workers=0,
        standing=standing,
    )


def _row(layer: LayerSummary, now: float) -> AliasRow:
    standing = standing_row(layer.standing, now) if layer.standing else None
    if not layer.live:
        return _unknown(layer.alias, standing)
    worst, counts = layer.worst, _counts(layer)
    known = [group.last_error for group in layer.groups if group.last_error]
    return AliasRow(
        alias=layer.alias,
        anchor=anchor("breaker", layer.alias),
        locations=tuple(shown_location(layer.alias)),
        state=worst.state if worst else translated.UNUSED,
        shape=counts[0].shape,
        counts=counts,
        workers=layer.live,
        since=translated.moment(worst.since, now) if worst else None,
        next_trial=worst.retry_after if worst else None,
        error=translated.error_text(next(iter(known), None)),
        missed=layer.missed,
        suspect=len(layer.suspect),
        suspect_left=suspect_left(layer.suspect_seconds),
        reads=layer.reads,
        hit_share=_percent(layer.hits, layer.reads),
        standing=standing,
    )


def _counts(layer: LayerSummary) -> tuple[Count, ...]:
    counts = [
        Count(shape=translated.shape(group.state), count=group.count) for group in layer.groups
    ]
    if layer.unused:
        counts.append(Count(shape=translated.shape(translated.UNUSED), count=layer.unused))
    return tuple(counts)


def suspect_left(seconds: float | None) -> str | None:
    """Return for how long yet a layer is not read; None: no end is known."""
    return None if seconds is None else translated.duration(seconds)


def _percent(part: int, whole: int) -> str | None:
    share = {"share": 100 * part // whole} if whole else None
    return avoid_wrapping(_("%(share)d %%") % share) if share else None


def is_trouble(state: str) -> bool:
    """Whether a breaker in this state is not simply at work."""
    return state not in ("", translated.UNUSED, State.CLOSED.value)
