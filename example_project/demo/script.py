"""The rehearsal: a healthy site, a frozen Redis, and Redis back; each second becomes a row."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

from demo.errors import DemoError
from demo.processes import (
    Site,
    Valkey,
    fill_database,
    site_environment,
    wait_until_it_answers,
)
from demo.table import BACK, FROZEN, HEALTHY, WARMING, Row, Second
from demo.traffic import Traffic
from demo.verdict import Breakers, Experience
from demo.workers import Counts

# A load that two cores carry twice, for both sites and their visitors, with room to spare.
VISITORS = 12
PAGES_PER_SECOND = 80.0
#: Seconds before anything is measured: workers start, caches fill, the pace is reached.
WARM_UP = 2
WARM_UP_AT_MOST = 15
#: Longest that breakers may take to close after the thaw, in seconds.
CLOSING_AT_MOST = 20


@dataclass(frozen=True, slots=True)
class Plan:
    workers: int
    seconds: int  # per phase
    port: int  # 0: any free one
    comparison: bool


class Rehearsal:
    """Starts everything, plays the phases and knows afterwards what happened."""

    valkey: Valkey
    chain: Traffic
    bare: Traffic | None = None
    healthy_at: float
    frozen_at: float
    thawed_at: float
    ended_at: float

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        self.directory = directory
        self.password = secrets.token_urlsafe(6)  # of the admin's login
        self.processes = ExitStack()  # stops what was started, the last one first
        self.sites: list[Site] = []
        self.rows: list[Row] = []

    def start(self) -> None:
        self.valkey = self._start_valkey()
        self.chain = self._start_site("this chain", 0, bare=False)
        if self.plan.comparison:
            self.bare = self._start_site("bare django-redis", 1, bare=True)
        for site in self.sites:
            wait_until_it_answers(site)
        # Visitors leave before the sites close, and a frozen Valkey is resumed before that:
        # without it the bare site's visitors could not.
        self.processes.callback(self.visitors_leave)
        self.processes.callback(self.valkey.resume)
        for traffic in self._traffics():
            traffic.start()

    def visitors_leave(self) -> None:
        for traffic in self._traffics():
            traffic.stopping.set()
        for traffic in self._traffics():
            traffic.stop()

    def _traffics(self) -> list[Traffic]:
        return [self.chain, self.bare] if self.bare else [self.chain]

    def _start_valkey(self) -> Valkey:
        for last in (False, False, True):  # another process may take the free port first
            valkey = Valkey(self.directory)
            self.processes.callback(valkey.stop)
            try:
                wait_until_it_answers(valkey)
                return valkey
            except DemoError:
                if last:
                    raise
        raise AssertionError

    def _start_site(self, name: str, redis_database: int, *, bare: bool) -> Traffic:
        database = self.directory / f"{redis_database}.sqlite3"
        first = self.directory / "0.sqlite3"
        environment = site_environment(
            database,
            self.valkey.url(redis_database),
            bare=bare,
            valkey_pid=self.valkey.pid,
            password=self.password,
        )
        if database == first:
            fill_database(environment)
        else:
            copyfile(first, database)
        port = 0 if bare else self.plan.port
        site = Site(name, self.directory, environment, workers=self.plan.workers, port=port)
        self.processes.callback(site.stop)
        self.sites.append(site)
        return Traffic(site.port, PAGES_PER_SECOND, VISITORS)

    # The phases

    def play(self) -> Iterator[Row]:
        """Yield a row after each second. Everything is measured by the time it ends."""
        ticks = Ticks(self)
        self.rows = ticks.rows
        workers = self.chain.record.workers
        yield from ticks.until(WARMING, self._warm, WARM_UP, WARM_UP_AT_MOST)
        self.healthy_at = time.monotonic()
        yield from ticks.run(HEALTHY, self.plan.seconds)
        workers.opened.clear()  # only what this outage opens is to count
        self.frozen_at = time.monotonic()
        self.valkey.freeze()
        yield from ticks.run(FROZEN, self.plan.seconds)
        self.thawed_at = time.monotonic()
        self.valkey.resume()
        yield from ticks.until(
            BACK, self._closed_again, self.plan.seconds, CLOSING_AT_MOST + self.plan.seconds
        )
        self.ended_at = time.monotonic()

    def _warm(self) -> bool:
        at_pace = self.rows[-1].ours.span.rate >= 0.9 * PAGES_PER_SECOND
        return at_pace and len(self.chain.record.workers.latest) >= self.plan.workers

    def _closed_again(self) -> bool:
        return self.closed_at is not None

    @property
    def closed_at(self) -> float | None:
        return self.chain.record.workers.all_closed_at(self.thawed_at)

    # What happened

    def breakers(self) -> Breakers:
        opened = self.chain.record.workers.opened
        return Breakers(
            workers=self.plan.workers,
            opened=len(opened),
            opened_after=max(opened.values()) - self.frozen_at if opened else None,
            closed_after=self.closed_at - self.thawed_at if self.closed_at else None,
        )

    def experiences(self) -> tuple[Experience, Experience | None]:
        """The chain's site and, if it was there, the bare one."""
        rows = [row for row in self.rows if row.redis in (FROZEN, BACK)]
        chain = self._experience(self.chain, [row.ours for row in rows])
        if self.bare is None:
            return chain, None
        return chain, self._experience(self.bare, [row.theirs for row in rows if row.theirs])

    def _experience(self, traffic: Traffic, seconds: list[Second]) -> Experience:
        record = traffic.record
        usual = record.span(self.healthy_at, self.frozen_at)
        frozen = record.span(self.frozen_at, self.thawed_at)
        after = record.span(self.frozen_at, self.ended_at)
        return Experience(
            usual_rate=usual.rate,
            frozen_rate=frozen.rate,
            usual_slowest=usual.slowest or 0.0,
            slowest=after.slowest or 0.0,
            errors=record.span(self.healthy_at, self.ended_at).errors,
            hung=max((second.hung for second in seconds), default=0),
            visitors=traffic.visitors,
            lost_seconds=sum(second.span.rate < usual.rate / 2 for second in seconds),
        )


class Ticks:
    """Turns the passing seconds into rows."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self.rows: list[Row] = []
        self._rehearsal = rehearsal
        self._counts = Counts()
        self._began = self._last = time.monotonic()

    def run(self, redis: str, seconds: int) -> Iterator[Row]:
        yield from self.until(redis, lambda: True, seconds, seconds)

    def until(
        self, redis: str, reached: Callable[[], bool], at_least: int, at_most: int
    ) -> Iterator[Row]:
        for second in range(at_most):
            if second >= at_least and reached():
                return
            time.sleep(max(0.0, self._last + 1 - time.monotonic()))
            yield self._row(redis)

    def _row(self, redis: str) -> Row:
        now = time.monotonic()
        chain, bare = self._rehearsal.chain.record, self._rehearsal.bare
        counts = chain.workers.counts()
        row = Row(
            second=round(now - self._began),
            redis=redis,
            ours=Second.of(chain, self._last, now),
            shares=(counts - self._counts).shares(),
            breakers=chain.workers.breakers(),
            theirs=Second.of(bare.record, self._last, now) if bare else None,
        )
        self._last, self._counts = now, counts
        self.rows.append(row)
        return row
