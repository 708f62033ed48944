"""What the tests of Memcached's clients share."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
from pathlib import Path

import pytest
from django.test import override_settings

from django_resilient_cache.timeouts.sockets.socket_limit import SocketsLimit
from tests import services
from tests.entries import PYLIBMC, PYMEMCACHE

from .in_loop import called

needs_pymemcache = pytest.mark.skipif(
    importlib.util.find_spec("pymemcache") is None, reason="no pymemcache"
)
needs_pylibmc = pytest.mark.skipif(importlib.util.find_spec("pylibmc") is None, reason="no pylibmc")

CLIENTS = [
    pytest.param(PYMEMCACHE, id="pymemcache", marks=needs_pymemcache),
    pytest.param(PYLIBMC, id="pylibmc", marks=needs_pylibmc),
]


def at(port):
    """LOCATION of a server on loopback."""
    return f"{services.HOST}:{port}"


@contextlib.contextmanager
def configured(backend, location, **options):
    """An alias "default" that is such a cache."""
    cache = {"BACKEND": backend, "LOCATION": location, "OPTIONS": options}
    with override_settings(CACHES={"default": cache}):
        yield


@contextlib.contextmanager
def limit_for(location, **options):
    """A sockets limit for a Memcached under pymemcache."""
    with configured(PYMEMCACHE, location, **options):
        limit = SocketsLimit("default")
        try:
            yield called(limit)
        finally:
            limit.close()


class UnixMemcached(services.MemcachedServer):
    """A Memcached that listens on a Unix socket alone."""

    @property
    def path(self):
        return str(self.directory / "socket")

    @property
    def location(self):
        return f"unix:{self.path}"

    def command(self):
        program, *options = super().command()
        kept = options[options.index("-m") :]
        return (program, "-s", self.path, *kept)

    def ask(self, request, enough=b"\n", seconds=1.0):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(self.path)
            connection.sendall(request)
            return connection.recv(65536)


def unix_memcached():
    program = services.memcached_server().program
    return UnixMemcached(Path(program))
