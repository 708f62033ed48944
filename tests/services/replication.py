"""Several Valkeys that know of each other, for tests: a master with a replica and Sentinels, a cluster."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests import services
from tests.services import HOST, ServerDidNotStartError, ValkeyServer, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: How the master is called.
SERVICE = "mymaster"

#: Milliseconds without an answer after which a Sentinel says that a server is down.
DOWN_AFTER = 2000


class Replica(ValkeyServer):
    """A replica of another server."""

    def __init__(self, program: str | Path, master: ValkeyServer) -> None:
        super().__init__(program)
        self.master = master

    def command(self) -> Sequence[str]:
        return (*super().command(), "--replicaof", HOST, str(self.master.port))

    @property
    def is_in_step(self) -> bool:
        return b"master_link_status:up" in told(self, b"INFO replication")


class SentinelServer(ValkeyServer):
    """A Sentinel that watches a master; one voice is enough for a failover."""

    name = "sentinel"

    def __init__(self, program: str | Path, master: ValkeyServer) -> None:
        super().__init__(program)
        self.master = master

    def command(self) -> Sequence[str]:
        configuration = self.directory / "sentinel.conf"
        lines = [
            f"port {self.port}",
            f"bind {HOST}",
            f'dir "{self.directory}"',
            f"sentinel monitor {SERVICE} {HOST} {self.master.port} 1",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}",
            f"sentinel failover-timeout {SERVICE} 3000",
        ]
        configuration.write_text("\n".join(lines) + "\n", encoding="ascii")
        return (self.program, str(configuration), "--sentinel")

    @property
    def knows_the_replica(self) -> bool:
        return b"slaves=1" in told(self, b"INFO sentinel")

    def fail_over(self) -> None:
        """Have the replica take the master's place, without waiting for the master to be down."""
        command = f"SENTINEL FAILOVER {SERVICE}\r\n".encode()
        # It is refused until the replica is known to be a good one.
        assert wait_until(lambda: self.ask(command, seconds=5.0) == b"+OK\r\n", every=0.2)

    def takes_writes(self, server: ValkeyServer) -> bool:
        """Whether it names this server as the master."""
        answer = told(self, f"SENTINEL GET-MASTER-ADDR-BY-NAME {SERVICE}".encode())
        return str(server.port).encode() in answer.split(b"\r\n")


class Watched:
    """A master, its replica and the Sentinels that watch them."""

    def __init__(
        self, master: ValkeyServer, replica: Replica, sentinels: list[SentinelServer]
    ) -> None:
        self.master = master
        self.replica = replica
        self.sentinels = sentinels

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """What a client is told: where the Sentinels are."""
        return [sentinel.address for sentinel in self.sentinels]

    @property
    def is_well(self) -> bool:
        """Whether everything is as it was at the start."""
        return self.replica.is_in_step and all(
            each.takes_writes(self.master) and each.knows_the_replica for each in self.sentinels
        )

    def thaw(self) -> None:
        for server in (self.master, self.replica, *self.sentinels):
            server.thaw()

    def promote_the_replica(self) -> None:
        """Fail over, and return when every Sentinel says so and the old master is a replica."""
        self.sentinels[0].fail_over()
        everybody = self.sentinels
        assert wait_until(lambda: all(each.takes_writes(self.replica) for each in everybody))
        # The Sentinels do it as well, some seconds later.
        self.master.ask(f"REPLICAOF {HOST} {self.replica.port}\r\n".encode())


@contextlib.contextmanager
def watched(sentinels: int = 2) -> Iterator[Watched]:
    """Real servers of a test's own, in step."""
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(services.valkey_server())
        master.ask(b"CONFIG SET repl-diskless-sync-delay 0\r\n")
        replica = stack.enter_context(Replica(master.program, master))
        assert wait_until(lambda: replica.is_in_step)
        watching = [
            stack.enter_context(SentinelServer(master.program, master)) for _ in range(sentinels)
        ]
        assert wait_until(lambda: all(each.knows_the_replica for each in watching))
        yield Watched(master, replica, watching)


class ClusterNode(ValkeyServer):
    """One of the servers of a cluster."""

    def __init__(self, program: str | Path) -> None:
        super().__init__(program)
        self.bus_port = free_port()

    def command(self) -> Sequence[str]:
        self.bus_port = free_port()
        return (
            *super().command(),
            *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
            # Longer than a test may take: a frozen node is not to be voted out meanwhile.
            *("--cluster-port", str(self.bus_port), "--cluster-node-timeout", "30000"),
        )

    @property
    def is_ready(self) -> bool:
        state = told(self, b"CLUSTER INFO")
        return b"cluster_state:ok" in state and b"cluster_known_nodes:3" in state


@contextlib.contextmanager
def cluster() -> Iterator[list[ClusterNode]]:
    """Three servers that share all slots."""
    with contextlib.ExitStack() as stack:
        program = services.valkey_server().program
        nodes = [stack.enter_context(ClusterNode(program)) for _ in range(3)]
        first = nodes[0]
        for number, node in enumerate(nodes):
            begin, end = number * 16384 // 3, (number + 1) * 16384 // 3 - 1
            node.ask(f"CLUSTER ADDSLOTSRANGE {begin} {end}\r\n".encode(), seconds=5.0)
            where = f"{HOST} {node.port} {node.bus_port}"
            first.ask(f"CLUSTER MEET {where}\r\n".encode(), seconds=5.0)
        if not wait_until(lambda: all(node.is_ready for node in nodes)):
            raise ServerDidNotStartError("the cluster did not come up")
        yield nodes


def told(server: ValkeyServer, question: bytes) -> bytes:
    """What the server answers, in several lines."""
    # The answer to a second request says where that of the first one ends.
    return server.ask(question + b"\r\nPING\r\n", enough=b"+PONG\r\n")
