"""Who types: what an order says about its giver."""

from __future__ import annotations

import getpass
import os
import socket


def actor() -> str:
    """Return "shell ada@web1", or "shell root@web1 (sudo by ada)"."""
    behind = os.environ.get("SUDO_USER")
    return f"shell {user()}@{socket.gethostname()}" + (f" (sudo by {behind})" if behind else "")


def user() -> str:
    """Return the user's name; in a container a user may have none but a number."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return f"uid {os.getuid()}"
