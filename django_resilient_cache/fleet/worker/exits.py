"""Ends of processes that `atexit` does not see: multiprocessing's children, Celery's, uvicorn's."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

_UID = "django_resilient_cache.fleet"


def on_other_ends(leave: Callable[[], object]) -> None:
    """Have `leave` called where this process does not end as others do.

    Only what has been imported already can be what runs this process.
    """
    _of_multiprocessing(leave)
    _of_celery(leave)
    _of_uvicorn(leave)


def _of_multiprocessing(leave: Callable[[], object]) -> None:
    util: Any = sys.modules.get("multiprocessing.util")
    process: Any = sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, leave, exitpriority=0)


def _of_celery(leave: Callable[[], object]) -> None:
    celery: Any = sys.modules.get("celery.signals")
    if celery is None:
        return

    def ends(**kwargs: object) -> None:
        leave()

    celery.worker_process_shutdown.connect(ends, weak=False, dispatch_uid=_UID)


def _of_uvicorn(leave: Callable[[], object]) -> None:
    """Leave with uvicorn's server: it then ends the process by the signal that it had caught."""
    uvicorn: Any = sys.modules.get("uvicorn.server")
    server: Any = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if uvicorn is None or not isinstance(server, uvicorn.Server):
        return
    shutdown = server.shutdown

    async def shutdown_and_leave(*args: Any, **kwargs: Any) -> None:
        try:
            await shutdown(*args, **kwargs)
        finally:
            if getattr(server, "_captured_signals", None):  # else the process may go on
                leave()

    server.shutdown = shutdown_and_leave
