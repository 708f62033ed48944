"""The servers of the tests do what they are for."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import services


def ping(address: tuple[str, int], seconds: float = 0.3) -> bytes:
    with socket.create_connection(address, timeout=seconds) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(100)


def test_valkey_answers_freezes_thaws_dies_and_returns_on_its_port(own_valkey):
    address = own_valkey.address
    assert ping(address) == b"+PONG\r\n"
    own_valkey.freeze()
    with pytest.raises(TimeoutError):
        ping(address)
    own_valkey.thaw()
    assert ping(address) == b"+PONG\r\n"
    own_valkey.kill()
    with pytest.raises(ConnectionRefusedError):
        ping(address)
    own_valkey.restart()
    assert own_valkey.address == address
    assert ping(address) == b"+PONG\r\n"


def test_valkey_listens_on_a_unix_socket(valkey):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        connection.connect(valkey.unix_path)
        connection.sendall(b"PING\r\n")
        assert connection.recv(100) == b"+PONG\r\n"


def test_valkey_is_empty_for_each_test(valkey):
    assert valkey.ask(b"DBSIZE\r\n") == b":0\r\n"
    valkey.ask(b"SET a 1\r\n")
    valkey.flush()
    assert valkey.ask(b"DBSIZE\r\n") == b":0\r\n"


def test_a_frozen_server_is_ended_and_its_files_removed():
    with services.valkey_server() as server:
        pid, directory = server.pid, server.directory
        server.freeze()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not directory.exists()


def test_memcached_answers_and_freezes(own_memcached):
    assert own_memcached.answers()
    own_memcached.freeze()
    with pytest.raises(TimeoutError):
        own_memcached.ask(b"version\r\n", seconds=0.2)


def test_tls_is_trusted_by_its_authority_only(valkey_tls, certificates):
    trusting = ssl.create_default_context(cafile=certificates.authority)
    with (
        socket.create_connection(valkey_tls.address, timeout=1) as plain,
        trusting.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"PING\r\n")
        assert connection.recv(100) == b"+PONG\r\n"
    with (
        socket.create_connection(valkey_tls.address, timeout=1) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")


def test_black_hole_takes_a_request_and_never_answers():
    with services.BlackHole() as server, pytest.raises(TimeoutError):
        ping(server.address)


def test_full_backlog_lets_a_connect_hang():
    with services.FullBacklog() as server, pytest.raises(TimeoutError):
        socket.create_connection(server.address, timeout=0.2)


def test_refused_port_refuses():
    with services.RefusedPort() as server, pytest.raises(ConnectionRefusedError):
        ping(server.address)


def test_dripping_server_sends_a_byte_at_a_time():
    with (
        services.DrippingServer(every=0.03) as server,
        socket.create_connection(server.address, timeout=1) as connection,
    ):
        connection.sendall(b"GET a\r\n")
        began = time.monotonic()
        assert [connection.recv(100) for _ in range(4)] == [b"$", b"1", b"0", b"0"]
        assert time.monotonic() - began > 0.06


def test_answering_server_says_what_it_is_told():
    with services.AnsweringServer(lambda piece: b"?" + piece) as server:
        assert ping(server.address) == b"?PING\r\n"


def test_proxy_passes_drops_holds_and_cuts(valkey):
    with services.Proxy(valkey.address) as proxy:
        assert ping(proxy.address) == b"+PONG\r\n"
        proxy.answers = "drop"
        with socket.create_connection(proxy.address, timeout=0.2) as connection:
            connection.sendall(b"SET a 1\r\n")
            with pytest.raises(TimeoutError):
                connection.recv(100)
        assert valkey.ask(b"DBSIZE\r\n") == b":1\r\n"
        proxy.answers = "hold"
        with socket.create_connection(proxy.address, timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            time.sleep(0.05)
            proxy.answers = "pass"
            assert connection.recv(100) == b"+PONG\r\n"
            proxy.requests = "drop"
            connection.sendall(b"SET b 1\r\n")
            time.sleep(0.05)
            proxy.cut()
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(100) == b""
        assert valkey.ask(b"DBSIZE\r\n") == b":1\r\n"


def test_missing_service_skips_or_fails_as_asked(monkeypatch):
    monkeypatch.delenv(services.REQUIRE, raising=False)
    with pytest.raises(pytest.skip.Exception):
        services.unavailable("no such thing")
    monkeypatch.setenv(services.REQUIRE, "1")
    with pytest.raises(pytest.fail.Exception, match="no such thing"):
        services.unavailable("no such thing")


required = pytest.mark.skipif(
    os.environ.get(services.REQUIRE) != "1", reason="services are not required here"
)


@required
@pytest.mark.parametrize("package", ["celery", "gevent", "gunicorn", "psycopg", "uvicorn"])
def test_where_services_are_required_so_are_the_packages_that_need_them(package):
    assert find_spec(package)


@required
def test_and_so_is_the_driver_of_the_browser():
    assert find_spec("playwright")


def test_server_that_cannot_start_says_why(tmp_path: Path):
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\necho out of order >&2; exit 3\n")
    program.chmod(0o755)
    with pytest.raises(services.ServerDidNotStartError, match="out of order"):
        services.ValkeyServer(program).__enter__()


def test_postgresql_freezes_with_all_its_processes_dies_and_returns(own_postgresql):
    import psycopg

    entry = own_postgresql.databases_entry("shop")
    assert entry["NAME"] == "shop"
    where = f"host={entry['HOST']} port={entry['PORT']} user={entry['USER']} dbname=shop"
    connection = psycopg.connect(where, autocommit=True)
    own_postgresql.freeze()
    connection.pgconn.send_query(b"SELECT 1")
    assert not select.select([connection.pgconn.socket], [], [], 0.2)[0]
    own_postgresql.thaw()
    assert select.select([connection.pgconn.socket], [], [], 20)[0]
    connection.close()
    own_postgresql.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(where)
    own_postgresql.start()
    with psycopg.connect(where) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_database_made_for_one_test_is_gone_in_the_next(postgresql):
    postgresql.databases_entry("shop")
    postgresql.empty()
    with pytest.raises(Exception, match="does not exist"):
        postgresql.run('DROP DATABASE "shop"')
