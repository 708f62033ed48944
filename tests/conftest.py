"""What every test may ask for, and what every test gets: empty caches and fresh state."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import django
import pytest
from hypothesis import settings as hypothesis_settings

from tests import services
from tests.exclusive import pytest_runtest_protocol  # noqa: F401  # pytest finds its hook here
from tests.services.postgresql import PostgreSQLServer, postgresql_server
from tests.slow_unmarked import pytest_terminal_summary  # noqa: F401  # the same

# Here, and not in pytest's configuration: tests.settings is importable once this file is.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

# These use what is set up only now.
from tests.services.cache_tables import cache_table  # noqa: E402  # once Django is set up
from tests.services.shared_servers import SharedServers  # noqa: E402  # once Django is set up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import DjangoDbBlocker

# A machine that is busy with something else is no reason for a property to fail.
hypothesis_settings.register_profile("suite", deadline=None)
hypothesis_settings.load_profile("suite")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """The processes of pytest-xdist have to find this file before they look for the settings."""
    del os.environ["DJANGO_SETTINGS_MODULE"]


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
    from django_resilient_cache.concurrency.background import background

    monkeypatch.setattr(background, "wake", lambda: None)
    monkeypatch.setattr(background, "ensure_running", lambda: None)
    monkeypatch.setattr(background, "send", lambda task: task())


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
def shared_postgresql() -> Iterator[PostgreSQLServer]:
    """The server behind `postgresql`; not for tests."""
    with postgresql_server() as server:
        yield server


@pytest.fixture
def postgresql(shared_postgresql: PostgreSQLServer) -> Iterator[PostgreSQLServer]:
    """A healthy PostgreSQL; `databases_entry(name)` makes a database that lasts for the test."""
    yield shared_postgresql
    shared_postgresql.empty()


@pytest.fixture
def own_postgresql() -> Iterator[PostgreSQLServer]:
    """A PostgreSQL of this test's own, to be frozen, killed and started again."""
    with postgresql_server() as server:
        yield server


@contextmanager
def _table_in(blocker: DjangoDbBlocker, alias: str, database: dict[str, Any]) -> Iterator[str]:
    with ExitStack() as stack:
        with blocker.unblock():
            table = stack.enter_context(cache_table(alias, database))
        yield table


@pytest.fixture(scope="session")
def shared_sqlite_table(
    tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Iterator[str]:
    """The table behind `sqlite_table`; not for tests."""
    name = str(tmp_path_factory.mktemp("sqlite") / "cache.sqlite3")
    hasty = {"init_command": "PRAGMA synchronous=OFF"}
    entry = {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": hasty}
    with _table_in(django_db_blocker, "sqlite", entry) as table:
        yield table


@pytest.fixture
def sqlite_table(shared_sqlite_table: str, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A table for a DatabaseCache in a database of its own; see tests/services/cache_tables.py."""
    with django_db_blocker.unblock():
        yield shared_sqlite_table


@pytest.fixture(scope="session")
def shared_postgresql_table(
    shared_postgresql: PostgreSQLServer, django_db_blocker: DjangoDbBlocker
) -> Iterator[str]:
    """The table behind `postgresql_table`; not for tests."""
    entry = shared_postgresql.databases_entry(shared_postgresql.database)
    with _table_in(django_db_blocker, "postgresql", entry) as table:
        yield table


@pytest.fixture
def postgresql_table(
    shared_postgresql_table: str, django_db_blocker: DjangoDbBlocker
) -> Iterator[str]:
    """A table for a DatabaseCache on a healthy PostgreSQL; see tests/services/cache_tables.py."""
    with django_db_blocker.unblock():
        yield shared_postgresql_table


@pytest.fixture(scope="session")
def kept_servers(django_db_blocker: DjangoDbBlocker) -> Iterator[SharedServers]:
    """The servers behind `shared_servers`; not for tests."""
    with SharedServers(django_db_blocker.unblock) as made:
        yield made


@pytest.fixture
def shared_servers(
    kept_servers: SharedServers, django_db_blocker: DjangoDbBlocker
) -> Iterator[SharedServers]:
    """Servers to be frozen and killed, healthy at the start of the test; faster than own ones."""
    with django_db_blocker.unblock():
        yield kept_servers


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
