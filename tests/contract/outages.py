"""How layers fail: real servers for real, what has no server through a `FaultyCache`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

from django_resilient_cache.testing import faults
from tests.contract.bench import POSITIONS
from tests.contract.kinds import EVERY, Kind
from tests.entries import FAULTY
from tests.services.shared_servers import SharedServers

#: What a server suffers, and the limits under which a call comes back from that: nothing but a
#: limit ends the wait for a frozen server.
OF_SERVERS = {
    "frozen": {"sockets", "thread"},
    "killed": {"direct", "sockets", "thread"},
    "refusing": {"direct", "sockets", "thread"},
}
OF_OTHERS = {
    "refused": {"direct", "thread"},
    "answer lost": {"direct", "thread"},
    "hung": {"thread"},
}
WITH_SERVERS = {"valkey", "memcached", "postgresql_table"}

#: Seconds; for what never answers.
SHORT = 0.02


def all_outages() -> Iterator[tuple[Kind, str, str]]:
    """Each kind under each limit with each fault that it comes back from, and a place for it.

    In each place: every frozen server, and every killed one under the limit that "auto" picks.  For
    the rest the place goes round: a connection refused is one at each limit, and where a
    `FaultyCache` fails the kind behind it has no part in that.
    """
    turn = count()
    for kind in EVERY:
        possible = OF_SERVERS if kind.place in WITH_SERVERS else OF_OTHERS
        for fault in (fault for fault, limits in possible.items() if kind.strategy in limits):
            everywhere = fault == "frozen" or (fault == "killed" and kind.under == kind.limits[0])
            places = [*POSITIONS]
            if not everywhere:
                places = [places[next(turn) % len(places)]]
            yield from ((kind, fault, place) for place in places)


@dataclass
class Outage:
    """One fault of one layer."""

    kind: Kind
    fault: str
    shared_servers: SharedServers | None

    def entries(self, entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The aliases "layer" and, where that is a FaultyCache, what is behind it."""
        resilience = {**entry["RESILIENCE"], "MAX_FAILURES": 10**6, "FAILURE_RATE": None}
        if self.fault in ("frozen", "hung"):
            resilience["OPERATION_TIMEOUT"] = SHORT
            resilience["MAX_CONCURRENCY"] = 200
        if self.shared_servers is not None:
            return {"layer": {**entry, "RESILIENCE": resilience}}
        return {
            "layer": {"BACKEND": FAULTY, "LOCATION": "behind", "RESILIENCE": resilience},
            "behind": {key: value for key, value in entry.items() if key != "RESILIENCE"},
        }

    @contextmanager
    def lasts(self) -> Iterator[None]:
        """The layer fails inside the block."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def begin(self) -> None:
        if self.shared_servers is not None:
            server = self.shared_servers.healthy(str(self.kind.place))
            server.freeze() if self.fault == "frozen" else server.kill()
        elif self.fault == "refused":
            faults("layer").fail()
        elif self.fault == "answer lost":
            faults("layer").lose_answers()
        else:
            faults("layer").hang()

    def end(self) -> None:
        if self.shared_servers is not None:
            self.shared_servers.healthy(str(self.kind.place))
        else:
            faults("layer").heal()
