"""gunicorn for the demo; number of workers, threads and the socket come from the command line."""

from __future__ import annotations

worker_class = "gthread"
loglevel = "warning"
# Longer than a visitor pauses, so that no connection is closed under a request.
keepalive = 30
graceful_timeout = 2
# Two gunicorns run side by side: neither is to open a control socket in the home directory.
control_socket_disable = True
