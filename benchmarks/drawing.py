"""The picture of an outage as an SVG: two panels over one time axis, light and dark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import log10

from benchmarks.outage import Course, Phases, Point, typical

WIDTH, HEIGHT = 880, 594
LEFT, RIGHT = 76, 24
TOP, PANEL, GAP = 118, 168, 52

#: One class of line for each set-up, in the order in which they are drawn.
LINES = ("memory", "bare", "chain")

# The card brings its own background: it is readable whatever page it stands on, also where the
# page's theme and the system's differ.
STYLE = """
.card { fill: #ffffff; stroke: #d0d7de; }
text { font: 13px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-size: 17px; font-weight: 600; }
.panel { font-weight: 600; }
.quiet { fill: #59636e; }
.small { font-size: 11.5px; }
.phase { font-weight: 600; fill: #59636e; }
.ice { fill: #cfe6fb; fill-opacity: 0.55; }
.ice-name { font-weight: 600; fill: #0550ae; }
.grid { stroke: #d8dee4; stroke-width: 1; }
.line { fill: none; stroke-linejoin: round; stroke-linecap: round; }
.memory { stroke: #8c959f; stroke-width: 6; stroke-opacity: 0.6; }
.bare { stroke: #cf222e; stroke-width: 2.5; stroke-dasharray: 7 4; }
.chain { stroke: #1a7f37; stroke-width: 2.5; }
.value { font-weight: 600; }
.value-bare { fill: #cf222e; }
.value-chain { fill: #1a7f37; }
@media (prefers-color-scheme: dark) {
  .card { fill: #0d1117; stroke: #3d444d; }
  text { fill: #f0f6fc; }
  .quiet, .phase { fill: #9198a1; }
  .ice { fill: #1f6feb; fill-opacity: 0.22; }
  .ice-name { fill: #79c0ff; }
  .grid { stroke: #2a313a; }
  .memory { stroke: #9198a1; }
  .bare { stroke: #ff7b72; }
  .chain { stroke: #3fb950; }
  .value-bare { fill: #ff7b72; }
  .value-chain { fill: #3fb950; }
}
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One measure: its name, the decades of its axis, and how its figures are written."""

    name: str
    value: Callable[[Point], float]
    decades: tuple[int, int]
    written: Callable[[float], str]
    top: float

    def y(self, value: float) -> float:
        low, high = self.decades
        share = (log10(max(value, 1e-9)) - low) / (high - low)
        return self.top + PANEL * (1 - min(1.0, max(0.0, share)))


def drawn(courses: Sequence[Course], phases: Phases, notes: Sequence[str]) -> str:
    """Return the picture of the courses, which come in the order of `LINES`."""
    total = phases.healthy + phases.frozen + phases.back
    panels = (
        _panel(courses, "Cache calls per second", lambda p: p.throughput, _count, TOP),
        _panel(courses, "99th percentile of a call", lambda p: p.p99, _duration, TOP + PANEL + GAP),
    )

    def x(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / total

    middle = _frozen(courses, phases)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-labelledby="title description">',
        '<title id="title">Redis freezes for a while: cache calls per second and their '
        "99th percentile</title>",
        f'<desc id="description">{escape(_description(courses, middle, phases))}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>',
        _text(24, 34, "Redis hangs: what the site's cache calls do", "title"),
        *_legend(courses),
        *_phases(phases, x),
    ]
    for panel in panels:
        parts += _axes(panel)
        parts += [
            _line(panel, course, x, name) for course, name in zip(courses, LINES, strict=True)
        ]
        parts += _values(panel, middle, x(phases.healthy + phases.frozen / 2))
    parts += _seconds(total, x)
    parts += [
        _text(24, HEIGHT - 18 * (len(notes) - number), note, "quiet small")
        for number, note in enumerate(notes)
    ]
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _frozen(courses: Sequence[Course], phases: Phases) -> list[Point]:
    """Return what each course is like while the server is frozen."""
    begin = phases.healthy
    return [typical(course, begin, begin + phases.frozen) for course in courses]


def _panel(
    courses: Sequence[Course],
    name: str,
    value: Callable[[Point], float],
    written: Callable[[float], str],
    top: float,
) -> Panel:
    values = [log10(max(value(point), 1e-9)) for course in courses for point in course.points]
    decades = (int(min(values) // 1), int(-(-max(values) // 1)))
    return Panel(name, value, decades, written, top)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _legend(courses: Sequence[Course]) -> list[str]:
    parts, x = [], 24.0
    for course, name in reversed(list(zip(courses, LINES, strict=True))):
        parts.append(f'<path class="line {name}" d="M{x:.1f} 58h34"/>')
        parts.append(_text(x + 42, 62.5, course.name))
        x += 42 + 7.2 * len(course.name) + 28
    return parts


def _phases(phases: Phases, x: Callable[[float], float]) -> list[str]:
    freeze, thaw = phases.healthy, phases.healthy + phases.frozen
    end = thaw + phases.back
    top, bottom = TOP - 26, TOP + 2 * PANEL + GAP
    return [
        f'<rect class="ice" x="{x(freeze):.1f}" y="{top}" width="{x(thaw) - x(freeze):.1f}" '
        f'height="{bottom - top}"/>',
        _text(x(freeze / 2), top - 6, "Redis healthy", "phase", "middle"),
        _text(x((freeze + thaw) / 2), top - 6, "Redis frozen (SIGSTOP)", "ice-name", "middle"),
        _text(x((thaw + end) / 2), top - 6, "Redis back", "phase", "middle"),
    ]


def _axes(panel: Panel) -> list[str]:
    parts = [
        _text(24, panel.top - 14, panel.name, "panel"),
        _text(WIDTH - RIGHT, panel.top - 14, "log scale", "quiet", "end"),
    ]
    for decade in range(panel.decades[0], panel.decades[1] + 1):
        y = panel.y(10.0**decade)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(_text(LEFT - 8, y + 4.5, panel.written(10.0**decade), "quiet", "end"))
    return parts


def _line(panel: Panel, course: Course, x: Callable[[float], float], name: str) -> str:
    points = " ".join(
        f"{x(point.time):.1f},{panel.y(panel.value(point)):.1f}" for point in course.points
    )
    return f'<polyline class="line {name}" points="{points}"/>'


def _values(panel: Panel, middle: Sequence[Point], x: float) -> list[str]:
    """Write the two figures that the picture is about beside their lines."""
    _, bare, chain = (panel.value(point) for point in middle)
    # On the inner side of each line: that is where the room is.
    below, above = (20, -10) if panel.y(chain) < panel.y(bare) else (-10, 20)
    return [
        _text(x, panel.y(chain) + below, panel.written(chain), "value value-chain", "middle"),
        _text(x, panel.y(bare) + above, panel.written(bare), "value value-bare", "middle"),
    ]


def _seconds(total: float, x: Callable[[float], float]) -> list[str]:
    y = TOP + 2 * PANEL + GAP
    step = next(step for step in (0.5, 1, 2, 5, 10, 60, 600) if total / step <= 14)
    ticks = [step * number for number in range(int(total / step) + 1)]
    labels = [_text(x(tick), y + 20, f"{tick:g} s", "quiet", "middle") for tick in ticks]
    return [f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>', *labels]


def _count(value: float) -> str:
    if value < 1000:
        return f"{value:.3g}"
    return f"{value:,.0f}" if value < 100 or value % 1000 == 0 else f"{round(value, -2):,.0f}"


def _duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.3g} s"
    milliseconds = seconds * 1e3
    return f"{milliseconds:.1g} ms" if milliseconds < 1 else f"{milliseconds:.0f} ms"


def _description(courses: Sequence[Course], middle: Sequence[Point], phases: Phases) -> str:
    what = "; ".join(
        f"{course.name}: {_count(point.throughput)} calls per second, 99th percentile "
        f"{_duration(point.p99)}"
        for course, point in reversed(list(zip(courses, middle, strict=True)))
    )
    return (
        f"Line charts with logarithmic axes over {phases.healthy:g} seconds with a healthy Redis, "
        f"{phases.frozen:g} seconds with a frozen one and {phases.back:g} seconds after it came "
        f"back. While it is frozen (medians): {what}."
    )
