"""What happened, in five lines of measured figures, and whether the claims held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: Share of the usual rate that the site must keep while Redis is frozen.
KEPT = 0.75
#: Seconds that a page may take beyond the budget for its cache calls and what the slowest page
#: took before: it is computed instead, on a machine that plays the visitors as well.
MARGIN = 0.5


@dataclass(frozen=True, slots=True)
class Experience:
    """One site's outage, as its visitors saw it."""

    usual_rate: float  # pages per second before
    frozen_rate: float  # pages per second while Redis was frozen
    usual_slowest: float  # seconds, before
    slowest: float  # seconds, from the freeze to the end
    errors: int  # in the whole run
    hung: int  # most visitors waiting for more than a second at once
    visitors: int
    lost_seconds: int  # seconds since the freeze with less than half of the usual pages

    @property
    def kept(self) -> float:
        """The share (0 to 1) of the usual rate that was left while Redis was frozen."""
        return min(1.0, self.frozen_rate / self.usual_rate) if self.usual_rate else 0.0


@dataclass(frozen=True, slots=True)
class Breakers:
    workers: int
    opened: int  # workers whose breaker opened
    opened_after: float | None  # seconds from the freeze until the last of them had
    closed_after: float | None  # seconds from the thaw until all were closed; None: not seen


def broken_claims(site: Experience, breakers: Breakers, budget: float) -> list[str]:
    """What did not hold, in words; empty if all did. `budget`: seconds for a page's cache calls."""
    limit = budget + site.usual_slowest + MARGIN
    checks = [
        (site.errors == 0, f"{site.errors} pages failed; none should"),
        (
            site.kept >= KEPT,
            f"only {site.kept:.0%} of the usual pages were served while Redis was frozen; "
            f"at least {KEPT:.0%} should be",
        ),
        (
            site.slowest <= limit,
            f"the slowest page took {site.slowest:.2f} s; at most {limit:.2f} s is allowed",
        ),
        (
            breakers.opened == breakers.workers,
            f"the breaker opened in {breakers.opened} of {breakers.workers} workers",
        ),
        (breakers.closed_after is not None, "not all breakers had closed again by the end"),
    ]
    return [words for held, words in checks if not held]


def summary(chain: Experience, breakers: Breakers, bare: Experience | None) -> list[str]:
    """A heading and five lines, one column per site."""
    rows: list[tuple[str, Callable[[Experience], str]]] = [
        ("Served while Redis was frozen", lambda site: f"{site.kept:.0%} of the usual rate"),
        ("Slowest page", lambda site: f"{site.slowest:.2f} s"),
        ("Errors; visitors hung", lambda site: f"{site.errors}; {site.hung} of {site.visitors}"),
        ("Time without normal service", lambda site: f"{site.lost_seconds} s"),
    ]
    sites = [chain] if bare is None else [chain, bare]
    lines = [_columns("", ["this chain", "bare django-redis"][: len(sites)])]
    lines += [_columns(name, [show(site) for site in sites]) for name, show in rows]
    return [*lines, _columns("Breakers, one per worker", [_breakers(breakers)])]


def _columns(name: str, texts: list[str]) -> str:
    return (f"{name:<32}" + "".join(f"{text:<25}" for text in texts)).rstrip()


def _breakers(breakers: Breakers) -> str:
    if breakers.opened_after is None:
        return "none opened"
    closed = "not closed again"
    if breakers.closed_after is not None:
        closed = f"closed again in {breakers.closed_after:.1f} s"
    opened = f"{breakers.opened} of {breakers.workers} open in {breakers.opened_after:.1f} s"
    return f"{opened}, {closed}"
