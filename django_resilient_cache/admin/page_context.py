"""Everything the page shows, from one look at the board."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured

from django_resilient_cache.admin import headline, translated
from django_resilient_cache.admin.headline import Trouble
from django_resilient_cache.admin.layer_rows import AliasRow, ChainRow, alias_rows, chain_rows
from django_resilient_cache.admin.order_progress import ProgressRow, progress_rows
from django_resilient_cache.admin.worker_rows import WorkerRow, worker_rows
from django_resilient_cache.conf.masking import masked_in_prose
from django_resilient_cache.exceptions import ResilientCacheError
from django_resilient_cache.fleet.board.order import Order
from django_resilient_cache.fleet.console.control import Control
from django_resilient_cache.fleet.console.view import Fleet

#: Seconds between two looks: at rest, while an order is on its way, and at a board that is away.
AT_REST, ON_ITS_WAY, AWAY = 3, 1, 15

#: With each so many workers more, the page looks less often: what a look takes grows with them.
MANY = 200

#: What may be wrong with a board, rather than with this page.
NO_BOARD = (ResilientCacheError, ImproperlyConfigured)


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One look at the fleet, ready to be printed."""

    verdict: Trouble
    others: tuple[Trouble, ...]
    """What is wrong besides."""
    rows: tuple[AliasRow, ...]
    chains: tuple[ChainRow, ...]
    workers: tuple[WorkerRow, ...] = ()
    live: int = 0
    progress: tuple[ProgressRow, ...] = ()
    board: str | None = None
    at: translated.Moment | None = None
    refresh: int = AT_REST
    """Seconds until the next look."""
    known: bool = False
    """Whether the board has answered."""

    @property
    def zone(self) -> str:
        """The time zone of what is shown."""
        return translated.zone()

    @property
    def silent(self) -> int:
        """How many workers say nothing."""
        return len(self.workers) - self.live


def look(
    make_control: Callable[[], Control], orders: Sequence[Order] = (), asked: Collection[str] = ()
) -> Page:
    """Look at the board once: at the fleet, and at how far `orders` have got.

    `asked`: ids of workers to be shown with all that they say.
    """
    now = time.time()
    try:
        control = make_control()
        fleet = control.fleet()
        got = progress_rows(control.progress(orders)) if orders else ()
    except NO_BOARD as error:
        return _without_board(error, now)
    return _page(fleet, got, asked, now)


def _page(fleet: Fleet, got: tuple[ProgressRow, ...], asked: Collection[str], now: float) -> Page:
    aliases = alias_rows(fleet, now)
    verdict, *others = headline.found(aliases, fleet)
    on_its_way = any(not row.complete for row in got)
    return Page(
        verdict=verdict,
        others=tuple(others),
        rows=aliases,
        chains=chain_rows(aliases),
        workers=worker_rows(fleet.workers, now, asked),
        live=len(fleet.live),
        progress=got,
        board=masked_in_prose(fleet.board),
        at=translated.moment(now, now),
        refresh=(ON_ITS_WAY if on_its_way else AT_REST) * (1 + len(fleet.workers) // MANY),
        known=True,
    )


def _without_board(error: Exception, now: float) -> Page:
    aliases = alias_rows(None, now)
    return Page(
        verdict=headline.no_board(error),
        others=(),
        rows=aliases,
        chains=chain_rows(aliases),
        at=translated.moment(now, now),
        refresh=AWAY,
    )
