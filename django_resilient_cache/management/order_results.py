"""Orders given, waited for, and what came of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from django_resilient_cache.fleet.board.order import Action, Order
from django_resilient_cache.fleet.console.control import BoardUnavailable, Control
from django_resilient_cache.fleet.console.view import Fleet, Progress
from django_resilient_cache.fleet.console.wording import (
    clock,
    counted,
    given_by,
    introduced,
    listed,
    ordered,
    plain,
)
from django_resilient_cache.management.arguments import Request
from django_resilient_cache.management.terminal import Page

_EVERY = 0.1
"""Seconds between two looks at how far the workers are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of one order."""

    progress: Progress
    waited: bool
    """Whether there was time for the workers to answer at all."""
    ended: Order | None
    """The standing order that this one put an end to."""
    forgotten: tuple[int, int] | None
    """How many missed keys were dropped in how many workers, as far as they have said; None: it
    was not ordered.
    """

    @property
    def workers(self) -> int:
        """How many workers it is for."""
        return len(self.progress.applied) + len(self.progress.waiting)

    @property
    def done(self) -> bool:
        """Whether all is well as far as one can know by now."""
        progress = self.progress
        return bool(self.workers) and (
            progress.complete or (not self.waited and not progress.superseded)
        )


def give(
    control: Control, fleet: Fleet, aliases: Sequence[str], request: Request, actor: str
) -> list[Outcome]:
    """Give the orders asked for, wait for the workers and return what came of it, by alias.

    Ctrl-C ends the waiting, not the orders.  Raises BoardUnavailable.
    """
    written: list[Order] = []
    try:
        for action in request.actions:
            length = request.seconds if action.stands else None
            written += control.give(
                aliases, action, actor=actor, reason=request.reason, seconds=length
            )
        progresses = _waited(control, written, request.wait)
    except BoardUnavailable as error:
        raise _unsure(error, written) from error
    outcomes = [
        Outcome(
            progress=progress,
            waited=request.wait > 0,
            ended=_ended(progress.order, fleet),
            forgotten=_forgotten(progress, fleet),
        )
        for progress in progresses
    ]
    return sorted(outcomes, key=lambda outcome: aliases.index(outcome.progress.order.alias))


def _unsure(error: BoardUnavailable, written: Sequence[Order]) -> BoardUnavailable:
    """Return the error with what had been done before it."""
    if not written:
        return error
    done = listed(f"{plain(order.alias)}: {ordered(order)}" for order in written)
    return BoardUnavailable(f"{error} Written before ({done}); how far it got is not known.")


def _waited(control: Control, orders: Sequence[Order], seconds: float) -> Sequence[Progress]:
    end = time.monotonic() + seconds
    progress = control.progress(orders)
    with suppress(KeyboardInterrupt):
        while time.monotonic() < end and not all(map(_settled, progress)):
            time.sleep(_EVERY)
            progress = control.progress(orders)
    return progress


def _settled(progress: Progress) -> bool:
    return progress.complete or progress.superseded is not None


def _ended(order: Order, before: Fleet) -> Order | None:
    standing = before.standing.get(order.alias)
    return standing.order if standing and order.action is not Action.FORGET else None


def _forgotten(progress: Progress, before: Fleet) -> tuple[int, int] | None:
    if progress.order.action is not Action.FORGET:
        return None
    applied = {worker.id for worker in progress.applied}
    views = (
        worker.layers.get(progress.order.alias) for worker in before.live if worker.id in applied
    )
    missed = [view.missed for view in views if view and view.missed]
    return sum(missed), len(missed)


def lines(outcomes: Sequence[Outcome], page: Page, now: float) -> Iterator[str]:
    """Yield what came of each order in words, and what it ended."""
    for outcome in outcomes:
        text = f"{_what(outcome.progress.order, now)}, {_how_far(outcome, now)}{_dropped(outcome)}"
        yield page.result(page.readable(text), good=outcome.done)
        if outcome.ended:
            text = f"  ended: {ordered(outcome.ended)}{given_by(outcome.ended, now)}"
            yield page.readable(text)


def _what(order: Order, now: float) -> str:
    text = f"{plain(order.alias)}: {ordered(order)}"
    if order.seconds is None:
        return text
    return f"{text} (until {clock(order.given + order.seconds, now)})"


def _how_far(outcome: Outcome, now: float) -> str:
    progress = outcome.progress
    if progress.superseded:
        return f"superseded: {ordered(progress.superseded)}{given_by(progress.superseded, now)}"
    if not outcome.workers:
        return "written to the board; no live worker to apply it"
    if not outcome.waited and progress.waiting:
        return f"written to the board; not waited for {counted(outcome.workers, 'worker')}"
    far = f"{len(progress.applied)} of {counted(outcome.workers, 'worker')}"
    silent = listed(plain(worker.name) for worker in progress.waiting)
    return f"applied by {far} in {progress.seconds:.1f} s{silent and f'; silent: {silent}'}"


def _dropped(outcome: Outcome) -> str:
    if outcome.forgotten is None:
        return ""
    keys, workers = outcome.forgotten
    return f"; {counted(keys, 'missed key')} in {counted(workers, 'worker')} dropped"


def complaint(outcomes: Sequence[Outcome]) -> str | None:
    """Return what went wrong and what to do; None: there was nobody to do it."""
    if any(outcome.progress.superseded for outcome in outcomes):
        return "Another order took the place of this one, see above; nothing more was tried."
    late = {worker.id: worker for outcome in outcomes for worker in outcome.progress.waiting}
    if not late:
        return None
    waited = max(outcome.progress.seconds for outcome in outcomes)
    return (
        f"Not applied within {waited:.1f} s by {listed(map(introduced, late.values()))}: stopped, "
        "frozen or cut off from the board. A worker that goes on applies the order then; "
        "--wait SECONDS waits longer."
    )
