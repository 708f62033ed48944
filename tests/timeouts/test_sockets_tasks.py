"""The sockets limit under many tasks at a time, and under tasks that are ended meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import threading
import time
import warnings
from contextvars import ContextVar
from typing import Any

import pytest
from django.test import override_settings

from django_resilient_cache.timeouts.sockets.budget import current_budget
from django_resilient_cache.timeouts.sockets.socket_limit import SocketsLimit
from django_resilient_cache.timeouts.time_limit import BulkheadFull, TimedOut
from tests import services
from tests.calls import FunctionCall
from tests.entries import DJANGO_REDIS, PYMEMCACHE

from . import memcached, sockets
from .in_loop import MOST_LAG, exit_code_of, needs_greenlet, watched, watching
from .sockets import BACKENDS, GRACE, LIMIT, get, package_of, put

pytestmark = needs_greenlet

every_client = pytest.mark.parametrize(
    "client",
    [*BACKENDS, pytest.param(PYMEMCACHE, id="pymemcache", marks=memcached.needs_pymemcache)],
)
every_backend = pytest.mark.parametrize("backend", BACKENDS)

here = ContextVar("here", default="nowhere")


def limit_at(client, address, **options):
    """A sockets limit for a server at `address`, by whichever client."""
    host, port = address
    if client == PYMEMCACHE:
        return memcached.limit_for(f"{host}:{port}", **options)
    return sockets.limit_for(client, f"redis://{host}:{port}/0", **options)


@contextlib.contextmanager
def server_for(client):
    with (
        services.memcached_server() if client == PYMEMCACHE else services.valkey_server() as server
    ):
        yield server


@pytest.fixture
def server(client, request):
    """A healthy one."""
    return request.getfixturevalue("memcached" if client == PYMEMCACHE else "valkey")


def acall(limit, operation=get, *args, budget=2.0):
    return limit.acall(FunctionCall(operation, *(args or ("key",))), budget, trial=False)


async def timed(awaitable):
    """What it gave or raised, and how many seconds it took."""
    start = time.monotonic()
    try:
        outcome = await awaitable
    except Exception as error:
        outcome = error
    return outcome, time.monotonic() - start


def run(coroutine):
    async def main():
        async with asyncio.timeout(20.0):
            return await coroutine

    return asyncio.run(main())


async def until(condition, seconds=5.0):
    """Wait for what something else does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


# Many at a time


@every_client
def test_many_tasks_share_few_connections(client, server):
    async def main(limit):
        await asyncio.gather(*(acall(limit, put, f"key{n}", n) for n in range(300)))
        return await asyncio.gather(*(acall(limit, get, f"key{n}") for n in range(300)))

    with services.Proxy(server.address) as proxy, limit_at(client, proxy.address) as limit:
        assert run(main(limit)) == list(range(300))
        assert proxy.connections <= 16


@every_client
def test_who_waits_for_a_place_goes_as_soon_as_the_layer_is_refused(client):
    async def main(limit, server):
        await asyncio.gather(*(acall(limit, put, f"key{n}", n) for n in range(16)))
        server.freeze()
        tasks = [asyncio.create_task(timed(acall(limit, budget=60.0))) for _ in range(50)]
        await asyncio.sleep(0.05)
        limit.is_rejecting = lambda: True
        limit.reject_waiting()
        done, _ = await asyncio.wait(tasks, timeout=0.5)
        server.thaw()
        await asyncio.gather(*tasks)
        return len(done), {type(task.result()[0]) for task in done}

    with server_for(client) as server, limit_at(client, server.address) as limit:
        assert run(main(limit, server)) == (50 - 16, {BulkheadFull})


def test_a_trial_waits_for_no_place_and_no_call_is_made_without_time(valkey):
    async def main(limit):
        for _ in range(16):
            assert await limit._bulkhead.aenter(0.0)
        with pytest.raises(BulkheadFull):
            await asyncio.wait_for(limit.acall(FunctionCall(get, "key"), 60.0, trial=True), 5.0)
        late = asyncio.create_task(limit.acall(FunctionCall(get, "key"), 0.02, trial=False))
        await asyncio.sleep(0)
        limit._bulkhead.leave()
        time.sleep(0.03)  # noqa: ASYNC251 - the loop is late
        with pytest.raises(BulkheadFull):
            await late
        assert await limit.acall(FunctionCall(get, "key"), 5.0, trial=True) is None
        assert await limit._bulkhead.aenter(0.0)
        assert not await limit._bulkhead.aenter(0.0)

    with limit_at(DJANGO_REDIS, valkey.address) as limit:
        run(main(limit))


@every_client
def test_a_frozen_server_keeps_no_task_longer_than_its_limit(client):
    """Those that found no place included, and the loop is free for others."""

    async def attempt(limit):
        with watching() as beats:
            outcomes = await asyncio.gather(*(timed(acall(limit, budget=LIMIT)) for _ in range(50)))
        kinds = {type(outcome) for outcome, _ in outcomes}
        assert {TimedOut, BulkheadFull} & kinds
        for outcome, _ in outcomes:  # by then connecting may have been given up
            assert isinstance(outcome, TimedOut | BulkheadFull | OSError) or "Timeout" in repr(
                outcome
            )
        return max(seconds for _, seconds in outcomes), beats.longest()

    async def main(limit, server):
        await asyncio.gather(*(acall(limit, put, f"key{n}", n) for n in range(16)))
        server.freeze()
        seen = []
        for _ in range(8):  # a machine busy elsewhere gets more than one try
            seconds, lag = await attempt(limit)
            seen.append((seconds, lag))
            if seconds <= LIMIT + 2 * GRACE and lag < LIMIT:
                break  # one after the other, or with the loop held up, it would be 1.6 s
        else:
            pytest.fail(f"(seconds, lag): {seen}")
        server.thaw()
        await until_answered(limit)

    with server_for(client) as server, limit_at(client, server.address) as limit:
        run(main(limit, server))


async def until_answered(limit):
    outcome: Any = None
    for _ in range(100):
        outcome, _ = await timed(acall(limit, get, "key3", budget=5.0))
        if outcome == 3:
            return
    pytest.fail(f"{outcome}")


@pytest.mark.parametrize("backend", BACKENDS[:2])
def test_large_values_let_others_have_their_turn(backend, valkey):
    """Measured in the processor's time: what another program takes is no part of it.

    (django-valkey's own code takes a tenth of a second to look through such a value.)
    """
    value = os.urandom(10_000_000)

    async def main(limit):
        await acall(limit, put, "key", value, budget=10.0)
        with watching(time.process_time) as beats:
            found = await asyncio.gather(*(acall(limit, budget=10.0) for _ in range(5)))
        assert found == [value] * 5
        return beats.longest()

    with limit_at(backend, valkey.address) as limit:
        assert min(run(main(limit)) for _ in range(2)) < 0.1


@every_client
def test_tasks_in_two_loops_and_threads_at_once(client, server):
    wrong, asked = [], []
    stop = threading.Event()

    def check(key, value):
        asked.append(key)
        if value != f"value of {key}":
            wrong.append((key, value))

    async def task(limit):
        while not stop.is_set():
            key = f"key{random.randrange(20)}"
            check(key, await acall(limit, get, key, budget=10.0))

    async def tasks(limit):
        await asyncio.gather(*(task(limit) for _ in range(20)))

    def thread(limit):
        while not stop.is_set():
            key = f"key{random.randrange(20)}"
            check(key, limit.call(FunctionCall(get, key), 10.0, trial=False))

    with limit_at(client, server.address) as limit:
        for number in range(20):
            limit.call(
                FunctionCall(put, f"key{number}", f"value of key{number}"), 10.0, trial=False
            )
        threads = [threading.Thread(target=lambda: asyncio.run(tasks(limit))) for _ in range(2)]
        threads += [threading.Thread(target=thread, args=(limit,)) for _ in range(2)]
        for each in threads:
            each.start()
        time.sleep(0.7)
        stop.set()
        for each in threads:
            each.join(20.0)

    assert not wrong
    assert len(asked) > 50


@every_client
def test_a_hundred_loops_one_after_the_other(client, server):
    with services.Proxy(server.address) as proxy, limit_at(client, proxy.address) as limit:
        run(acall(limit, put, "key", "value"))
        for _ in range(100):
            assert run(acall(limit)) == "value"
        assert proxy.connections == 1


@every_client
def test_a_place_is_given_on_as_soon_as_it_is_free(client, server):
    """The sync clients' own queues would keep the loop waiting; tasks have one of their own."""
    options: dict[str, Any] = {"use_pooling": True, "max_pool_size": 1}
    if client != PYMEMCACHE:
        pool = f"{package_of(client)}.connection.BlockingConnectionPool"
        options = {"pool_class": pool, "max_connections": 1, "timeout": 20}

    async def main(limit):
        await acall(limit, put, "key", "value")
        with watching() as beats:
            found = await asyncio.gather(*(acall(limit) for _ in range(50)))
        assert found == ["value"] * 50
        return beats.longest()

    with limit_at(client, server.address, **options) as limit:
        assert min(run(main(limit)) for _ in range(3)) < MOST_LAG


@every_backend
def test_who_sets_up_a_connection_holds_nobody_up(backend, valkey):
    """One has a free place of a blocking pool and connects; the next is called all the same."""
    pool_class = f"{package_of(backend)}.connection.BlockingConnectionPool"
    held = []

    def occupy(raw, free):
        owner = raw._cache if hasattr(raw, "_cache") else raw.client
        pool = owner.get_client().connection_pool
        with warnings.catch_warnings():  # some versions need the argument, later ones warn of it
            warnings.simplefilter("ignore")
            connection = pool.get_connection("GET")
        held.append(connection)
        budget: Any = current_budget.get()
        budget.event_loop.result(free.wait)
        pool.release(connection)

    async def main(limit, proxy):
        free, at_once = asyncio.Event(), asyncio.Event()
        at_once.set()
        holds = asyncio.create_task(acall(limit, occupy, free))
        await until(lambda: held)
        proxy.answers = "hold"
        connects = asyncio.create_task(acall(limit, occupy, at_once))
        await until(lambda: proxy.connections == 2)
        waits = asyncio.create_task(acall(limit, occupy, at_once))
        await asyncio.sleep(0.02)
        free.set()
        await asyncio.wait((holds, waits), timeout=1.0)
        assert waits.done()
        assert not connects.done()
        proxy.answers = "pass"
        await connects

    with services.Proxy(valkey.address) as proxy:
        url = f"redis://{proxy.location}/1"  # with a database to select there is a greeting
        with sockets.limit_for(backend, url, pool_class=pool_class, max_connections=2) as limit:
            run(main(limit, proxy))


# Ended meanwhile


POINTS = ("waits for a place", "connects", "sent", "half an answer")


@pytest.mark.parametrize("point", POINTS)
@every_client
def test_a_task_is_cancelled_at_once_and_its_connection_is_not_used_again(client, point, server):
    async def main(limit, proxy):
        loop = asyncio.get_running_loop()
        before = watched(loop)
        if point != "connects":
            await acall(limit, put, "one", "value of one")
            await acall(limit, put, "two", "value of two")
        proxy.answers = "drip" if point == "half an answer" else "hold"
        others = []
        if point == "waits for a place":
            others = [asyncio.create_task(acall(limit, get, "one")) for _ in range(16)]
            await asyncio.sleep(0.01)
        connections = proxy.connections
        task = asyncio.create_task(acall(limit, get, "one"))
        if point == "connects":
            await until(lambda: proxy.connections > connections)
        await asyncio.sleep(0.1 if point == "half an answer" else 0.02)
        start = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        seconds = time.monotonic() - start
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        proxy.answers = "pass"
        if point == "connects":
            await acall(limit, put, "two", "value of two")
        assert await acall(limit, get, "two") == "value of two"
        assert watched(loop) == before
        return seconds

    def attempt():
        with services.Proxy(server.address, every=0.02) as proxy:
            with limit_at(client, proxy.address) as limit:
                return run(main(limit, proxy))

    # A machine busy elsewhere gets more than one try.
    assert any(attempt() < 0.02 for _ in range(4))


class Noticing(services.Proxy):
    """A proxy that tells how its connections end."""

    resets = 0

    async def _requests(self, source, target):
        try:
            await super()._requests(source, target)
        except ConnectionResetError:
            self.resets += 1
            raise


@every_client
def test_a_cancelled_request_is_taken_back(client, server):
    """The connection is reset: what did not reach the server's machine never will."""

    async def main(limit, proxy):
        await acall(limit, put, "key", "value")
        proxy.answers = "hold"
        task = asyncio.create_task(acall(limit))
        await asyncio.sleep(0.03)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: proxy.resets == 1)

    with Noticing(server.address) as proxy, limit_at(client, proxy.address) as limit:
        run(main(limit, proxy))


@every_client
def test_a_timeout_around_a_call_holds(client, server):
    async def main(limit):
        await acall(limit, put, "key", "value")
        proxy.answers = "hold"
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.03):
                await acall(limit)
        seconds = time.monotonic() - start
        proxy.answers = "pass"
        assert await acall(limit) == "value"
        return seconds

    with services.Proxy(server.address) as proxy, limit_at(client, proxy.address) as limit:
        assert min(run(main(limit)) for _ in range(3)) < 0.03 + GRACE


@pytest.mark.slow
@every_client
def test_no_task_ever_gets_the_answer_of_another(client):
    keys = [f"key{number}" for number in range(30)]
    wrong, ended, right = [], [], []

    async def ask(limit, stop):
        while not stop.is_set():
            chosen = random.sample(keys, 2)
            many = random.random() < 0.3
            budget = random.choice((0.0005, 0.002, 0.005, 0.02))
            call = (
                acall(limit, get_many, chosen, budget=budget)
                if many
                else acall(limit, get, chosen[0], budget=budget)
            )
            try:
                async with asyncio.timeout(random.choice((0.0005, 0.003, 10.0))):
                    found = await call
            except (TimedOut, BulkheadFull, TimeoutError):
                ended.append(1)
                await asyncio.sleep(0)
                continue
            right.append(1)
            found = found if many else {chosen[0]: found}
            wrong.extend((key, value) for key, value in found.items() if value != f"value of {key}")

    async def main(limit, server):
        for key in keys:
            await acall(limit, put, key, f"value of {key}")
        stop = asyncio.Event()
        tasks = [asyncio.create_task(ask(limit, stop)) for _ in range(20)]
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            server.freeze()
            await asyncio.sleep(random.uniform(0.001, 0.03))
            server.thaw()
            await asyncio.sleep(random.uniform(0.001, 0.03))
        stop.set()
        await asyncio.gather(*tasks)

    with server_for(client) as server, limit_at(client, server.address) as limit:
        run(main(limit, server))
        assert len(limit._bulkhead._free) == 16

    assert not wrong
    assert len(ended) > 20
    assert len(right) > 20


def get_many(raw, keys):
    return raw.get_many(keys)


@every_client
def test_what_a_closed_loop_leaves_behind_is_let_go(client, server):
    """Its places are free again, its connections are not used again."""

    async def begin(limit):
        tasks = [asyncio.create_task(acall(limit, get, "one", budget=60.0)) for _ in range(20)]
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own
        await asyncio.sleep(0.05)
        return tasks

    with services.Proxy(server.address) as proxy, limit_at(client, proxy.address) as limit:
        run(acall(limit, put, "one", "value of one"))
        run(acall(limit, put, "two", "value of two"))
        proxy.answers = "hold"
        loop = asyncio.new_event_loop()
        tasks = loop.run_until_complete(begin(limit))
        loop.close()
        del tasks
        proxy.answers = "pass"
        # While a connection is being set up, who waits for that is known there.
        assert services.wait_until(lambda: gc.collect() >= 0 and len(limit._bulkhead._free) == 16)

        found = [run(acall(limit, get, "two")) for _ in range(20)]

        assert found == ["value of two"] * 20


@every_client
def test_a_forked_child_uses_nothing_of_its_parents_loop(client, server):
    async def main(limit):
        waits = [asyncio.create_task(acall(limit, get, "slow", budget=10.0)) for _ in range(16)]
        await asyncio.sleep(0.05)
        child = os.fork()
        if not child:
            code = 1
            try:
                threading.Thread(target=answer_in_child, args=(limit,)).start()
                code = 0 if answers.wait(10.0) else 2
            finally:
                os._exit(code)
        code = await exit_code_of(child)
        proxy.answers = "pass"
        assert await asyncio.gather(*waits) == [None] * 16
        return code

    answers = threading.Event()

    def answer_in_child(limit):
        proxyless = limit_at(client, server.address)
        with proxyless as fresh:
            if asyncio.run(acall(fresh)) == "value":
                answers.set()

    with services.Proxy(server.address) as proxy, limit_at(client, proxy.address) as limit:
        run(acall(limit, put, "key", "value"))
        proxy.answers = "hold"
        assert run(main(limit)) == 0


# What the code inside sees


def variable_key(key, prefix, version):
    """A KEY_FUNCTION for a site of many tenants."""
    return f"{here.get()}:{prefix}:{version}:{key}"


@every_client
def test_a_key_function_sees_the_callers_context_variables(client, server):
    async def tenant(limit, name):
        here.set(name)
        await acall(limit, put, "key", name)
        await asyncio.sleep(0)
        return await acall(limit)

    async def main(limit):
        return await asyncio.gather(*(tenant(limit, f"tenant{n}") for n in range(5)))

    with limit_at(client, server.address) as made:
        from django.conf import settings

        cache = {**settings.CACHES["default"], "KEY_FUNCTION": variable_key}
        with override_settings(CACHES={"default": cache}):
            limit = SocketsLimit("default")
            try:
                assert run(main(limit)) == [f"tenant{n}" for n in range(5)]
            finally:
                limit.close()
        del made


@every_client
def test_without_a_budget_it_waits_for_its_answer(client, server):
    async def main(limit):
        await acall(limit, put, "key", "value", budget=None)
        proxy.answers = "hold"
        task = asyncio.create_task(acall(limit, budget=None))
        await asyncio.sleep(0.1)
        assert not task.done()
        proxy.answers = "pass"
        return await task

    with services.Proxy(server.address) as proxy, limit_at(client, proxy.address) as limit:
        assert run(main(limit)) == "value"
