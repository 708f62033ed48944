"""A fleet in one process: hosts with clocks of their own, a board that can lose things, workers.

All time is told by one hand: `World.forward`.  Every host has its own idea of what time it is.
"""

from __future__ import annotations

import itertools
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django_resilient_cache.breaker import CircuitBreaker, State
from django_resilient_cache.fleet.board.board import Board
from django_resilient_cache.fleet.board.host import Clock, Process
from django_resilient_cache.fleet.board.order import Action, Order
from django_resilient_cache.fleet.console.control import Control
from django_resilient_cache.fleet.worker.heartbeat import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ALIASES = ("redis", "other")


class BoardAway(ConnectionError):
    """What a client says whose server is away."""


@dataclass
class Shelf:
    """What a board's server has: key -> (text, when it ends, by whose clock that is told)."""

    keeps_time: bool = True
    one_host: bool = False
    away: bool = False
    #: Whether it takes what is written and forgets it.
    forgetful: bool = False
    entries: dict[str, tuple[object, float | None]] = field(default_factory=dict)
    #: Calls made, with their names.
    calls: list[tuple[str, Any]] = field(default_factory=list)
    #: Writes that were given up by their writers, and are under way still.
    late: list[Callable[[], None]] = field(default_factory=list)

    def clear(self) -> None:
        self.entries.clear()

    def land(self) -> None:
        """Let every late write arrive."""
        while self.late:
            self.late.pop(0)()

    def keys(self, part: str) -> list[str]:
        return sorted(key for key in self.entries if part in key)


class Access:
    """One host's way to the shelf: a `Store`."""

    remedy = "See to it."

    def __init__(self, shelf: Shelf, now: Callable[[], float]) -> None:
        self.shelf = shelf
        self.title = "the shelf"
        self.keeps_time = shelf.keeps_time
        self.one_host = shelf.one_host
        #: Whether what is written from here arrives when it likes.
        self.slow = False
        self._now = now

    def get_many(self, keys: list[str], budget: float) -> dict[str, object]:
        self._call("get_many", keys)
        found = {key: self.shelf.entries[key] for key in keys if key in self.shelf.entries}
        now = self._now()
        return {key: text for key, (text, ends) in found.items() if ends is None or ends > now}

    def set(self, key: str, value: str, seconds: float | None, budget: float) -> None:
        self._call("set", key)

        def arrive() -> None:
            if not self.shelf.forgetful:
                ends = None if seconds is None else self._now() + seconds
                self.shelf.entries[key] = (value, ends)

        if self.slow:
            self.shelf.late.append(arrive)
        else:
            arrive()

    def delete(self, key: str, budget: float) -> None:
        self._call("delete", key)
        self.shelf.entries.pop(key, None)

    def close(self) -> None: ...

    def _call(self, name: str, what: object) -> None:
        self.shelf.calls.append((name, what))
        if self.shelf.away:
            raise BoardAway("nobody there")


class World:
    """Time, and one board."""

    def __init__(self, *, keeps_time: bool = True) -> None:
        self.now = 0.0
        self.shelf = Shelf(keeps_time=keeps_time)
        self.pids = itertools.count(100)
        self.workers: list[SimWorker] = []

    def forward(self, seconds: float, step: float = 0.1) -> None:
        """Let time pass, and every worker do what is due."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(end, self.now + step)
            for worker in self.workers:
                worker.tick()

    def states(self, alias: str = "redis") -> list[State]:
        return [worker.state(alias) for worker in self.workers]


class Host:
    """One host: its clock began at another moment, and is set to another time."""

    def __init__(self, world: World, name: str, *, started: float = 0.0, skew: float = 0.0) -> None:
        self.world = world
        self.name = name
        self.skew = skew
        self.clock = Clock(
            boot=f"boot of {name}",
            elapsed=lambda: world.now + started,
            wall=lambda: 1_000_000.0 + world.now + self.skew,
        )

    def access(self) -> Access:
        """A process's way to the board."""
        shelf = self.world.shelf
        return Access(shelf, (lambda: self.world.now) if shelf.keeps_time else self.clock.wall)

    def board(self, project: str = "project") -> Board:
        """The board, as a process of this host has it."""
        return Board(self.access(), project, self.clock.elapsed)

    def process(self) -> Process:
        """A process in a container of its own: nobody else can see whether it is there."""
        pid = next(self.world.pids)
        return Process(
            host=self.name,
            pid=pid,
            boot=self.clock.boot,
            space=f"container of {pid}",
            born="",
            started=self.clock.wall(),
            program="gunicorn",
        )

    def control(self, project: str = "project") -> Control:
        return Control(self.board(project), self.clock, self.process())

    def worker(self, project: str = "project", rng: Callable[[], float] = lambda: 0.5) -> SimWorker:
        """A worker that begins to use its caches now."""
        worker = SimWorker(self, project, rng)
        self.world.workers.append(worker)
        return worker


class SimSite:
    """A site whose layers are breakers alone."""

    def __init__(self, clock: Callable[[], float], aliases: Iterable[str] = ALIASES) -> None:
        self.names = list(aliases)
        self.breakers = {alias: CircuitBreaker(alias, clock=clock) for alias in aliases}
        self.done: list[Order] = []
        self.forgotten: list[str] = []
        self.refused: set[str] = set()

    def aliases(self) -> list[str]:
        return self.names

    def layers(self) -> dict[str, dict[str, Any]]:
        return {alias: shown(breaker.state.value) for alias, breaker in self.breakers.items()}

    def act(self, order: Order) -> bool:
        if order.alias in self.refused:
            return False
        self.done.append(order)
        breaker = self.breakers[order.alias]
        match order.action:
            case Action.RESET:
                breaker.reset()
            case Action.AUTO:
                breaker.auto()
            case Action.FORCE_OPEN:
                breaker.force_open()
            case Action.FORCE_CLOSED:
                breaker.force_closed()
            case Action.FORGET:
                self.forgotten.append(order.alias)
        return True

    def end(self, order: Order) -> None:
        self.breakers[order.alias].auto()


class SimWorker:
    """One process: a member, its site, and what can befall it."""

    def __init__(self, host: Host, project: str, rng: Callable[[], float]) -> None:
        self.host = host
        self.site = SimSite(host.clock.elapsed)
        self.access = host.access()
        board = Board(self.access, project, host.clock.elapsed)
        self.member = Heartbeat(self.site, lambda: board, host.clock, host.process, rng)
        self.frozen = False
        self._due = host.world.now

    def tick(self) -> None:
        now = self.host.world.now
        if not self.frozen and now >= self._due - 1e-9:
            wait = self.member.tick()
            self._due = now + (1e9 if wait is None else wait)

    def wake(self) -> None:
        self._due = self.host.world.now

    def state(self, alias: str = "redis") -> State:
        return self.site.breakers[alias].state

    def fork(self) -> SimWorker:
        """A child that begins with all this one knows."""
        child = SimWorker(self.host, "project", lambda: 0.5)
        child.site = copy(self.site)
        child.site.breakers = {a: replica(each) for a, each in self.site.breakers.items()}
        child.site.done = []
        board = Board(child.access, "project", self.host.clock.elapsed)
        child.member = copy(self.member)
        child.member._site = child.site
        child.member._board = board
        child.member._open_board = lambda: board
        child.member.follower = follower = copy(self.member.follower)
        follower._act, follower._end = child.site.act, child.site.end
        follower.held = {place: copy(held) for place, held in follower.held.items()}
        follower._known = set(follower._known)
        child.member._begin()  # as the fork registry has it do
        self.host.world.workers.append(child)
        return child

    def end(self) -> None:
        """End in order."""
        self.member.leave()
        self.kill()

    def kill(self) -> None:
        self.host.world.workers.remove(self)


def replica(breaker: CircuitBreaker) -> CircuitBreaker:
    """A breaker in the same state, as a forked child has it."""
    made = CircuitBreaker(breaker.name, clock=breaker._clock)
    if breaker.state is State.FORCED_OPEN:
        made.force_open()
    elif breaker.state is State.FORCED_CLOSED:
        made.force_closed()
    return made


def shown(state: Any = "closed", /, **changes: Any) -> dict[str, Any]:
    """A layer's snapshot."""
    return {
        "state": state,
        "since": 1_000_000.0,
        "retry_after": None,
        "last_error": None,
        "strategy": "direct",
        "limit": None,
        "hits": 1,
        "misses": 2,
        "done": 3,
        "failures": 0,
        "timeouts": 0,
        "rejected": 0,
        "missed": 0,
        "suspect": False,
        "suspect_seconds": None,
        "changes": [],
        **changes,
    }


def finish(control: Control, orders: list[Order], world: World, seconds: float = 3.0) -> Any:
    """Wait as the command does; the last progress of the first order."""
    end = world.now + seconds
    while True:
        progress = control.progress(orders)
        if all(each.complete for each in progress) or world.now >= end:
            return progress[0]
        world.forward(0.1)
