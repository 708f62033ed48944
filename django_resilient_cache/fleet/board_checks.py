"""What `manage.py check` says about the place where workers meet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from django_resilient_cache import conf
from django_resilient_cache.conf import Problem, check_messages
from django_resilient_cache.fleet.board.stores import CALL_SECONDS, directory_refusal, private_path


def register_checks() -> None:
    """Have `manage.py check` run these; for the fleet's installation."""
    checks.register(check_board, checks.Tags.caches)


def check_board(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check that workers can meet, and that each has a thread to do it."""
    return check_messages([*conf.control_problems(), *_directory_problems(), *_thread_problems()])


def _directory_problems() -> Iterator[Problem]:
    """A look and no more: the directory is made when it is first needed."""
    try:
        config = conf.control_config(CALL_SECONDS)
        if config is None or config.layer is not None:
            return
        refusal = directory_refusal(private_path(config))
    except (ImproperlyConfigured, OSError):  # told of elsewhere; not there yet
        return
    if refusal:
        yield Problem(
            "resilient_cache.E043",
            conf.CONTROL_SETTING,
            f"is not set, and the directory where workers would meet cannot be trusted: {refusal}.",
            "Remove what is there, or name an alias in CACHES that all workers share.",
        )


def _thread_problems() -> Iterator[Problem]:
    uwsgi: Any = sys.modules.get("uwsgi")  # there inside its workers only
    options = getattr(uwsgi, "opt", None)
    if isinstance(options, dict) and not {*map(_text, options)} & {"enable-threads", "threads"}:
        yield Problem(
            "resilient_cache.W009",
            "uWSGI",
            "runs without threads: workers neither report nor follow orders while they are idle, "
            "and repair what a cache missed only in passing.",
            "Start it with --enable-threads.",
        )


def _text(option: object) -> str:
    return option.decode(errors="replace") if isinstance(option, bytes) else str(option)
