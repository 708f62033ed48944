"""`python -m benchmarks uvicorn`: a site with 200 requests at a time, its Redis healthy and frozen.

One uvicorn process serves one view that uses the cache a few times (asgi_site.py); the load comes
from another process (asgi_load.py).  Once for each way in which a layer is called from an event
loop.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path
from time import monotonic
from typing import Any

from benchmarks.report import PACKAGES, PlainTable, about
from benchmarks.result import Goal
from benchmarks.servers import HOST, NoServerError, Server, free_port
from benchmarks.setup import LIMIT

#: How a layer is called from the event loop: by the loop itself, by threads that wait for its
#: sockets (where greenlet is not installed), by the threads of the thread strategy.
WAYS = ("sockets", "sockets-on-threads", "thread")

CONNECTIONS = 200
#: Milliseconds that a request does something else, where the site is to have time to spare: with
#: all its time taken, an event loop is late whatever its caches do.
PAUSE = 250
#: Seconds that a call may take beyond its limit.
GRACE = 0.05
#: Seconds of load before anything counts.
WARM = 1.0

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Window:
    """What was seen during some seconds of load; all in seconds, sorted."""

    throughput: float
    """Requests per second."""
    processor: float
    """Seconds of the processor's time that the site took for a request."""
    answers: list[float]
    calls: list[float]
    lags: list[float]
    own_lags: list[float]
    """Without what the site waited for the processor; see `Record`."""
    unanswered: int
    """Calls of the Redis layer, of those while the load was on."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table; without a goal it is there to be compared."""

    way: str
    what: str
    figure: float
    unit: str
    goal: Goal | None = None
    beside: str = ""

    @property
    def met(self) -> bool | None:
        return None if self.goal is None else self.goal.met(self.figure)

    def cells(self) -> tuple[str, ...]:
        met = {None: "", True: "yes", False: "no"}[self.met]
        figure = f"{self.figure:,.0f}" if self.figure >= 100 else f"{self.figure:.2f}"
        goal = str(self.goal or "")
        return self.way, self.what, f"{figure} {self.unit}", goal, met, self.beside


HEADINGS = ("called", "what", "figure", "goal", "met", "beside")
_WIDTHS = (19, 58, 9, 9, 3, 40)


class Site:
    """One uvicorn process, whose layer is called in one of `WAYS`."""

    def __init__(self, way: str, redis: Server, connections: int = CONNECTIONS) -> None:
        self.way = way
        self.redis = redis
        self.connections = connections
        self._port = free_port()

    def __enter__(self) -> Site:
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "benchmarks.asgi_site:application"),
                *("--host", HOST, "--port", str(self._port), "--log-level", "warning"),
                *("--no-access-log", "--lifespan", "off"),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "SITE_WAY": self.way,
                "SITE_REDIS": f"redis://{HOST}:{self.redis.port}",
                "SITE_LIMIT": str(LIMIT),
            },
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Linux shares the processor out by sessions
        )
        try:
            self._wait()
        except BaseException:  # whatever it was: nothing is left running
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{HOST}:{self._port}/{path}", timeout=20) as answer:
            return json.load(answer)

    def log(self) -> str:
        """Return the end of what the site has said."""
        said = os.pread(self._log.fileno(), 1_000_000, 0)
        return said.decode(errors="replace")[-2000:]

    def window(
        self, alias: str, seconds: float, pause: int = 0, begin: Callable[[], object] = int
    ) -> Window:
        """Load the page that uses `alias`; what counts begins, after a while, with `begin`."""
        before = self.get("figures")["layer"]  # under load it would have to wait for its turn
        path = f"/page/{alias}/{pause}"
        command = ("benchmarks.asgi_load", str(self._port), path, str(self.connections))
        with subprocess.Popen(
            [sys.executable, "-m", *command, str(WARM + seconds)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as load:
            assert load.stdout is not None
            load.stdout.readline()  # it begins
            time.sleep(WARM)
            begin()
            since, spent = monotonic(), self._processor()
            printed = load.stdout.read()
            spent = self._processor() - spent
        if load.returncode:
            raise RuntimeError(f"the load failed; the site says: {self.log()}")
        answers = json.loads(printed)
        found = self.get("figures")
        until = since + seconds
        taken = _within(answers, since, until)
        return Window(
            len(taken) / seconds,
            spent / max(1, len(answers) // 2 - sum(at < since for at in answers[::2])),
            taken,
            _within(found["calls"], since, until),
            _within(found["lags"], since, until),
            _within(found["own"], since, until),
            _unanswered(found["layer"]) - _unanswered(before),
        )

    def frozen(self, seconds: float, pause: int = 0) -> Window:
        """As `window`, of the chain whose Redis is frozen at the beginning."""
        self.get("ready")
        try:
            return self.window("default", seconds, pause, self.redis.freeze)
        finally:
            self.redis.resume()

    def _processor(self) -> float:
        numbers = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")

    def _wait(self) -> None:
        end = monotonic() + 20
        while True:
            try:
                self.get("ready")
            except OSError as error:
                if self._process.poll() is not None or monotonic() > end:
                    raise NoServerError(f"{error}: {self.log()}") from None
                time.sleep(0.05)
            else:
                return


def _unanswered(layer: dict[str, int] | None) -> int:
    return sum(layer[why] for why in ("failures", "timeouts", "rejected")) if layer else 0


def _within(flat: Sequence[float], since: float, until: float) -> list[float]:
    """Return the sorted seconds of what was recorded between two times."""
    return sorted(s for at, s in zip(flat[::2], flat[1::2], strict=True) if since <= at <= until)


def measure(site: Site, seconds: float, rounds: int) -> Iterator[Line]:
    """Yield the figures of one way, each as soon as it is there."""
    with site:
        site.window("default", seconds / 2)  # what is made once is there
        yield from _healthy(site, seconds)
        yield from _full(site, seconds, rounds)
        yield from _paced(site, seconds, rounds)


def _healthy(site: Site, seconds: float) -> Iterator[Line]:
    """Requests per second with Redis well: through the chain, and of bare django-redis."""
    bare, one, near = (site.window(alias, seconds) for alias in ("bare", "one_layer", "default"))
    for name, window in (("one layer", one), ("local memory above it", near)):
        what = f"Redis well, {name}: requests per second"
        beside = _beside(window, bare, "bare django-redis")
        beside += f", {window.unanswered:,} calls without an answer"
        ratio = _ratio(window.throughput, bare.throughput)
        yield Line(site.way, what, ratio, "x", None, beside)


def _full(site: Site, seconds: float, rounds: int) -> Iterator[Line]:
    """As many requests as it can answer, Redis just frozen, and of the chain without Redis."""
    pairs = [(site.window("without", seconds), site.frozen(seconds)) for _ in range(rounds)]
    without, frozen = (
        sum(w.throughput for w in side) / rounds for side in zip(*pairs, strict=True)
    )
    yield Line(
        site.way,
        "Redis frozen, no pause: requests per second",
        _ratio(frozen, without),
        "x",
        Goal(0.9, at_most=False),
        _beside(pairs[-1][1], pairs[-1][0], "without Redis"),
    )
    yield _longest(site.way, "no pause", pairs)


def _paced(site: Site, seconds: float, rounds: int) -> Iterator[Line]:
    """With time to spare: how late the event loop is, and how long cache calls take."""
    pairs = [
        (site.window("without", seconds, PAUSE), site.frozen(seconds, PAUSE)) for _ in range(rounds)
    ]
    without, frozen = zip(*pairs, strict=True)
    own = _latest(window.own_lags for window in frozen)
    yield Line(
        site.way,
        f"Redis frozen, {PAUSE} ms pause: event loop late by",
        _latest(window.lags for window in frozen),
        "ms",
        Goal(20, "ms"),
        f"{own:.1f} ms but for the wait for the processor, "
        f"{_latest(window.lags for window in without):.1f} ms without Redis",
    )
    yield _longest(site.way, f"{PAUSE} ms pause", pairs)


def _latest(lags: Iterable[list[float]]) -> float:
    """Return the longest of each window in milliseconds, the middle one of those."""
    return 1e3 * statistics.median(max(each, default=nan) for each in lags)


def _beside(window: Window, other: Window, name: str) -> str:
    return (
        f"{window.processor * 1e3:.2f} ms of the processor for each, "
        f"{other.processor * 1e3:.2f} ms {name} ({other.throughput:,.0f}/s)"
    )


def _ratio(one: float, other: float) -> float:
    return one / other if other else nan


def _longest(way: str, load: str, pairs: Sequence[tuple[Window, Window]]) -> Line:
    longest = max(max(frozen.calls, default=nan) for _, frozen in pairs)
    goal = Goal(1e3 * (LIMIT + GRACE), "ms")
    return Line(way, f"Redis frozen, {load}: longest cache call", longest * 1e3, "ms", goal)


def command(arguments: Sequence[str]) -> int:
    """Measure each way in turn; return the exit code."""
    options = _parser().parse_args(arguments)
    seconds, rounds = (0.5, 1) if options.quick else (options.seconds, options.rounds)
    connections = 10 if options.quick else CONNECTIONS
    table = PlainTable(_WIDTHS)
    table.line(HEADINGS)
    found = []
    with Server() as redis:
        for way in options.way or WAYS:
            for line in measure(Site(way, redis, connections), seconds, rounds):
                found.append(line)
                table.line(line.cells())
    packages = (*PACKAGES[:4], "uvicorn", "uvloop", "httptools")
    print(f"\n{connections} connections, limit {LIMIT:g} s; {about(packages)}")
    if options.json:
        rows = [{**asdict(line), "met": line.met} for line in found]
        report = {"about": about(), "rows": rows}
        options.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks uvicorn", description=__doc__)
    parser.add_argument("uvicorn", choices=["uvicorn"], help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, action="append", help="one of the three (all)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of load for a figure (5)")
    parser.add_argument("--rounds", type=int, default=5, help="outages for a figure (5)")
    parser.add_argument("--quick", action="store_true", help="far too short to mean anything")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    return parser
