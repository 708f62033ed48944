"""Changes of keys that tests begin and end by hand."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

from django_resilient_cache.chain.generations import Generations, Mutation, Mutations


def begun(generations: Generations, keys: Iterable[Any] | None) -> Mutation | Mutations:
    """A change of these keys that has begun; None: of every key."""
    mutation = generations.mutations(keys)
    mutation.begin()
    return mutation


def keys_apart(number: int) -> list[str]:
    """So many keys that share no stripe: two that do hold each other up."""
    found: dict[int, str] = {}
    for n in count():
        found.setdefault(Generations._index(f"key {n}"), f"key {n}")
        if len(found) == number:
            break
    return list(found.values())
