"""Puts a worker's report on each response, so that the demo can add the workers up."""

from __future__ import annotations

import os
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from demo import workers
from django_resilient_cache.layer.registry import registry

View = Callable[[HttpRequest], HttpResponse]


def report_layers(get_response: View) -> View:
    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response[workers.HEADER] = workers.write(os.getpid(), registry.snapshot())
        return response

    return middleware
