"""A network that really fails: a server in a network namespace of its own, the link cut.

What was on its way when the link was lost must not arrive after the repair; and what is connected to
or looked up when no packet gets through costs no more than a frozen server.  Needs root and
iproute2; skipped elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches

from django_resilient_cache import State, breakers
from django_resilient_cache.layer.registry import registry
from tests import services
from tests.contract.kinds import EVERY, Kind, available
from tests.traffic import absent, attempts, chain_over, too_slow, traffic, wait_for

pytestmark = pytest.mark.slow

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
        # as soon as the link is back; and where it is not resolved, that is an error.
        self._known(self.here, self.address, self._inside("-j", "link", "show", "dev", self.there))
        here = self._ip("-j", "link", "show", "dev", self.here)
        self._known(self.there, self.host_address, here, inside=True)
        return self

    def __exit__(self, *exc: object) -> None:
        self._ip("link", "del", self.here, check=False)
        self._ip("netns", "del", self.name, check=False)
        shutil.rmtree(self._own_files, ignore_errors=True)

    def cut(self) -> None:
        """Lose every packet to the server from now on; neither side is told."""
        self._inside("link", "set", self.there, "down")

    def mend(self) -> None:
        self._inside("link", "set", self.there, "up")

    def lose_the_name_server(self) -> None:
        """From inside the namespace names are asked of a host to which every packet is lost."""
        self._own_files.mkdir(parents=True)
        resolver = f"nameserver {self.host_address}\noptions timeout:30\n"
        (self._own_files / "resolv.conf").write_text(resolver)
        (self._own_files / "nsswitch.conf").write_text("hosts: dns\n")
        self._ip("link", "set", self.here, "down")

    def command(self, *words: str) -> list[str]:
        """What runs a program inside the namespace."""
        return ["ip", "netns", "exec", self.name, *words]

    @property
    def _own_files(self) -> Path:
        """What `ip netns exec` puts over the files of the same names in /etc."""
        return Path("/etc/netns") / self.name

    def _known(self, device: str, address: str, link: str, *, inside: bool = False) -> None:
        neighbour = ("lladdr", json.loads(link)[0]["address"], "nud", "permanent")
        run = self._inside if inside else self._ip
        run("neigh", "replace", address, "dev", device, *neighbour)

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


@dataclass
class Inside:
    """A server inside the namespace."""

    address: str
    port: int

    @property
    def url(self) -> str:
        return f"redis://{self.address}:{self.port}/0"

    @property
    def location(self) -> str:
        return f"{self.address}:{self.port}"

    def connects(self) -> bool:
        try:
            socket.create_connection((self.address, self.port), 1).close()
        except OSError:
            return False
        return True


@contextmanager
def running(namespace: Namespace, *command: str, port: int) -> Iterator[Inside]:
    process = subprocess.Popen(namespace.command(*command), stdout=subprocess.DEVNULL)
    try:
        server = Inside(namespace.address, port)
        assert services.wait_until(server.connects)
        yield server
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def valkey_inside(namespace: Namespace) -> Iterator[Inside]:
    program = services.valkey_program()
    if program is None:
        services.unavailable("no Valkey or Redis server")
    options = ["--bind", namespace.address, "--port", "6379", "--protected-mode", "no"]
    options += ["--save", "", "--appendonly", "no"]
    with running(namespace, str(program), *options, port=6379) as server:
        yield server


@contextmanager
def memcached_inside(namespace: Namespace) -> Iterator[Inside]:
    program = shutil.which("memcached")
    if program is None:
        services.unavailable("no memcached on the PATH")
    options = ["-l", namespace.address, "-p", "11211", "-U", "0", "-u", "root"]
    with running(namespace, program, *options, port=11211) as server:
        yield server


SERVERS = {"valkey": valkey_inside, "memcached": memcached_inside}


@pytest.fixture
def server(namespace: Namespace) -> Iterator[str]:
    """The URL of a Valkey inside the namespace."""
    with valkey_inside(namespace) as server:
        yield server.url


#: Each client whose wait for a connection a limit ends.
CLIENTS = (
    *("django-redis, sockets", "django-redis, thread", "django-valkey, sockets"),
    *("pymemcache, sockets", "pylibmc, thread"),
)
KINDS = [kind for kind in EVERY if kind.label in CLIENTS]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_packets_lost_while_connecting_cost_no_more_than_the_limit(
    kind: Kind, namespace: Namespace
) -> None:
    available(kind)
    with SERVERS[str(kind.place)](namespace) as server:

        def broken_rule() -> str:
            namespace.cut()
            with chain_over(kind.entry_at(server), RESET_TIMEOUT=0.5):
                with traffic(absent) as running:
                    wait_for("layer", State.OPEN, 10)
                    time.sleep(0.3)
                    before = list(running.lengths)
                    assert registry.layer("layer").guard.counters.failures == 0, (
                        "nothing was refused"
                    )
                    # Until the trials have found it again.
                    namespace.mend()
                    wait_for("layer", State.CLOSED, 20)
                assert registry.layer("layer").guard.strategy == kind.strategy
            return too_slow(before)

        attempts(broken_rule)


CHILD = """
    import json, sys, time
    import django
    from django.conf import settings

    refusing, lost = map(json.loads, sys.argv[1:])
    settings.configure(CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}})
    django.setup()
    from django_resilient_cache import State
    from django_resilient_cache.layer.registry import registry
    from tests.traffic import absent, chain_over, too_slow, traffic, wait_for

    with chain_over(refusing) as cache:
        absent(cache, 1)  # what is imported at the first call is there from now on
    with chain_over(lost, RESET_TIMEOUT=60):
        with traffic(absent) as running:
            wait_for("layer", State.OPEN, 10)
            time.sleep(0.3)
        counts = registry.snapshot()["layer"]
        # Otherwise the lookups would not have hung, and this would be about nothing.
        assert counts["timeouts"] >= 5 and counts["failures"] == 0, counts
        broken_rule = too_slow(running.lengths)
        print(json.dumps({"broken rule": broken_rule, "ends": time.monotonic()}), flush=True)
"""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_a_name_lookup_that_never_ends_costs_no_more_than_the_limit(
    kind: Kind, namespace: Namespace
) -> None:
    """The real resolver, which nothing interrupts; nor does the process wait for it at its end."""
    available(kind)
    namespace.lose_the_name_server()
    entries = [
        json.dumps(kind.entry_at(Inside(host, 1))) for host in ("127.0.0.1", "cache.example")
    ]
    command = namespace.command(sys.executable, "-P", "-c", textwrap.dedent(CHILD), *entries)

    def broken_rule() -> str:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        ended = time.monotonic()
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert ended - said["ends"] < 10, "the process waited for the resolver, which takes 30 s"
        return str(said["broken rule"])

    attempts(broken_rule)


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
    assert registry.layer("redis").guard.strategy == "sockets"
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
    assert services.wait_until(lambda: registry.layer("redis").missed_changes.in_sync, 2.5)

    ends = time.monotonic() + WATCHED
    seen = set()
    while time.monotonic() < ends:
        seen.add(cache.get("key"))
        time.sleep(0.1)
    assert seen == {None}
    assert registry.layer("redis").missed_changes.in_sync
    assert breakers["redis"].state is State.CLOSED
    with socket.create_connection((namespace.address, 6379)) as asking:
        asking.sendall(b"GET careless\r\n")
        assert b"delivered" in asking.recv(100)
