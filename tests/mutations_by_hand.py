"""Changes of keys that tests begin and end by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django_resilient_cache.chain.generations import Generations, Mutation, Mutations


def begun(generations: Generations, keys: Iterable[Any] | None) -> Mutation | Mutations:
    """A change of these keys that has begun; None: of every key."""
    mutation = generations.mutations(keys)
    mutation.begin()
    return mutation
