"""Visitors: a few threads that read and edit the site at a steady pace."""

from __future__ import annotations

import http.client
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from math import ceil
from urllib.parse import urlencode

from demo import workers
from demo.processes import HOST

#: A visitor who has waited so long (seconds) for one page is called hung.
HUNG = 1.0
#: A visitor leaves after this long (seconds); a page not answered by then is an error.
PATIENCE = 60.0
#: Pages per connection, so that every worker gets its share of visitors.
PAGES_PER_CONNECTION = 25


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that this share (0 to 1) of the values does not exceed; None if there are none."""
    if not values:
        return None
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


@dataclass(frozen=True, slots=True)
class Answer:
    ended: float  # monotonic clock
    seconds: float
    ok: bool


@dataclass(frozen=True, slots=True)
class Span:
    """What visitors experienced between two moments. Times in seconds."""

    rate: float  # pages served well per second
    p50: float | None
    p99: float | None
    slowest: float | None
    errors: int


class Record:
    """What all visitors of one site have experienced so far."""

    def __init__(self) -> None:
        self.workers = workers.Workers()
        self._answers: list[Answer] = []
        self._waiting: dict[int, float] = {}
        self._lock = threading.Lock()

    def asked(self, visitor: int, now: float) -> None:
        with self._lock:
            self._waiting[visitor] = now

    def answered(self, visitor: int, now: float, *, ok: bool) -> None:
        with self._lock:
            began = self._waiting.pop(visitor)
            self._answers.append(Answer(now, now - began, ok))

    def hung(self, now: float) -> int:
        """How many visitors are waiting for a page for longer than HUNG."""
        with self._lock:
            return sum(now - began > HUNG for began in self._waiting.values())

    def span(self, start: float, end: float) -> Span:
        with self._lock:
            answers = [answer for answer in self._answers if start <= answer.ended < end]
        times = [answer.seconds for answer in answers if answer.ok]
        return Span(
            rate=len(times) / (end - start) if end > start else 0.0,
            p50=percentile(times, 0.5),
            p99=percentile(times, 0.99),
            slowest=max((answer.seconds for answer in answers), default=None),
            errors=sum(not answer.ok for answer in answers),
        )


@dataclass(frozen=True, slots=True)
class Links:
    """The addresses that visitors choose from, found on the site's front page."""

    talks: list[str]
    tracks: list[str]

    @classmethod
    def of(cls, page: str) -> Links:
        talks = list(dict.fromkeys(re.findall(r'href="(/talks/\d+/)"', page)))
        tracks = sorted(set(re.findall(r'href="(/tracks/[\w-]+/)"', page)))
        return cls(talks, tracks)

    def pick(self, chance: random.Random) -> str:
        """One page, as visitors choose: mostly talks, and some of them much more than others."""
        kind = chance.random()
        if kind < 0.60:
            return self.talks[min(int(chance.expovariate(1 / 25)), len(self.talks) - 1)]
        if kind < 0.75:
            return chance.choice(self.tracks)
        if kind < 0.85:
            return "/"
        if kind < 0.92:
            return "/speakers/"
        if kind < 0.99:
            return "/best/"
        return chance.choice(self.talks) + "edit/"


class FormReader(HTMLParser):
    """Collects what a browser would send if the form were submitted unchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._select = self._textarea = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name = given.get("name") or ""
        if tag == "input" and name:
            self.fields[name] = given.get("value") or ""
        elif tag == "select":
            self._select = name
        elif tag == "option" and "selected" in given:
            self.fields[self._select] = given.get("value") or ""
        elif tag == "textarea":
            self._textarea = name
            self.fields[name] = ""

    def handle_data(self, data: str) -> None:
        if self._textarea:
            self.fields[self._textarea] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._textarea = ""


@dataclass(frozen=True, slots=True)
class Page:
    status: int
    body: str
    cookies: str
    report: str | None

    @property
    def ok(self) -> bool:
        return self.status < 400


class Browser:
    """One visitor's connection, kept alive for a number of pages."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
        self._pages = 0

    def open(self, path: str, *, cookies: str = "", form: dict[str, str] | None = None) -> Page:
        """Raises OSError or http.client.HTTPException if there is no answer."""
        if self._pages >= PAGES_PER_CONNECTION:
            self.close()
        self._pages += 1
        headers = {"Cookie": cookies} if cookies else {}
        body = None
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(form)
        self._connection.request("GET" if body is None else "POST", path, body, headers)
        response = self._connection.getresponse()
        text = response.read().decode(errors="replace")
        sent = response.headers.get_all("Set-Cookie") or []
        kept = "; ".join(cookie.split(";", 1)[0] for cookie in sent)
        return Page(response.status, text, kept, response.headers.get(workers.HEADER))

    def close(self) -> None:
        self._connection.close()
        self._pages = 0


class Visitor(threading.Thread):
    def __init__(self, number: int, traffic: Traffic, links: Links) -> None:
        super().__init__(name=f"visitor {number}", daemon=True)
        self._number = number
        self._traffic = traffic
        self._links = links
        self._chance = random.Random(number)
        self._browser = Browser(traffic.port)

    def run(self) -> None:
        for _ in self._turns():
            path = self._links.pick(self._chance)
            page = self._visit(path)
            if path.endswith("/edit/") and page is not None and page.ok:
                form = FormReader()
                form.feed(page.body)
                self._visit(path, cookies=page.cookies, form=form.fields)
        self._browser.close()

    def _turns(self) -> Iterator[None]:
        """One turn each `pause` seconds. A turn that was missed while waiting is lost."""
        traffic = self._traffic
        due = time.monotonic() + self._chance.random() * traffic.pause
        while not traffic.stopping.wait(max(0.0, due - time.monotonic())):
            yield
            due = max(due + traffic.pause, time.monotonic())

    def _visit(
        self, path: str, *, cookies: str = "", form: dict[str, str] | None = None
    ) -> Page | None:
        record = self._traffic.record
        record.asked(self._number, time.monotonic())
        try:
            page = self._browser.open(path, cookies=cookies, form=form)
        except (OSError, http.client.HTTPException):
            self._browser.close()
            page = None
        now = time.monotonic()
        if page is not None and page.report is not None:
            record.workers.note(workers.read(page.report), now)
        record.answered(self._number, now, ok=page is not None and page.ok)
        return page


@dataclass(slots=True)
class Traffic:
    """Steady traffic on one site: `rate` pages per second from `visitors` threads."""

    port: int
    rate: float
    visitors: int
    record: Record = field(default_factory=Record)
    stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[Visitor] = field(default_factory=list)

    @property
    def pause(self) -> float:
        return self.visitors / self.rate

    def start(self) -> None:
        browser = Browser(self.port)
        links = Links.of(browser.open("/").body)
        browser.close()
        self._threads = [Visitor(number, self, links) for number in range(self.visitors)]
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Ask all visitors to leave and wait for them, at most so long altogether."""
        self.stopping.set()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
