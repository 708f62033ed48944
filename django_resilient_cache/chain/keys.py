"""The keys of a chain: as its layers are given them, and what Memcached would not take of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.core.cache import BaseCache
from django.core.cache.backends.base import (
    MEMCACHE_MAX_KEY_LENGTH,
    default_key_func,
    get_key_func,
)

from django_resilient_cache.adapters.instances import is_silenced
from django_resilient_cache.conf import ChainConfig


class Keys:
    """Keys and versions between callers and layers.

    Django's backends warn of each key that Memcached would not take, each time they see it.  The
    chain does that for its nearest layer, once for each operation, and for less than they need.
    """

    def __init__(
        self,
        config: ChainConfig,
        params: Mapping[str, Any],
        nearest: BaseCache,
        authority: BaseCache,
    ) -> None:
        #: Whether the chain composes keys itself.
        self.composes = config.own_prefix
        self._prefix = params.get("KEY_PREFIX", "")
        self.key_func: Callable[[Any, Any, Any], Any] = get_key_func(params.get("KEY_FUNCTION"))
        self.version = params["VERSION"] if config.own_version else authority.version
        self._nearest = nearest if is_silenced(nearest) else None
        #: Up to so many plain characters in a key of the chain's own version need no second look.
        self.plain_length = self._plain_length()

    def name(self, key: Any, version: Any) -> tuple[Any, Any]:
        """Return key and version as the layers are given them."""
        if version is None:
            version = self.version
        return (self.compose(key, version) if self.composes else key), version

    def resolve(self, key: Any, version: Any) -> tuple[Any, Any]:
        """As `name`, with a warning where the nearest layer would warn."""
        name, version = self.name(key, version)
        if self._nearest is not None and self._doubts(name, version):
            self.warn(name, version)
        return name, version

    def resolve_many(self, keys: Iterable[Any], version: Any) -> tuple[dict[Any, Any], Any]:
        """Return the keys as the layers are given them, mapped to the caller's, and the version."""
        if version is None:
            version = self.version
        if self.composes:
            names = {self.compose(key, version): key for key in keys}
        else:
            keys = list(keys)
            names = dict(zip(keys, keys, strict=True))
        if self._nearest is not None and self._doubts_some(names, version):
            for name in names:
                if self._doubts(name, version):
                    self.warn(name, version)
        return names, version

    def compose(self, key: Any, version: Any) -> Any:
        """Return the key as any backend with this KEY_PREFIX and KEY_FUNCTION would store it."""
        return self.key_func(key, self._prefix, version)

    def composing(self, get: Callable[..., Any]) -> Callable[..., Any]:
        """Return a layer's `get` that takes the caller's key."""
        if not self.composes:
            return get

        def composed(key: Any, default: Any, version: Any) -> Any:
            return get(self.compose(key, version), default, version)

        return composed

    def warn(self, name: Any, version: Any) -> None:
        """Warn as the nearest layer would of the key that it makes of these."""
        nearest = self._nearest
        if nearest is None:
            return
        made = nearest.make_key(name, version=version)
        if not (type(made) is str and len(made) <= MEMCACHE_MAX_KEY_LENGTH and is_plain(made)):
            BaseCache.validate_key(nearest, made)

    def _doubts(self, name: Any, version: Any) -> bool:
        plain = type(name) is str and len(name) <= self.plain_length and is_plain(name)
        return not plain or version is not self.version

    def _doubts_some(self, names: Mapping[Any, Any], version: Any) -> bool:
        """As `_doubts`, of all at once, which takes a tenth of the time."""
        return bool(names) and not (
            version is self.version
            and set(map(type, names)) == {str}
            and max(map(len, names)) <= self.plain_length
            and is_plain("".join(names))
        )

    def _plain_length(self) -> int:
        nearest = self._nearest
        if nearest is None:
            return sys.maxsize
        made = nearest.make_key("", version=self.version)
        if self.composes or nearest.key_func is not default_key_func or not is_plain(made):
            return -1
        return MEMCACHE_MAX_KEY_LENGTH - len(made)


def is_plain(key: str) -> bool:
    """Whether Memcached takes every character of a key; of a few it takes this is False too."""
    return key.isprintable() and " " not in key
