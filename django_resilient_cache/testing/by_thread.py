"""The async methods through Django's thread for sync code, each as its sync method.

Without these BaseCache would put some of them together from others (`aincr` from a get and a set),
and a fault would meet other operations than were asked for.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.core.cache import BaseCache
from django.core.cache.backends.base import DEFAULT_TIMEOUT


class AsyncByThread(BaseCache):
    """Async methods that call the sync ones, with the same results and errors."""

    async def ahas_key(self, key: Any, version: Any = None) -> bool:
        return await sync_to_async(self.has_key)(key, version)

    async def aincr(self, key: Any, delta: Any = 1, version: Any = None) -> Any:
        return await sync_to_async(self.incr)(key, delta, version)

    async def adecr(self, key: Any, delta: Any = 1, version: Any = None) -> Any:
        return await sync_to_async(self.decr)(key, delta, version)

    async def aget_many(self, keys: Any, version: Any = None) -> dict[Any, Any]:
        return await sync_to_async(self.get_many)(keys, version)

    async def aset_many(
        self, data: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> list[Any]:
        return await sync_to_async(self.set_many)(data, timeout, version)

    async def adelete_many(self, keys: Any, version: Any = None) -> None:
        await sync_to_async(self.delete_many)(keys, version)

    async def aget_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> Any:
        return await sync_to_async(self.get_or_set)(key, default, timeout, version)

    async def aincr_version(self, key: Any, delta: Any = 1, version: Any = None) -> Any:
        return await sync_to_async(self.incr_version)(key, delta, version)

    async def adecr_version(self, key: Any, delta: Any = 1, version: Any = None) -> Any:
        return await sync_to_async(self.decr_version)(key, delta, version)
