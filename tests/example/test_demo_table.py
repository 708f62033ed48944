from __future__ import annotations

from demo import table
from demo.table import Row, Second
from demo.traffic import Span

WELL = Second(Span(rate=100.2, p50=0.0042, p99=0.0313, slowest=0.05, errors=0), hung=0)
HUNG = Second(Span(rate=0.0, p50=None, p99=None, slowest=None, errors=0), hung=8)
SLOW = Second(Span(rate=1234.0, p50=6.0213, p99=16.0213, slowest=17.0, errors=12), hung=0)
HEALTHY = Row(7, table.HEALTHY, WELL, (0.81, 0.15, 0.04), "closed 3/3", WELL)
FROZEN = Row(12, table.FROZEN, WELL, (0.84, 0.0, 0.16), "open 3/3", HUNG)


def plain(text: str, colour: str) -> str:
    return text


def marked(text: str, colour: str) -> str:
    return f"<{colour}:{text.strip()}>"


def test_lines_and_header_align_within_80_columns() -> None:
    lines = [
        *table.header(plain, comparison=True),
        table.line(HEALTHY, plain),
        table.line(FROZEN, plain),
        table.line(Row(999, table.WARMING, SLOW, None, "closed 16/16", SLOW), plain),
    ]
    assert len({len(line) for line in lines[4:]}) == 1
    assert max(map(len, lines)) <= 80


def test_a_line_says_what_was_measured() -> None:
    cells = table.line(HEALTHY, plain).split()
    assert cells[:6] == ["7", "ok", "100", "4.2", "31.3", "0"]
    assert cells[6:11] == ["81%", "15%", "4%", "closed", "3/3"]
    assert cells[11:] == ["100", "31.3", "0", "0"]


def test_a_hung_site_has_no_times() -> None:
    assert table.line(FROZEN, plain).split()[-4:] == ["0", "-", "0", "8"]


def test_without_comparison_a_line_ends_with_the_breakers() -> None:
    row = Row(7, table.HEALTHY, WELL, None, "closed 3/3", None)
    assert table.line(row, plain).split()[-5:] == ["-", "-", "-", "closed", "3/3"]
    assert "bare" not in "".join(table.header(plain, comparison=False))


def test_colours_point_at_the_outage_and_not_at_the_healthy_parts() -> None:
    assert "<red:frozen>" in table.line(FROZEN, marked)
    assert "<red:open 3/3>" in table.line(FROZEN, marked)
    assert "<red:" not in table.line(HEALTHY, marked)
