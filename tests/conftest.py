"""What every test may ask for, and what every test gets: empty caches and fresh state."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import django
import pytest
from hypothesis import settings as hypothesis_settings

from tests import services

# Here, and not in pytest's configuration: tests.settings is importable once this file is.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

if TYPE_CHECKING:
    from collections.abc import Iterator

# A machine that is busy with something else is no reason for a property to fail.
hypothesis_settings.register_profile("suite", deadline=None)
hypothesis_settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _fresh_caches() -> Iterator[None]:
    """Every test starts as a process does: no entries, no breakers, no open clients."""
    from django.conf import settings
    from django.core.cache.backends import locmem
    from django.test import override_settings

    for shared in ("_caches", "_expire_info", "_locks"):
        getattr(locmem, shared).clear()
    with override_settings(CACHES=settings.CACHES):
        yield


@pytest.fixture
def still_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing happens in the background: no repairs, no trials, log lines and signals at once."""
    from django_resilient_cache.agent import agent

    monkeypatch.setattr(agent, "wake", lambda: None)
    monkeypatch.setattr(agent, "attend", lambda: None)
    monkeypatch.setattr(agent, "send", lambda errand: errand())


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[services.ValkeyServer]:
    """The server behind `valkey`; not for tests."""
    with services.valkey_server() as server:
        yield server


@pytest.fixture
def valkey(shared_valkey: services.ValkeyServer) -> services.ValkeyServer:
    """A healthy, empty Valkey.  A test that freezes or kills takes `own_valkey`."""
    shared_valkey.flush()
    return shared_valkey


@pytest.fixture
def own_valkey() -> Iterator[services.ValkeyServer]:
    """A Valkey of this test's own, to be frozen, killed and started again."""
    with services.valkey_server() as server:
        yield server


@pytest.fixture(scope="session")
def shared_memcached() -> Iterator[services.MemcachedServer]:
    """The server behind `memcached`; not for tests."""
    with services.memcached_server() as server:
        yield server


@pytest.fixture
def memcached(shared_memcached: services.MemcachedServer) -> services.MemcachedServer:
    """A healthy, empty Memcached.  A test that freezes or kills takes `own_memcached`."""
    shared_memcached.flush()
    return shared_memcached


@pytest.fixture
def own_memcached() -> Iterator[services.MemcachedServer]:
    """A Memcached of this test's own, to be frozen, killed and started again."""
    with services.memcached_server() as server:
        yield server


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> services.Certificates:
    """A certificate authority and a certificate for loopback."""
    return services.Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def valkey_tls(
    valkey: services.ValkeyServer, certificates: services.Certificates
) -> Iterator[services.TlsProxy]:
    """The healthy Valkey, reached through TLS; its `url` names the authority to trust."""
    with services.TlsProxy(valkey.address, certificates) as proxy:
        yield proxy
