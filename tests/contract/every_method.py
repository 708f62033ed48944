"""One call of each method of the API, and what it answers while a layer fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django_resilient_cache import CacheUnavailable
from tests.contract.recorder import attempt


class Keys:
    """The keys of one call: what another call left behind in an outage is none of its business."""

    def __init__(self, number: int) -> None:
        #: Held by every layer, in two versions; held by none; a counter that every layer holds.
        self.k, self.m, self.n = f"k{number}", f"m{number}", f"n{number}"

    def plain(self, result: Any) -> Any:
        """A result in which keys have no number."""
        if isinstance(result, list):
            return [key[0] for key in result]
        if isinstance(result, dict):
            return {key[0]: value for key, value in result.items()}
        return result


CALLS: dict[str, Callable[[Any, Keys], Any]] = {
    "get": lambda c, of: c.get(of.k),
    "get missing": lambda c, of: c.get(of.m, "default"),
    "get_many": lambda c, of: c.get_many([of.k, of.m]),
    "has_key": lambda c, of: c.has_key(of.k),
    "has_key missing": lambda c, of: c.has_key(of.m),
    "in": lambda c, of: of.k in c,
    "set": lambda c, of: c.set(of.k, 2),
    "set_many": lambda c, of: c.set_many({of.k: 2, of.m: 3}),
    "delete": lambda c, of: c.delete(of.k),
    "delete missing": lambda c, of: c.delete(of.m),
    "delete_many": lambda c, of: c.delete_many([of.k, of.m]),
    "add": lambda c, of: c.add(of.k, 2),
    "add missing": lambda c, of: c.add(of.m, 2),
    "touch": lambda c, of: c.touch(of.k),
    "touch missing": lambda c, of: c.touch(of.m),
    "incr": lambda c, of: c.incr(of.n, 2),
    "decr": lambda c, of: c.decr(of.n),
    "incr missing": lambda c, of: c.incr(of.m),
    "get_or_set": lambda c, of: c.get_or_set(of.k, "plain"),
    "get_or_set missing": lambda c, of: c.get_or_set(of.m, lambda: "computed"),
    "incr_version": lambda c, of: c.incr_version(of.k),
    "decr_version": lambda c, of: c.decr_version(of.k, version=2),
    "clear": lambda c, of: c.clear(),
}

KEYS = {name: Keys(number) for number, name in enumerate(CALLS)}


def hold(cache: Any) -> None:
    """Put into a cache what it holds before the calls, and nothing else."""
    cache.clear()
    cache.set_many({of.k: 1 for of in KEYS.values()})
    cache.set_many({of.k: 1 for of in KEYS.values()}, version=2)
    cache.set_many({of.n: 5 for of in KEYS.values()})


def made(name: str, cache: Any) -> Any:
    """What a call returned, or the type of what it raised."""
    return KEYS[name].plain(attempt(CALLS[name], cache, KEYS[name]))


#: What each returns with no layer that answers; an exception's type: it is raised.
NOBODY: dict[str, Any] = {
    "get": None,
    "get missing": "default",
    "get_many": {},
    "has_key": False,
    "has_key missing": False,
    "in": False,
    "set": None,
    "set_many": ["k", "m"],
    "delete": False,
    "delete missing": False,
    "delete_many": None,
    "clear": None,
    "add": False,
    "add missing": False,
    "touch": False,
    "touch missing": False,
    "incr": CacheUnavailable,
    "decr": CacheUnavailable,
    "incr missing": CacheUnavailable,
    "get_or_set": "plain",
    "get_or_set missing": "computed",
    "incr_version": ValueError,
    "decr_version": ValueError,
}

#: With a layer above that answers and an authority that does not.
ABOVE_ONLY: dict[str, Any] = {
    **NOBODY,
    "get": 1,
    "get_many": {"k": 1},
    "has_key": True,
    "in": True,
    "set_many": [],
    "delete": True,
    "get_or_set": 1,
    "incr_version": 2,
    "decr_version": 1,
}

#: What the layer above answers alone, so that the authority is not asked.
HITS_ABOVE = frozenset({"get", "has_key", "in", "get_or_set"})

#: What the authority refuses alone, so that the layers above it are not asked.
REFUSALS_BELOW = frozenset({"add", "touch missing", "incr missing"})
