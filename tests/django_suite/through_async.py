"""The sync API spoken through the async one, so that one suite tests both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.core.cache import CacheHandler


class ThroughAsync:
    """A cache whose every method with an async form is called in that form."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        method = getattr(type(self._cache), f"a{name}", None)
        return getattr(self._cache, name) if method is None else self._through(name)

    def __contains__(self, key: Any) -> bool:
        return bool(self._through("has_key")(key))

    def _through(self, name: str) -> Callable[..., Any]:
        method = getattr(self._cache, f"a{name}")

        def call(*args: Any, **kwargs: Any) -> Any:
            # As in Django's own async tests: where it needs a thread of Django's, that is this one,
            # with the connections and the transaction of the test.
            return async_to_sync(called)(*args, **kwargs)

        async def called(*args: Any, **kwargs: Any) -> Any:
            return await method(*args, **kwargs)

        return call


class CachesThroughAsync:
    """`caches`, each of them a `ThroughAsync`."""

    def __init__(self, caches: CacheHandler) -> None:
        self._caches = caches

    def __getitem__(self, alias: str) -> ThroughAsync:
        return ThroughAsync(self._caches[alias])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._caches, name)


class DefaultThroughAsync:
    """`cache`: the default one of `caches`, whichever that is at the moment."""

    def __init__(self, caches: CachesThroughAsync) -> None:
        object.__setattr__(self, "_caches", caches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._caches["default"], name)

    def __contains__(self, key: Any) -> bool:
        return key in self._caches["default"]
