"""A chain whose layers fail, answer late and are interleaved on demand, in one thread.

Layers are `FaultyCache`s over local memory under a limit that gives calls up when told to, so that
what takes threads and seconds in a real process happens here step by step, on a clock that is
turned by hand.  The agent sleeps: a test calls `tick`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

from django.core.cache import BaseCache, caches
from django.core.cache.backends import base, locmem
from django.test import override_settings

from django_resilient_cache import State, conf
from django_resilient_cache.adapters import remaining_ttl
from django_resilient_cache.adapters.commands import Command, SetMany
from django_resilient_cache.adapters.outcome import Kind, Outcome
from django_resilient_cache.backend.bound_chain import process
from django_resilient_cache.chain import generations
from django_resilient_cache.concurrency.background import background
from django_resilient_cache.layer import repair
from django_resilient_cache.layer.guard import Guard
from django_resilient_cache.layer.layer import Layer
from django_resilient_cache.layer.missed_changes import CAPACITY
from django_resilient_cache.layer.registry import registry
from django_resilient_cache.layer.telemetry import Telemetry
from django_resilient_cache.testing import faults
from django_resilient_cache.timeouts.direct import DirectLimit
from django_resilient_cache.timeouts.time_limit import TimedOut, never
from tests.clock import Clock
from tests.entries import CHAIN, MEMORY

FAULTY = "django_resilient_cache.testing.FaultyCache"

#: The OPERATION_TIMEOUT of the faulty layers in seconds; nothing really waits for it.
LIMIT = 0.1

#: The TIMEOUT of the faulty layers, and so what they cap.
TIMEOUT = 60

READS = ("get", "get_with_ttl", "get_many", "get_many_with_ttl", "has_key")

#: What can happen to a call of a layer with a limit.
FAULTS = (
    "refuse",  # it fails and is not made
    "lose",  # it is made and fails
    "expire",  # it is cut at the limit and not made
    "answer late",  # it is made and cut at the limit
    "abandon",  # it is given up at the limit and is made when it lands
    "interrupt",  # the same, and its caller is ended
    "cancel",  # its caller is ended before it is made
    "cancel after",  # its caller is ended when it was made
    "take some",  # a batch is written but for one key
    "freeze",  # the server holds it and makes it when it thaws
)
#: Nobody ends the agent in a call.
OF_THE_AGENT = {"interrupt": "abandon", "cancel": "expire", "cancel after": "answer late"}
#: Those that an abandoned call comes of.
GIVING_UP = ("abandon", "interrupt")


class WholeSeconds(locmem.LocMemCache):
    """Knows whole seconds only, as Redis and Memcached under Django do."""

    def get_backend_timeout(self, timeout: Any = base.DEFAULT_TIMEOUT) -> float | None:
        if timeout is not base.DEFAULT_TIMEOUT and timeout is not None:
            timeout = int(timeout)
        return super().get_backend_timeout(timeout)


class Interrupted(BaseException):
    """What ends a caller, as KeyboardInterrupt and cancellation do."""


@dataclass(eq=False)
class Abandoned:
    """A call that was given up; it is made when it `lands`."""

    alias: str
    command: Command
    make: Callable[[], object]
    at: float
    forgotten: bool = False
    callbacks: list[Callable[[], None]] = field(default_factory=list)
    ended: bool = False

    def when_ended(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)
        if self.ended:
            callback()

    def land(self, *, made: bool = True) -> None:
        """Make it now, or end it without."""
        try:
            if made:
                self.make()
        except ValueError:
            pass  # an incr of nothing
        finally:
            self.ended = True
            for callback in self.callbacks:
                callback()


class SimulatedLimit:
    """Makes calls in place, unless something is to happen to them."""

    strategy = "simulated"
    is_rejecting: Callable[[], bool] = staticmethod(never)

    def __init__(self, sim: SimulatedChain, alias: str) -> None:
        self._sim = sim
        self._alias = alias

    def call(self, call: Any, budget: float | None, *, trial: bool) -> Any:
        breaker = registry.layer(self._alias).breaker
        assert breaker.state is not State.FORCED_OPEN, "called without a permit"
        assert not breaker.is_rejecting, "called without a permit"
        assert budget is not None, "called without a limit"
        assert budget <= LIMIT, "called beyond its limit"
        fault = self._sim.come(self._alias)
        if fault is not None:
            return self._troubled(fault, call)
        self._sim.watch.makes(self._alias, call)
        outcome = call.run(caches[self._alias])
        self._sim.meanwhile(self._alias, "after")
        return outcome

    async def acall(self, call: Any, budget: float | None, *, trial: bool) -> Any:
        return self.call(call, budget, trial=trial)

    def _troubled(self, fault: str, command: Command) -> Any:
        name = command.name
        if fault in ("lose", "answer late", "cancel after", "take some"):
            self._sim.watch.makes(self._alias, command)
        if fault in ("lose", "answer late", "cancel after"):
            command.run(self._behind())
            self._sim.meanwhile(self._alias, "after")
        if fault in ("refuse", "lose"):
            raise ConnectionError(f"{name} failed on demand")
        if fault in ("cancel", "cancel after"):
            raise Interrupted
        if fault == "take some":
            return self._take_some(command)
        call = Abandoned(
            self._alias,
            command,
            lambda: command.run(self._behind()),
            at=self._sim.clock(),
        )
        if fault == "freeze" and name not in READS:
            self._sim.frozen[self._alias].append(call)
        elif fault in GIVING_UP and name not in READS:
            self._sim.late.append(call)
        if fault in GIVING_UP:
            command.abandoned = call
        if fault == "interrupt":
            raise Interrupted
        raise TimedOut(LIMIT)

    def _take_some(self, command: Command) -> Outcome:
        if not isinstance(command, SetMany):
            return command.run(self._behind())
        first, *others = command.data
        rest = {key: command.data[key] for key in others}
        SetMany(rest, command.timeout, command.version).run(self._behind())
        return Outcome(Kind.DONE, [first])

    def _behind(self) -> BaseCache:
        return caches[f"{self._alias} behind"]

    def reject_waiting(self) -> None: ...

    def close(self) -> None: ...


class SimulatedGuard(Guard):
    """Tells the simulation what a layer is asked, and how each call of a repair ended."""

    __slots__ = ("sim",)
    sim: SimulatedChain

    async def aattempt(self, command: Command) -> Outcome:
        self.sim.watch.asks(self.alias, command)
        return await super().aattempt(command)

    def attempt(self, backend: Any, command: Command) -> Outcome:
        if self.sim.repairing != self.alias:
            self.sim.watch.asks(self.alias, command)
            return super().attempt(backend, command)
        # What happens elsewhere meanwhile is not the repair's.
        watch, self.sim.repairing = self.sim.watch, None
        began = watch.repairs(self.alias, command)
        outcome: Outcome
        try:
            outcome = super().attempt(backend, command)
        except BaseException as error:  # noted, and raised on
            outcome = Outcome(Kind.FAILED, error=error)
            raise
        finally:
            self.sim.repairing = self.alias
            watch.ends(self.alias, command, outcome, began)
        return outcome


class SimulatedRepair(repair.Repair):
    """Tells the simulation when it is at work."""

    __slots__ = ("sim",)
    sim: SimulatedChain

    def run(self, most: int = repair.BATCH) -> bool:
        sim = self.sim
        before, sim.repairing = sim.repairing, self._guard.alias
        sim.watch.repair_begins()
        try:
            return super().run(min(most, sim.batch))
        finally:
            sim.watch.repair_ends()
            sim.repairing = before


class SimulatedLayer(Layer):
    """Tells the simulation how each call of a chain ended."""

    __slots__ = ("sim",)
    sim: SimulatedChain

    @classmethod
    def of(cls, sim: SimulatedChain, alias: str) -> SimulatedLayer:
        config = conf.layer_config(alias)
        limit = DirectLimit(alias) if alias == "memory" else SimulatedLimit(sim, alias)
        awaited = limit if isinstance(limit, SimulatedLimit) else None
        telemetry = Telemetry(alias, sim.clock)
        guard = SimulatedGuard(config, limit, telemetry, awaited=awaited, clock=sim.clock)
        layer = cls(config, guard, telemetry, sim.clock)
        layer._repair = SimulatedRepair(guard, layer._recorder, telemetry)
        layer.sim = guard.sim = layer._repair.sim = sim
        layer.breaker._rng = lambda: 0.5
        layer.missed_changes._capacity = sim.capacity
        return layer

    def execute(self, backend: Any, command: Command) -> Outcome:
        if self.guard.direct:
            self.sim.come(self.alias)
        watch, outer = self.sim.watch, self.sim.agent_calls
        began = watch.begins(self.alias, command)
        self.sim.agent_calls = False
        try:
            outcome = super().execute(backend, command)
        except Exception:
            raise  # the caller's own mistake, or an answer
        except BaseException as error:  # noted, and raised on
            watch.ends(self.alias, command, Outcome(Kind.FAILED, error=error), began)
            raise
        finally:
            self.sim.agent_calls = outer
        self.sim.ends.append((self.alias, command, outcome))
        watch.ends(self.alias, command, outcome, began)
        if self.guard.direct:
            self.sim.meanwhile(self.alias, "after")
        return outcome

    async def aexecute(self, command: Command) -> Outcome:
        watch = self.sim.watch
        began = watch.begins(self.alias, command)
        try:
            outcome = await super().aexecute(command)
        except Exception:
            raise  # the caller's own mistake, or an answer
        except BaseException as error:  # noted, and raised on
            watch.ends(self.alias, command, Outcome(Kind.FAILED, error=error), began)
            raise
        self.sim.ends.append((self.alias, command, outcome))
        watch.ends(self.alias, command, outcome, began)
        return outcome

    def miss(self, command: Command) -> None:
        super().miss(command)
        self.sim.watch.misses(self.alias, command)


class Watch:
    """Sees what each layer is asked and how that ends; this one thinks nothing of it."""

    def begins(self, alias: str, command: Command) -> int:
        """A chain wants a call; what is returned is handed on to `ends`."""
        return 0

    def asks(self, alias: str, command: Command) -> None:
        """The layer did not answer of its own accord: it is to be asked."""

    def repair_begins(self) -> None:
        """A layer looks for what it is to repair, and will make calls."""

    def repair_ends(self) -> None:
        """It has made them."""

    def repairs(self, alias: str, command: Command) -> int:
        """A repair wants a call; as `begins`."""
        return 0

    def makes(self, alias: str, command: Command) -> None:
        """The layer makes a call, now."""

    def misses(self, alias: str, command: Command) -> None:
        """The layer is told of a change that is not made: its caller is about to end."""

    def ends(self, alias: str, command: Command, outcome: Outcome, began: int) -> None:
        """That call has ended; as a failure where its caller was ended too."""

    def lands(self, call: Abandoned, *, made: bool) -> None:
        """A call that was given up ends."""
        call.land(made=made)


class SimulatedChain:
    """The chain `default`, its layers, and what happens to them.

    `timeout`: the TIMEOUT of the faulty layers; None: Django's default of 300 s, and no cap.
    `capacity`: of each ledger.  `batch`: keys that a repair takes at most.  `behind`: what stands
    behind the faulty layers.
    """

    def __init__(
        self,
        *layers: str,
        on_unavailable: str = "miss",
        timeout: int | None = TIMEOUT,
        capacity: int = CAPACITY,
        batch: int = repair.BATCH,
        behind: type[BaseCache] = locmem.LocMemCache,
        **resilience: Any,
    ) -> None:
        self.timeout = timeout
        self.capacity = capacity
        self.batch = batch
        self.clock = Clock()
        self.layers = layers
        self.faulty = [alias for alias in layers if alias != "memory"]
        self.authority = layers[-1]
        #: What happens to each call of a layer until it is healed, of `FAULTS`.
        self.standing: dict[str, str] = {}
        #: What happens to the next calls, of whatever layer, by how many come before.
        self.happenings: list[tuple[int, str, str | Callable[[], object]]] = []
        #: Calls that a frozen server has received.
        self.frozen: dict[str, list[Abandoned]] = {alias: [] for alias in self.faulty}
        #: The layer whose repair is under way.
        self.repairing: str | None = None
        #: Whether it is the agent that makes calls now, and no caller.
        self.agent_calls = False
        self.watch = Watch()
        #: Calls that were given up and have not ended.
        self.late: deque[Abandoned] = deque()
        #: How each call ended: (alias, command, outcome).
        self.ends: list[tuple[str, Command, Outcome]] = []
        self._meanwhile: dict[tuple[str, str], Callable[[], object]] = {}
        self._settings = {
            "default": {
                "BACKEND": CHAIN,
                "LOCATION": list(layers),
                "OPTIONS": {"ON_UNAVAILABLE": on_unavailable},
            },
            "memory": {"BACKEND": MEMORY, "LOCATION": "memory"},
        }
        own_timeout: dict[str, Any] = {} if timeout is None else {"TIMEOUT": timeout}
        for alias in self.faulty:
            self._settings[alias] = {
                "BACKEND": FAULTY,
                "LOCATION": f"{alias} behind",
                **own_timeout,
                "RESILIENCE": {
                    "OPERATION_TIMEOUT": LIMIT,
                    "MAX_FAILURES": 3,
                    "RESET_TIMEOUT": 5,
                    "HALF_OPEN_SUCCESSES": 1,
                    **resilience,
                },
            }
            self._settings[f"{alias} behind"] = {
                "BACKEND": f"{behind.__module__}.{behind.__qualname__}",
                "LOCATION": alias,
                **own_timeout,
                "OPTIONS": {"MAX_ENTRIES": 10_000},
            }
        self._stack = ExitStack()

    def __enter__(self) -> SimulatedChain:
        time = SimpleNamespace(time=self.clock, monotonic=self.clock)
        enter = self._stack.enter_context
        enter(few_stripes(32))  # each clear() goes through them all
        enter(override_settings(CACHES=self._settings))
        for module in (base, locmem, remaining_ttl):
            enter(mock.patch.object(module, "time", time))
        for name in ("wake", "ensure_running", "send"):
            enter(mock.patch.object(background, name))
        for alias in self.layers:
            registry._layers[alias] = SimulatedLayer.of(self, alias)
        self.cache: Any = caches["default"]
        return self

    def __exit__(self, *exc: object) -> None:
        for cache in caches.all():
            if isinstance(cache, locmem.LocMemCache):
                cache.clear()
        self._stack.close()

    def layer(self, alias: str) -> Layer:
        return registry.layer(alias)

    def behind(self, alias: str) -> BaseCache:
        """What a layer holds: another worker's way to it, and a test's."""
        cache: BaseCache = caches["memory" if alias == "memory" else f"{alias} behind"]
        return cache

    def tick(self) -> None:
        """Let the agent do one round."""
        outer, self.agent_calls = self.agent_calls, True
        try:
            registry.tend()
        finally:
            self.agent_calls = outer

    def settle(self) -> None:
        """End every fault, let everything late land, and let the agent repair all there is."""
        for alias in self.faulty:
            self.heal(alias)
        while self.late:
            self.late.popleft().land()
        for alias in self.layers:
            self.layer(alias).breaker.reset()
        for _ in range(100):
            if all(self.layer(alias).missed_changes.in_sync for alias in self.layers):
                return
            self.tick()
            self.clock.forward(0.02)

    # What happens to a layer

    def refuse(self, alias: str) -> None:
        """Calls fail and are not made."""
        faults(alias).fail()

    def lose(self, alias: str) -> None:
        """Calls are made, and their answers are lost."""
        faults(alias).lose_answers()

    def abandon(self, alias: str) -> None:
        """Calls are given up at the limit; they are made when they land."""
        self.standing[alias] = "abandon"

    def interrupt(self, alias: str) -> None:
        """As `abandon`, and their callers are ended too."""
        self.standing[alias] = "interrupt"

    def heal(self, alias: str) -> None:
        """End what happens to new calls; a frozen server makes those that it has received."""
        if alias not in self.faulty:
            return
        faults(alias).heal()
        self.standing.pop(alias, None)
        received, self.frozen[alias] = self.frozen[alias], []
        for call in received:
            self.watch.lands(call, made=True)

    def during(self, alias: str, when: str, happens: Callable[[], object]) -> None:
        """Let something happen while the next call to a layer is under way.

        "before": it was admitted and not made yet; "after": it was made, its end is not known yet.
        """
        self._meanwhile[alias, when] = happens

    def at_call(self, number: int, when: str, happens: str | Callable[[], object]) -> None:
        """Let something happen to the call after `number` others, or while it is under way.

        A fault happens to it instead of the layer's own.
        """
        self.happenings.append((number, when, happens))

    def come(self, alias: str) -> str | None:
        """A call has come to a layer; return what happens to it."""
        self.meanwhile(alias, "before")
        fault = self.standing.get(alias)
        now = [(when, happens) for left, when, happens in self.happenings if left == 0]
        self.happenings = [
            (left - 1, when, happens) for left, when, happens in self.happenings if left
        ]
        for when, happens in now:
            if isinstance(happens, str):
                fault = fault if fault == "freeze" else happens
            elif when == "before":
                happens()
            else:
                self._meanwhile[alias, when] = happens
        return OF_THE_AGENT.get(str(fault), fault) if self.agent_calls else fault

    def meanwhile(self, alias: str, when: str) -> None:
        happens = self._meanwhile.pop((alias, when), None)
        if happens is not None:
            happens()

    def no_meanwhile(self) -> None:
        self._meanwhile.clear()
        self.happenings.clear()


@contextmanager
def few_stripes(count: int) -> Iterator[None]:
    """Generations that tell fewer keys apart."""
    try:
        with mock.patch.object(generations, "_STRIPES", count):
            process.generations.reset()
            yield
    finally:
        process.generations.reset()


@contextmanager
def simulated_chain(*layers: str, **settings: Any) -> Iterator[SimulatedChain]:
    """A simulated chain for one test."""
    with SimulatedChain(*layers, **settings) as sim:
        yield sim
