"""Ends of processes that `atexit` does not see: children of multiprocessing, and Celery's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def on_other_ends(leave: Callable[[], object]) -> None:
    """Have `leave` called where this process is a child that ends by itself.

    Only what has been imported already can be what runs this process.
    """
    util: Any = sys.modules.get("multiprocessing.util")
    process: Any = sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, leave, exitpriority=0)
    celery: Any = sys.modules.get("celery.signals")
    if celery is not None:

        def ends(**kwargs: object) -> None:
            leave()

        uid = "django_resilient_cache.fleet"
        celery.worker_process_shutdown.connect(ends, weak=False, dispatch_uid=uid)
