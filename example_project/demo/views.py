"""A page with a switch: Valkey frozen or running.  Only `manage.py demo` serves it."""

from __future__ import annotations

import os
import signal
from urllib.parse import urlsplit

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from demo.processes import answers_ping

#: Seconds that a healthy server has for its answer.
PATIENCE = 0.3

SIGNALS = {"freeze": signal.SIGSTOP, "resume": signal.SIGCONT}


@require_http_methods(["GET", "POST"])
def valkey(request: HttpRequest) -> HttpResponse:
    pid = int(os.environ.get("VALKEY_PID", "0"))
    if not pid:
        raise Http404("There is a switch in `manage.py demo` only.")
    if request.method == "POST":
        number = SIGNALS.get(request.POST.get("do", ""))
        if number is not None:
            os.kill(pid, number)
        return redirect("valkey")
    address = urlsplit(os.environ["REDIS_URL"])
    running = answers_ping(str(address.hostname), int(address.port or 6379), PATIENCE)
    return render(request, "demo/valkey.html", {"running": running, "pid": pid})
