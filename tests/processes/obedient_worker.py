"""A worker that is no web server: does what its standard input says, a word per line.

Ends where its input ends, or in order when it is told to by a signal.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any

import django


def use(count: int = 1) -> list[float]:
    """Read so often; how long each read took, in seconds."""
    from django.core.cache import caches

    cache, took = caches["far"], []
    for _ in range(count):
        began = time.perf_counter()
        cache.get("key")
        took.append(time.perf_counter() - began)
        time.sleep(0.0005)  # the others are not kept from running
    return took


def figures(took: list[float]) -> dict[str, float]:
    """Median, 99th percentile and longest, in seconds."""
    took = sorted(took)
    return {"p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100], "max": took[-1]}


def refuse() -> None:
    raise ConnectionError("Error 111 connecting to cache:6379. Connection refused.")


def trip() -> None:
    """Have the breaker open."""
    from django_resilient_cache import CircuitOpenError, breakers

    for _ in range(5):
        try:
            breakers["redis"].call(refuse)
        except (ConnectionError, CircuitOpenError):
            continue


def obey(word: str) -> Any:
    from django.core.cache import caches

    from django_resilient_cache import breakers
    from django_resilient_cache.layer.registry import registry

    match word.split():
        case ["use"]:
            use()
        case ["measure", count]:
            return figures(use(int(count)))
        case ["break"]:
            trip()
        case ["change"]:
            caches["far"].set("key", 1)
        case ["transitions"]:
            return registry.snapshot()["redis"]["changes"]
        case ["missed"]:
            return len(registry.layer("redis").missed_changes)
    return breakers["redis"].state.value


def listen() -> None:
    for line in iter(sys.stdin.readline, ""):
        sys.stdout.write(f"{json.dumps(obey(line))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    django.setup()
    listen()
