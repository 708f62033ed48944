"""Event loops for the tests of what waits in one."""

from __future__ import annotations

import asyncio
import contextlib


def run(coroutine):
    """As asyncio.run, of what must not take long."""

    async def main():
        return await asyncio.wait_for(coroutine, 10.0)

    return asyncio.run(main())


@contextlib.contextmanager
def a_loop():
    """A loop that is closed with whatever is under way in it."""
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


def begun(loop, coroutine):
    """A task that has run to its first wait and nobody will complain about."""
    task = loop.create_task(coroutine)
    task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0.01))
    assert not task.done()
    return task
