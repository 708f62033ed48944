"""What a forked child begins anew: locks that the parent's threads held, threads, connections.

One place for all: an object that owns such things registers a method where it is made.
Standard library only.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

logger = logging.getLogger("django_resilient_cache")

#: What resets each owner, in the order of registration.
_resets: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()

_pid = os.getpid()


def reset_in_child(reset: Callable[[], None]) -> None:
    """Call `reset`, a method, in every forked child from now on, as long as its owner lives.

    The order is that of registration, so an object registers after its parts.
    """
    assert isinstance(reset, MethodType)  # noqa: S101 - its owner is held weakly
    _resets[reset.__self__] = reset.__func__


def is_child() -> bool:
    """Whether this process was forked and nobody has told Python, as uWSGI may do."""
    return _pid != os.getpid()


def reset_all() -> None:
    """Reset all owners: this process is a forked child."""
    global _pid  # noqa: PLW0603 - a process has one
    _pid = os.getpid()
    for owner, reset in list(_resets.items()):
        try:
            reset(owner)
        except Exception:
            logger.exception("%r could not be reset in a forked process", owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reset_all)
