"""The site for Celery."""

from __future__ import annotations

import os
import time

from celery import Celery

from tests.processes.site_processes import PATIENCE, Use


def celery_at(url: str) -> Celery:
    """An application whose messages and results are on a Valkey."""
    made = Celery("tests.processes", broker=url, backend=url)
    made.conf.worker_prefetch_multiplier = 1
    return made


def uses(queue: Celery, count: int, task: str = "use") -> dict[int, Use]:
    """Have so many tasks done at once; the first use of the cache in each process that did one."""
    results = [queue.send_task(f"tests.processes.tasks.{task}") for _ in range(count)]
    found: dict[int, Use] = {}
    for result in results:
        use = Use.said(result.get(timeout=PATIENCE))
        found.setdefault(use.pid, use)
    return found


if "SITE_CELERY" in os.environ:
    app = celery_at(os.environ["SITE_CELERY"])

    @app.task
    def use() -> str:
        from tests.processes.process_views import used

        said = used()
        time.sleep(0.2)  # the next task finds the other child free
        return said

    @app.task
    def bare() -> str:
        time.sleep(0.2)
        return f"{os.getpid()} {time.monotonic()}"
