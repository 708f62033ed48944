"""What starts the servers."""

from __future__ import annotations

from tests.services import HOST


def gunicorn(workers: int, *options: str) -> list[str]:
    """The command of a gunicorn with so many workers."""
    return [
        *("gunicorn", "tests.processes.process_wsgi", "--bind", f"{HOST}:PORT"),
        *("--workers", str(workers), "--log-level", "warning", "--graceful-timeout", "2"),
        *("--config", "python:tests.processes.process_gunicorn"),
        *options,
    ]


def uvicorn(workers: int) -> list[str]:
    """The command of a uvicorn with so many workers."""
    return [
        *("uvicorn", "tests.processes.asgi:application", "--log-level", "warning"),
        *("--host", HOST, "--port", "PORT", "--workers", str(workers)),
    ]


def celery(*options: str) -> list[str]:
    """The command of a Celery with two children."""
    return [
        *("celery", "--app", "tests.processes.tasks", "worker", "--pool", "prefork"),
        *("--concurrency", "2", "--loglevel", "WARNING"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        *options,
    ]
