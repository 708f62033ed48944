"""A network that really fails: a server in a network namespace of its own, the link cut.

Row 15: what was on its way when the link was lost must not arrive after the repair.  Needs root and
iproute2; skipped elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches

from django_resilient_cache import State, breakers
from django_resilient_cache.registry import registry
from tests import services

#: Seconds for which the old value must not turn up; TCP sends again after 0.2, 0.4, 0.8 ... s.
WATCHED = 60 if os.environ.get("RESILIENT_CACHE_TEST_LONG") == "1" else 8


class Namespace:
    """A host of our own behind a pair of virtual interfaces, in the range for documentation."""

    def __init__(self) -> None:
        self.name = f"rc{os.getpid()}"
        self.here, self.there = f"{self.name}a", f"{self.name}b"
        block = os.getpid() % 60 * 4
        self.host_address = f"192.0.2.{block + 1}"
        self.address = f"192.0.2.{block + 2}"

    def __enter__(self) -> Namespace:
        self._ip("netns", "add", self.name)
        self._ip("link", "add", self.here, "type", "veth", "peer", "name", self.there)
        self._ip("link", "set", self.there, "netns", self.name)
        self._ip("addr", "add", f"{self.host_address}/30", "dev", self.here)
        self._ip("link", "set", self.here, "up")
        self._inside("addr", "add", f"{self.address}/30", "dev", self.there)
        self._inside("link", "set", "lo", "up")
        self._inside("link", "set", self.there, "up")
        # Known for good: what waits for an address to be resolved would all be sent at once,
        # as soon as the link is back.
        there = self._inside("-j", "link", "show", "dev", self.there)
        neighbour = ("lladdr", json.loads(there)[0]["address"], "nud", "permanent")
        self._ip("neigh", "replace", self.address, "dev", self.here, *neighbour)
        return self

    def __exit__(self, *exc: object) -> None:
        self._ip("link", "del", self.here, check=False)
        self._ip("netns", "del", self.name, check=False)

    def cut(self) -> None:
        """Lose every packet from now on; neither side is told."""
        self._inside("link", "set", self.there, "down")

    def mend(self) -> None:
        self._inside("link", "set", self.there, "up")

    def _inside(self, *words: str) -> str:
        return self._ip("-n", self.name, *words)

    @staticmethod
    def _ip(*words: str, check: bool = True) -> str:
        return subprocess.run(["ip", *words], check=check, capture_output=True, text=True).stdout


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    if shutil.which("ip") is None:
        services.unavailable("the command ip (iproute2) is not on the PATH")
    try:
        with Namespace() as made:
            yield made
    except subprocess.CalledProcessError as error:
        services.unavailable(f"a network namespace cannot be made here: {error.stderr!r}")


@pytest.fixture
def server(namespace: Namespace) -> Iterator[str]:
    """The URL of a Valkey inside the namespace."""
    program = services.valkey_program()
    if program is None:
        services.unavailable("no Valkey or Redis server")
    port = 6379
    command = ["ip", "netns", "exec", namespace.name, str(program), "--bind", namespace.address]
    command += ["--port", str(port), "--protected-mode", "no", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        assert services.wait_until(lambda: _connects(namespace.address, port))
        yield f"redis://{namespace.address}:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _connects(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True


def test_a_write_cut_off_by_the_network_does_not_arrive_after_the_repair(
    namespace: Namespace, server: str, settings: Any
) -> None:
    settings.CACHES = {
        "default": {
            "BACKEND": "django_resilient_cache.backend.ResilientCache",
            "LOCATION": ["redis"],
        },
        "redis": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": server,
            "RESILIENCE": {
                "OPERATION_TIMEOUT": 0.1,
                "RESET_TIMEOUT": 0.5,
                "MAX_RESET_TIMEOUT": 0.5,
                "MAX_FAILURES": 1,
            },
        },
    }
    cache = caches["default"]
    cache.set("key", "first", timeout=None)
    assert registry.layer("redis").strategy == "sockets"
    # What a plain close leaves behind: the kernel goes on sending.  The test could not fail else.
    careless = socket.create_connection((namespace.address, 6379))

    namespace.cut()
    cache.set("key", "cut off", timeout=None)
    careless.sendall(b"SET careless delivered\r\n")
    careless.close()
    cache.delete("key")
    # TCP sends again after 0.2, 0.6, 1.4, 3.0, 6.2 s: long enough that the repair comes first.
    time.sleep(3.3)
    namespace.mend()
    assert services.wait_until(lambda: registry.layer("redis").ledger.trusted, 2.5)

    ends = time.monotonic() + WATCHED
    seen = set()
    while time.monotonic() < ends:
        seen.add(cache.get("key"))
        time.sleep(0.1)
    assert seen == {None}
    assert registry.layer("redis").ledger.trusted
    assert breakers["redis"].state is State.CLOSED
    with socket.create_connection((namespace.address, 6379)) as asking:
        asking.sendall(b"GET careless\r\n")
        assert b"delivered" in asking.recv(100)
