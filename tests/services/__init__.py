"""All servers of the tests, on loopback and on free ports.

Each is a context manager and is gone afterwards, however the test ended; processes are ended by
their ids.  The fixtures in tests/conftest.py share them as far as a test allows.
"""

from tests.services.faulty_servers import (
    AnsweringServer,
    BlackHole,
    Certificates,
    DrippingServer,
    FloodingServer,
    FullBacklog,
    LoopServer,
    Proxy,
    RefusedPort,
    TlsProxy,
)
from tests.services.real_servers import (
    HOST,
    PATIENCE,
    REQUIRE,
    SERVER,
    MemcachedServer,
    RealServer,
    ServerDidNotStartError,
    ValkeyServer,
    free_port,
    memcached_server,
    unavailable,
    valkey_program,
    valkey_server,
    wait_until,
)

__all__ = [
    "HOST",
    "PATIENCE",
    "REQUIRE",
    "SERVER",
    "AnsweringServer",
    "BlackHole",
    "Certificates",
    "DrippingServer",
    "FloodingServer",
    "FullBacklog",
    "LoopServer",
    "MemcachedServer",
    "Proxy",
    "RealServer",
    "RefusedPort",
    "ServerDidNotStartError",
    "TlsProxy",
    "ValkeyServer",
    "free_port",
    "memcached_server",
    "unavailable",
    "valkey_program",
    "valkey_server",
    "wait_until",
]
