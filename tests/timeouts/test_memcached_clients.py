"""Which Memcached clients the sockets limit takes on, and what it says of the others."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache.backends.memcached import PyMemcacheCache
from django.test import override_settings

from django_resilient_cache.timeouts.sockets.socket_limit import SocketsLimit
from django_resilient_cache.timeouts.sockets.supported_clients import unsupported
from tests.entries import PYLIBMC, PYMEMCACHE, OwnMemcachedLibrary

from .memcached import needs_pylibmc
from .sockets import call, get, put

pymemcache: Any = pytest.importorskip("pymemcache")


def _derived(client=None, servers=None):
    """A HashClient and its Client with methods of a project's own."""
    single = type("OwnClient", (pymemcache.Client,), {"__module__": __name__, **(client or {})})
    own = {"__module__": __name__, "client_class": single, **(servers or {})}
    return type("OwnServers", (pymemcache.HashClient,), own)


def _own_way(self, *args, **kwargs):
    """Does it in a way of its own."""


class OurCache(PyMemcacheCache):
    """Its client derives from known classes and leaves their ways alone."""

    client: Any = _derived()

    def __init__(self, server, params):
        super().__init__(server, params)
        self._class = self.client


class ConnectingCache(OurCache):
    client = _derived(client={"_connect": _own_way})


class PatientCache(OurCache):
    client = _derived(servers={"_safely_run_func": _own_way})


class ForeignCache(OurCache):
    client = OwnMemcachedLibrary.Client


def _reason(backend=PYMEMCACHE, **options):
    cache = {"BACKEND": backend, "LOCATION": "127.0.0.1:1", "OPTIONS": options}
    with override_settings(CACHES={"default": cache}):
        return unsupported("default")


@pytest.mark.parametrize("backend", [PYMEMCACHE, f"{__name__}.OurCache"])
@pytest.mark.parametrize("options", [{}, {"use_pooling": True}, {"no_delay": True}])
def test_pymemcache_is_known(backend, options):
    assert _reason(backend, **options) is None


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("ForeignCache", {}, "does not know the client class tests.entries.OwnMemcached"),
        ("ConnectingCache", {}, "OwnClient has a _connect() of its own"),
        ("PatientCache", {}, "OwnServers has a _safely_run_func() of its own"),
        ("OurCache", {"socket_module": object()}, "socket_module of its own"),
    ],
)
def test_anything_else_is_named(name, options, named):
    assert named in _reason(f"{__name__}.{name}", **options)


@needs_pylibmc
def test_pylibmc_is_out_of_reach():
    assert "written in C" in _reason(PYLIBMC)


@pytest.mark.parametrize(
    ("version", "known"), [("3.4.4", True), ("4.0.0", True), ("3.3.0", False), ("5.0.0rc1", False)]
)
def test_versions_not_known_to_work_are_named(version, known, monkeypatch):
    monkeypatch.setattr(pymemcache, "__version__", version)

    reason = _reason()

    said = f"pymemcache {version} is not a version known to work"
    assert reason is None if known else reason == said


def test_a_client_of_ones_own_is_guarded(memcached):
    cache = {"BACKEND": f"{__name__}.OurCache", "LOCATION": memcached.location}
    with override_settings(CACHES={"default": cache}):
        limit = SocketsLimit("default")
        call(limit, put, "key", "value", budget=2.0)
        assert call(limit, get, "key", budget=2.0) == "value"
        raw: Any = limit.backend()
        (servers,) = raw._cache.clients.values()
        assert isinstance(servers.client_pool.free[-1], OurCache.client.client_class)
        limit.close()
