"""A worker: uses the cache once, then does what its standard input says, a word per line."""

from __future__ import annotations

import sys

import django

django.setup()

from django.core.cache import cache  # noqa: E402  # once Django is set up

from django_resilient_cache import CircuitOpenError, breakers  # noqa: E402  # once Django is set up


def refuse() -> None:
    raise ConnectionError("Error 111 connecting to cache:6379. Connection refused.")


def obey(word: str) -> None:
    breaker = breakers["redis"]
    match word:
        case "break":
            for _ in range(5):
                try:
                    breaker.call(refuse)
                except (ConnectionError, CircuitOpenError):
                    continue
        case "miss":  # three changes of a layer that is away
            cache.set_many({"a": 1, "b": 2, "c": 3})
    # What the worker would do in a request, seen from outside.
    sys.stdout.write(f"{breaker.state.value}\n")
    sys.stdout.flush()


cache.get("key")
for line in sys.stdin:
    obey(line.strip())
