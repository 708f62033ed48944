"""What a chain is among Django's caches before and beside its calls: names, defaults, attributes."""

from __future__ import annotations

from typing import Any

from django.core.cache import BaseCache

from django_resilient_cache.backend.bound_chain import Plan
from django_resilient_cache.conf.chain_settings import named


class Planned(BaseCache):
    """A backend that finds out at its first use what it is: mostly what its authority is."""

    def __init__(self, location: Any, params: dict[str, Any]) -> None:
        # A wrong KEY_FUNCTION, say, is for the checks and the first use to tell.
        super().__init__({})
        self._location = location
        self._params = params
        self._made_plan: Plan | None = None

    def _plan(self) -> Plan:
        plan = self._made_plan
        if plan is None:
            plan = self._made_plan = Plan.of(self._location, self._params)
        return plan

    def close(self, **kwargs: Any) -> None:
        """Nothing to close: Django closes the layers, which are aliases of their own."""

    def make_key(self, key: Any, version: Any = None) -> Any:
        """Return the key as the authority stores it; with a KEY_PREFIX, as the chain hands it on."""
        plan = self._plan()
        if version is None:
            version = plan.keys.version
        if plan.keys.composes:
            return plan.keys.compose(key, version)
        return plan.authority.make_key(key, version)

    @property
    def version(self) -> Any:
        """The chain's own VERSION, else the authority's."""
        return self._plan().keys.version

    @version.setter
    def version(self, value: Any) -> None:
        """BaseCache sets it; what counts is in the settings."""

    @property
    def key_prefix(self) -> Any:
        """The chain's own KEY_PREFIX, else the authority's."""
        plan = self._plan()
        own = self._params.get("KEY_PREFIX", "")
        return own if plan.keys.composes else plan.authority.key_prefix

    @key_prefix.setter
    def key_prefix(self, value: Any) -> None:
        """As for `version`."""

    @property
    def default_timeout(self) -> Any:
        """The chain's own TIMEOUT in seconds, else the authority's."""
        return self._plan().default_timeout

    @default_timeout.setter
    def default_timeout(self, value: Any) -> None:
        """As for `version`."""

    @property
    def key_func(self) -> Any:
        """The chain's own KEY_FUNCTION, else the authority's."""
        plan = self._plan()
        return plan.keys.key_func if plan.keys.composes else plan.authority.key_func

    @key_func.setter
    def key_func(self, value: Any) -> None:
        """As for `version`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        layers = named(self.__dict__.get("_location")) or ["..."]
        raise AttributeError(
            f"A chain of caches has no attribute {name!r}. "
            f'If its layer has one, use that: caches["{layers[-1]}"].{name}'
        )
