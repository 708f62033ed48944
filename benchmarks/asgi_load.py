"""`python -m benchmarks.asgi_load PORT PATH CONNECTIONS SECONDS`: one site under load, over HTTP/1.1.

Each connection asks again as soon as it has its answer.  Prints a line when it begins, then when each answer
came and how many seconds it took, by turns, as JSON.  A process of its own, so that it takes nothing from the site's.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from time import monotonic

from benchmarks.servers import HOST

#: Seconds over which the connections begin, so that they do not ask in step.
BEGIN = 0.3
#: Seconds that any answer may take.
PATIENCE = 20.0


async def load(port: int, path: str, connections: int, seconds: float) -> list[float]:
    """Return when answers came and how long they took, by turns."""
    ends = monotonic() + seconds
    answers: list[float] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_connection(port, path, ends, answers))
    return answers


async def _connection(port: int, path: str, ends: float, answers: list[float]) -> None:
    await asyncio.sleep(random.uniform(0, BEGIN))
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        while (began := monotonic()) < ends:
            writer.write(request)
            async with asyncio.timeout(PATIENCE):
                await _answer(reader)
            ended = monotonic()
            answers.extend((ended, ended - began))
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(head.decode())
    length = head.lower().partition(b"content-length:")[2].split(None, 1)[0]
    await reader.readexactly(int(length))


if __name__ == "__main__":
    _, port, path, connections, seconds = sys.argv
    print("begins", flush=True)
    json.dump(asyncio.run(load(int(port), path, int(connections), float(seconds))), sys.stdout)
