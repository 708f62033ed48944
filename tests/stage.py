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

from django_resilient_cache import conf, ttl
from django_resilient_cache.agent import agent
from django_resilient_cache.layer import Layer
from django_resilient_cache.limits import Expired, abandon
from django_resilient_cache.limits.direct import DirectLimit
from django_resilient_cache.outcome import Outcome
from django_resilient_cache.registry import registry
from django_resilient_cache.testing import faults
from tests.clock import Clock
from tests.entries import CHAIN, MEMORY

FAULTY = "django_resilient_cache.testing.FaultyCache"

#: The OPERATION_TIMEOUT of the faulty layers in seconds; nothing really waits for it.
LIMIT = 0.1

#: The TIMEOUT of the faulty layers, and so what they cap.
TIMEOUT = 60

READS = ("get", "get_with_ttl", "get_many", "get_many_with_ttl", "has_key")


class Interrupted(BaseException):
    """What ends a caller, as KeyboardInterrupt and cancellation do."""


@dataclass(eq=False)
class Abandoned:
    """A call that was given up; it is made when it `lands`."""

    alias: str
    name: str
    args: tuple[Any, ...]
    make: Callable[[], object]
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


class StagedLimit:
    """Makes calls in place, unless its layer is told to `abandon` or to `interrupt` them."""

    strategy = "staged"

    def __init__(self, stage: Stage, alias: str) -> None:
        self._stage = stage
        self._alias = alias

    def call(self, operation: Any, args: Any, budget: float | None, *, trial: bool) -> Any:
        self._stage.meanwhile(self._alias, "before")
        giving_up = self._stage.giving_up.get(self._alias)
        if giving_up is not None:
            call = Abandoned(
                self._alias,
                operation.__name__,
                args,
                lambda: operation(caches[f"{self._alias} behind"], *args),
            )
            if operation.__name__ not in READS:
                self._stage.late.append(call)
            if giving_up == "abandon":
                raise Expired(LIMIT, call)
            interruption = Interrupted()
            abandon(interruption, call)
            raise interruption
        outcome = operation(caches[self._alias], *args)
        self._stage.meanwhile(self._alias, "after")
        return outcome

    def after_fork(self) -> None: ...

    def close(self) -> None: ...


class StagedLayer(Layer):
    """Tells the stage how each call of a chain ended."""

    __slots__ = ("stage",)
    stage: Stage

    def execute(self, raw: Any, operation: Any, args: Any) -> Outcome:
        if self.direct:
            self.stage.meanwhile(self.alias, "before")
        outcome = super().execute(raw, operation, args)
        self.stage.ends.append((self.alias, operation.__name__, args, outcome))
        if self.direct:
            self.stage.meanwhile(self.alias, "after")
        return outcome


class Stage:
    """The chain `default`, its layers, and what happens to them.

    `timeout`: the TIMEOUT of the faulty layers; None: Django's default of 300 s, and no cap.
    """

    def __init__(
        self,
        *layers: str,
        on_unavailable: str = "miss",
        timeout: int | None = TIMEOUT,
        **resilience: Any,
    ) -> None:
        self.clock = Clock()
        self.layers = layers
        self.faulty = [alias for alias in layers if alias != "memory"]
        self.authority = layers[-1]
        #: Layers whose calls are given up: "abandon" or "interrupt".
        self.giving_up: dict[str, str] = {}
        #: Calls that were given up and have not ended.
        self.late: deque[Abandoned] = deque()
        #: How each call ended: (alias, operation, arguments, outcome).
        self.ends: list[tuple[str, str, tuple[Any, ...], Outcome]] = []
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
                "BACKEND": MEMORY,
                "LOCATION": alias,
                **own_timeout,
                "OPTIONS": {"MAX_ENTRIES": 10_000},
            }
        self._stack = ExitStack()

    def __enter__(self) -> Stage:
        time = SimpleNamespace(time=self.clock, monotonic=self.clock)
        enter = self._stack.enter_context
        enter(override_settings(CACHES=self._settings))
        for module in (base, locmem, ttl):
            enter(mock.patch.object(module, "time", time))
        for name in ("wake", "attend", "send"):
            enter(mock.patch.object(agent, name))
        for alias in self.layers:
            config = conf.layer_config(alias)
            limit = DirectLimit(alias) if alias == "memory" else StagedLimit(self, alias)
            layer = StagedLayer(config, limit, clock=self.clock)
            layer.stage = self
            layer.breaker._rng = lambda: 0.5
            registry._layers[alias] = layer
        self.cache: Any = caches["default"]
        return self

    def __exit__(self, *exc: object) -> None:
        for cache in caches.all():
            if type(cache) is locmem.LocMemCache:
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
        registry.tend()

    def settle(self) -> None:
        """End every fault, let everything late land, and let the agent repair all there is."""
        for alias in self.faulty:
            self.heal(alias)
        while self.late:
            self.late.popleft().land()
        for alias in self.layers:
            self.layer(alias).breaker.reset()
        for _ in range(100):
            if all(self.layer(alias).ledger.trusted for alias in self.layers):
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
        self.giving_up[alias] = "abandon"

    def interrupt(self, alias: str) -> None:
        """As `abandon`, and their callers are ended too."""
        self.giving_up[alias] = "interrupt"

    def heal(self, alias: str) -> None:
        """End what happens to new calls."""
        faults(alias).heal()
        self.giving_up.pop(alias, None)

    def during(self, alias: str, when: str, happens: Callable[[], object]) -> None:
        """Let something happen while the next call to a layer is under way.

        "before": it was admitted and not made yet; "after": it was made, its end is not known yet.
        """
        self._meanwhile[alias, when] = happens

    def meanwhile(self, alias: str, when: str) -> None:
        happens = self._meanwhile.pop((alias, when), None)
        if happens is not None:
            happens()

    def no_meanwhile(self) -> None:
        self._meanwhile.clear()


@contextmanager
def staged(*layers: str, **settings: Any) -> Iterator[Stage]:
    """A stage for one test."""
    with Stage(*layers, **settings) as stage:
        yield stage
