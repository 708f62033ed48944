"""gunicorn for these tests; the rest comes from the command line."""

from __future__ import annotations

control_socket_disable = True  # newer ones open one in the home directory
