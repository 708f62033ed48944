"""gunicorn for the browser tests; the address comes from the command line."""

from __future__ import annotations

workers = 2
worker_class = "gthread"
threads = 4
loglevel = "warning"
graceful_timeout = 2
control_socket_disable = True  # newer ones open one in the home directory
