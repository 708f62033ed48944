"""A chain in local memory whose layers fail on demand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.cache import BaseCache, caches
from django.test import override_settings

from django_resilient_cache import OperationTimeout
from django_resilient_cache.testing import Faults, faults
from tests.contract.api import Api
from tests.entries import CHAIN, FAULTY, MEMORY

#: A breaker that never opens by itself, so that each call meets the fault.
PATIENT = {"MAX_FAILURES": 10**6, "FAILURE_RATE": None}


def entries(
    location: list[str],
    mode: str = "miss",
    far: dict[str, Any] | None = None,
    middle: dict[str, Any] | None = None,
) -> dict[str, Any]:
    faulty = {"OPERATION_TIMEOUT": None, **PATIENT}
    return {
        "default": {
            "BACKEND": CHAIN,
            "LOCATION": location,
            "OPTIONS": {"ON_UNAVAILABLE": mode},
        },
        "near": {"BACKEND": MEMORY, "LOCATION": "near", "TIMEOUT": 300},
        "far": {"BACKEND": FAULTY, "LOCATION": "real", "RESILIENCE": faulty | (far or {})},
        "middle": {
            "BACKEND": FAULTY,
            "LOCATION": "real middle",
            "RESILIENCE": faulty | (middle or {}),
        },
        "real": {"BACKEND": MEMORY, "LOCATION": "real"},
        "real middle": {"BACKEND": MEMORY, "LOCATION": "real middle"},
    }


def refuse(far: Faults) -> None:
    far.fail(ConnectionError("refused"))


def lose(far: Faults) -> None:
    far.lose_answers(ConnectionError("lost"))


def hang(far: Faults) -> None:
    far.hang()


#: How the layer fails: what is done to it, its limit, what its error is.
FAILURES: dict[str, tuple[Callable[[Faults], None], dict[str, Any], type[Exception]]] = {
    "refused": (refuse, {}, ConnectionError),
    "answer lost": (lose, {}, ConnectionError),
    "refused, thread": (
        refuse,
        {"OPERATION_TIMEOUT": 20, "TIMEOUT_STRATEGY": "thread"},
        ConnectionError,
    ),
    "hung": (
        hang,
        {"OPERATION_TIMEOUT": 0.01, "TIMEOUT_STRATEGY": "thread", "MAX_CONCURRENCY": 200},
        OperationTimeout,
    ),
}


class Scene:
    """A chain whose far layer has failed."""

    def __init__(self, api: Api, failure: str, location: list[str], mode: str) -> None:
        self._api = api
        self._break, resilience, self.error = FAILURES[failure]
        self._settings = override_settings(CACHES=entries(location, mode, resilience))

    def __enter__(self) -> Scene:
        self._settings.enable()
        self.chain: Any = self._api(caches["default"])
        self.near: BaseCache = caches["near"]
        self.real: BaseCache = caches["real"]
        self.far = faults("far")
        return self

    def hold(self, **entries: Any) -> None:
        """Put entries into every layer, past the limit that is too short for a healthy one."""
        self.near.set_many(entries)
        self.real.set_many(entries)

    def fails(self) -> None:
        self._break(self.far)

    def __exit__(self, *args: object) -> None:
        self.far.heal()
        self._settings.disable()
