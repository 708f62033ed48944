"""A circuit breaker that stands alone.  Standard library only, no Django.

The states and their names are Michael Nygard's (*Release It!*):

    state          a call is           how it ends
    CLOSED         made                too many failures: OPEN
    OPEN           rejected            the first call after the reset time: HALF_OPEN
    HALF_OPEN      a trial, or         enough trials succeeded: CLOSED
                   rejected            one failed: OPEN, for twice as long
    FORCED_OPEN    rejected            by an operator's order only
    FORCED_CLOSED  made                by an operator's order only; no failure counts

Every call is made under a permit.  Each transition begins a new generation, and results under
permits of an earlier one are ignored.  While all calls are admitted they share one permit, which
stands for its generation: a healthy call compares it by identity, takes no lock and allocates
nothing.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from math import inf
from types import CoroutineType, TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from django_resilient_cache.breaker.failures import Failures
from django_resilient_cache.breaker.permits import Permit, Trials
from django_resilient_cache.breaker.states import BreakerConfig, State, Transition
from django_resilient_cache.concurrency import forks
from django_resilient_cache.exceptions import CircuitOpenError

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("django_resilient_cache")

#: A reset time is stretched or shortened by up to this share, so that many processes
#: do not send their trials in step.
JITTER = 0.2

_FORCED = (State.FORCED_OPEN, State.FORCED_CLOSED)
#: States that admit every call.
_FREE = (State.CLOSED, State.FORCED_CLOSED)
_AWAY = (State.OPEN, State.HALF_OPEN)
#: Looking up a member costs as much as the rest of a comparison.
_OPEN = State.OPEN

#: The permits of the `with` blocks around the current code, the innermost last.
_entered: ContextVar[tuple[Permit, ...]] = ContextVar("resilient_cache_entered", default=())


class CircuitBreaker:
    """Opens after failures, rejects calls for a while, lets a trial through, closes again.

    Safe under many threads.  The lock is held to read or change state, never during a call or
    a callback; a method whose name ends with `_needs_lock` is called under it.

    `clock` is monotonic and in seconds.  `on_change` is called with each `Transition` in order,
    outside the lock.  `successes`, for an owner that counts them itself, returns the running
    count of successful calls.

    `with` blocks belong to the context (thread, task) that enters them, and the last one entered
    is left first.  Where blocks end in another order, as in generators that run by turns, use
    `acquire` and give each permit back.

    Raises CircuitOpenError from `call`, `acquire` and `with` when the call is rejected.
    """

    def __init__(
        self,
        name: str,
        config: BreakerConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        on_change: Callable[[Transition], None] | None = None,
        successes: Callable[[], int] | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.config = config = config or BreakerConfig()
        #: The permit that all calls share while all are admitted; else None.
        self.shared_permit: Permit | None = None
        #: Whether there are failures or waits that a success has to take back.
        self.has_failures = False
        self._clock = clock
        self._rng = rng
        self._on_change = on_change or (lambda transition: None)
        # Re-entrant: a signal handler or a finalizer that uses the breaker while this very thread
        # holds the lock must not hang it for ever.
        self._lock = threading.RLock()
        self._events: deque[Transition] = deque()
        self._delivering = threading.Lock()
        self._succeeded_calls = 0
        self._count_successes = successes or (lambda: self._succeeded_calls)
        self._failures = Failures(config)
        self._trials = Trials(config)
        self._state = State.CLOSED
        self._before_order = State.CLOSED
        self._reset_time = 0.0  # without jitter; 0.0: nothing is remembered
        self._open_for = 0.0  # the same with jitter
        self._open_until = 0.0
        self._since = clock()
        self._last_error: str | None = None
        self._admit_all_needs_lock()
        forks.reset_in_child(self._reset_after_fork)

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r}: {self.state.value}>"

    # What it says

    @property
    def state(self) -> State:
        """The state now.  Reading changes nothing: an open breaker whose time is up reads open."""
        return self._state

    @property
    def retry_after(self) -> float:
        """Seconds until a call may be admitted; 0.0: now; infinity: forced open."""
        with self._lock:
            return self._retry_after_needs_lock(self._clock())

    @property
    def last_error(self) -> str | None:
        """The failure that counted last, as "Type: text", until a reset; None: there is none.

        A text, because an exception would keep alive all that the failed call had in hand.
        """
        return self._last_error

    @property
    def seconds_in_state(self) -> float:
        """Seconds since the state began; open and half-open: since it was closed last.

        An outage does not begin anew with each trial that fails.
        """
        return self._clock() - self._since

    @property
    def overdue(self) -> float:
        """Seconds for which an open or half-open breaker has been waiting for a trial."""
        with self._lock:
            due_for = self._clock() - self._open_until if self._state in _AWAY else 0.0
            return max(0.0, due_for)

    # Making calls

    def call(self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return ``func(*args, **kwargs)``, or raise CircuitOpenError without calling it.

        Any Exception it raises is a failure and passes on; cancellation, KeyboardInterrupt and
        SystemExit pass on uncounted.  For a coroutine use `with breaker:` around its `await`.
        """
        permit = self.shared_permit
        if permit is None:
            permit = self.acquire()
        try:
            result = func(*args, **kwargs)
        except Exception as error:
            self._failed(permit, error)
            raise
        except BaseException:  # cancelled, interrupted: says nothing of what was called
            self._released(permit)
            raise
        if type(result) is CoroutineType:
            self._released(permit)
            cast("CoroutineType[Any, Any, Any]", result).close()
            raise TypeError(
                f"call() cannot see how the coroutine of {func!r} ends; "
                "write `with breaker: result = await ...` instead"
            )
        self._succeeded(permit)
        return result

    def __enter__(self) -> CircuitBreaker:
        _entered.set((*_entered.get(), self.acquire()))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        permit = self._innermost_permit()
        if exc is None:
            permit.success()
        elif isinstance(exc, Exception):
            permit.failure(exc)
        else:
            permit.release()

    def acquire(self) -> Permit:
        """Return a permit for one call; raises CircuitOpenError where there is none."""
        permit = self.shared_permit or self._admit()
        if permit is None:
            raise CircuitOpenError(self.name, self.retry_after)
        return permit

    def try_acquire(self) -> Permit | None:
        """Return a permit for one call, or None where there is none."""
        permit = self.shared_permit
        # `is_rejecting` written out: this is what each call costs while a layer is away.
        if permit is None and (self._state is not _OPEN or self._clock() >= self._open_until):
            permit = self._admit()
        return permit

    @property
    def is_rejecting(self) -> bool:
        """Whether it is open and its time is not up; asked without the lock, for every call.

        The state is read first: an open breaker's end was set before it, and can only have been
        moved on since.
        """
        return self._state is _OPEN and self._clock() < self._open_until

    # Steering it

    def reset(self, reason: str = "reset") -> None:
        """Close it, automatic again, with nothing remembered; ends a forced state."""
        with self._lock:
            self._reset_time = 0.0
            self._last_error = None
            self._change_state_needs_lock(State.CLOSED, reason)
        self._deliver()

    def force_open(self, reason: str = "forced open") -> None:
        """Reject every call until `reset`, `auto` or `force_closed`."""
        self._force(State.FORCED_OPEN, reason)

    def force_closed(self, reason: str = "forced closed") -> None:
        """Admit every call, whatever fails, until `reset`, `auto` or `force_open`."""
        self._force(State.FORCED_CLOSED, reason)

    def auto(self, reason: str = "automatic again") -> None:
        """End a forced state and go on from the state before it; without one, do nothing.

        A breaker that was open or half-open then decides by a trial.
        """
        with self._lock:
            if self._state in _FORCED:
                self._change_state_needs_lock(self._before_order, reason)
        self._deliver()

    def _force(self, state: State, reason: str) -> None:
        with self._lock:
            if self._state not in _FORCED:
                closed = self._state is State.CLOSED
                self._before_order = State.CLOSED if closed else State.OPEN
            self._change_state_needs_lock(state, reason)
        self._deliver()

    # Admission: the slow way, where there is no shared permit

    def _admit(self) -> Permit | None:
        with self._lock:
            permit = self._admit_needs_lock(self._clock())
        try:
            self._deliver()
        except BaseException:  # an interrupt in a callback: this call will not be made
            if permit is not None:
                permit.release()
            raise
        return permit

    def _admit_needs_lock(self, now: float) -> Permit | None:
        if self._state in _FREE:
            if self.shared_permit is None:
                self._admit_all_needs_lock()
            return self.shared_permit
        if self._state is State.OPEN and now >= self._open_until:
            self._change_state_needs_lock(State.HALF_OPEN, f"open for {self._open_for:.1f} s")
        return self._trials.admit(self, now) if self._state is State.HALF_OPEN else None

    def _admit_all_needs_lock(self) -> None:
        self._failures.restart(self._since, self._count_successes())
        self.shared_permit = Permit(self, trial=False)

    def _retry_after_needs_lock(self, now: float) -> float:
        if self._state is State.FORCED_OPEN:
            return inf
        if self._state is State.OPEN:
            return max(0.0, self._open_until - now)
        return self._trials.retry_after(now) if self._state is State.HALF_OPEN else 0.0

    # The end of a call: `Permit` leads here

    def _succeeded(self, permit: Permit) -> None:
        if permit is self.shared_permit:
            self._succeeded_calls += 1
            if self.has_failures:
                with self._lock:
                    if permit is self.shared_permit:
                        self._clear_failures_needs_lock()
        elif permit.trial:
            with self._lock:
                if permit in self._trials:
                    self._clear_failures_needs_lock()
                    if self._trials.succeed(permit):
                        reason = f"{self._trials.successes} successful trials"
                        self._change_state_needs_lock(State.CLOSED, reason)
            self._deliver()

    def _failed(self, permit: Permit, error: BaseException | None) -> None:
        with self._lock:
            if self._counts_needs_lock(permit):
                self._count_failure_needs_lock(permit, error)
        self._deliver()

    def _released(self, permit: Permit) -> None:
        if permit.trial:
            with self._lock:
                self._trials.release(permit)

    def _partial_timeout(
        self, permit: Permit, waited: float, limit: float, error: BaseException | None
    ) -> None:
        with self._lock:
            if self._counts_needs_lock(permit):
                self.has_failures = True
                if self._failures.add_wait(waited, limit, self._clock()):
                    self._count_failure_needs_lock(permit, error)
                else:
                    self._trials.release(permit)
        self._deliver()

    def _counts_needs_lock(self, permit: Permit) -> bool:
        return permit is self.shared_permit or permit in self._trials

    def _count_failure_needs_lock(self, permit: Permit, error: BaseException | None) -> None:
        self._last_error = "failed" if error is None else f"{type(error).__name__}: {error}"
        if permit.trial:
            self._open_needs_lock("a trial failed", error)
        elif self._state is State.CLOSED:  # not where an operator has decided
            self.has_failures = True
            broken_rule = self._failures.add(self._clock(), self._count_successes())
            if broken_rule is not None:
                self._open_needs_lock(broken_rule, error)

    def _clear_failures_needs_lock(self) -> None:
        self._failures.clear()
        self.has_failures = False

    # Transitions

    def _open_needs_lock(self, reason: str, error: BaseException | None) -> None:
        config, now = self.config, self._clock()
        if self._state is State.HALF_OPEN:
            self._reset_time = min(2 * self._reset_time, config.reset_cap)
        elif not self._reset_time or now - self._since >= self._open_for:
            self._reset_time = config.reset_timeout
        self._open_for = self._reset_time * (1 + JITTER * (2 * self._rng() - 1))
        self._open_until = now + self._open_for
        self._change_state_needs_lock(State.OPEN, reason, error)

    def _change_state_needs_lock(
        self, new: State, reason: str, error: BaseException | None = None
    ) -> None:
        """Begin a new generation: results under earlier permits no longer count.

        Interrupted halfway (by a fork, by an exception from a signal handler), it leaves no
        shared permit; `_admit` then makes one if the state wants it.
        """
        now = self._clock()
        self.shared_permit = None
        self._trials.restart()
        old, self._state = self._state, new
        if not (old in _AWAY and new in _AWAY):
            self._since = now
        self._clear_failures_needs_lock()
        if new in _FREE:
            self._admit_all_needs_lock()
        if old is not new:
            retry_after = self._retry_after_needs_lock(now) if new is State.OPEN else 0.0
            self._events.append(Transition(self.name, old, new, reason, error, retry_after))

    def _deliver(self) -> None:
        """Tell of the transitions, in order: one thread at a time, the others leave it to that one."""
        delivering = self._delivering  # a callback may fork, and the child has another lock
        while self._events and delivering.acquire(blocking=False):
            try:
                while self._events:
                    self._on_change(self._events.popleft())
            except Exception:
                logger.exception("The on_change callback of breaker %r raised", self.name)
            finally:
                delivering.release()

    def _innermost_permit(self) -> Permit:
        """Take the permit of the innermost `with` block of this breaker off the context's stack."""
        stack = _entered.get()
        for index in reversed(range(len(stack))):
            permit = stack[index]
            if permit._breaker is self:
                _entered.set(stack[:index] + stack[index + 1 :])
                return permit
        raise RuntimeError(
            f"left `with {self!r}` in another context than it was entered in; "
            "use acquire() and give the permit back instead"
        )

    def _reset_after_fork(self) -> None:
        self._lock = threading.RLock()
        self._delivering = threading.Lock()
        self._trials.restart()  # their threads are the parent's
        self._events.clear()  # so is the telling of what happened there
