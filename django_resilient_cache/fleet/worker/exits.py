"""Ends of processes that `atexit` does not see: multiprocessing's children and Celery's."""

from __future__ import annotations

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
