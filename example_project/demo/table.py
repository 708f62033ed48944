"""The live table: one line per second, 80 columns wide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from demo.traffic import Record, Span

#: (text, colour) -> text; the colour is left out where the output is no terminal.
Paint = Callable[[str, str], str]

CHAIN, BARE = "this chain: memory, then Redis", "bare django-redis"
LEGEND = """\
p50, p99: milliseconds per page.  mem, redis, none: where entries were found
(none: computed again).  breakers: of all workers.  hung: waiting for over 1 s."""
LEFT = (("s", 3), ("Redis", 7))
OURS = (
    ("req/s", 6),
    ("p50", 5),
    ("p99", 5),
    ("err", 4),
    ("mem", 5),
    ("redis", 6),
    ("none", 5),
    ("breakers", 13),
)
THEIRS = (("req/s", 6), ("p99", 6), ("err", 4), ("hung", 5))

BREAKER_COLOURS = {"closed": "green", "half": "yellow", "forced": "yellow", "open": "red"}


WARMING, HEALTHY, FROZEN, BACK = "start", "ok", "frozen", "back"


@dataclass(frozen=True, slots=True)
class Second:
    """One second of one site."""

    span: Span
    hung: int  # visitors waiting for more than a second at its end

    @classmethod
    def of(cls, record: Record, start: float, end: float) -> Second:
        return cls(record.span(start, end), record.hung(end))


@dataclass(frozen=True, slots=True)
class Row:
    second: int
    redis: str  # WARMING, HEALTHY, FROZEN or BACK
    ours: Second
    shares: tuple[float, float, float] | None  # memory, Redis, nowhere
    breakers: str
    theirs: Second | None


def width(columns: tuple[tuple[str, int], ...]) -> int:
    return sum(size for _, size in columns)


def header(paint: Paint, *, comparison: bool) -> list[str]:
    blocks = [LEFT, OURS, THEIRS] if comparison else [LEFT, OURS]
    groups = " " * width(LEFT) + f"  {CHAIN} ".ljust(width(OURS), "-")
    if comparison:
        groups += f"  {BARE} ".ljust(width(THEIRS), "-")
    titles = "".join(title.rjust(size) for block in blocks for title, size in block)
    return [*LEGEND.splitlines(), "", paint(groups, "cyan"), paint(titles, "cyan")]


def milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    value = seconds * 1000
    if value >= 10_000:
        return f"{seconds:.0f}s"
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def percent(share: float) -> str:
    return f"{share:.0%}"


def line(row: Row, paint: Paint) -> str:
    ours = row.ours.span
    shares = [percent(share) for share in row.shares] if row.shares else ["-"] * 3
    figures = [f"{ours.rate:.0f}", milliseconds(ours.p50), milliseconds(ours.p99)]
    second, redis = cells(LEFT, [str(row.second), row.redis])
    *middle, breakers = cells(OURS, [*figures, str(ours.errors), *shares, row.breakers])
    if ours.errors:
        middle = [paint(text, "red") for text in middle]
    redis = paint(redis, "red" if row.redis == FROZEN else "green")
    breakers = paint(breakers, BREAKER_COLOURS[row.breakers.split()[0]])
    return "".join([second, redis, *middle, breakers, _theirs(row.theirs, paint)])


def _theirs(second: Second | None, paint: Paint) -> str:
    if second is None:
        return ""
    span = second.span
    figures = [f"{span.rate:.0f}", milliseconds(span.p99), str(span.errors), str(second.hung)]
    text = "".join(cells(THEIRS, figures))
    return paint(text, "red") if second.hung or span.errors else text


def cells(columns: tuple[tuple[str, int], ...], texts: list[str]) -> list[str]:
    return [text.rjust(size) for (_, size), text in zip(columns, texts, strict=True)]
