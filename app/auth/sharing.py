"""One answer for all who ask the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Shared(Generic[K, T]):
    """Answers that are being found. Who stops waiting for one does not stop it for the others."""

    def __init__(self) -> None:
        self._under_way: dict[K, asyncio.Task[T]] = {}

    async def get(self, key: K, find: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the answer that is being found under this key, or else what `find` finds or raises."""
        finding = self._under_way.get(key)
        if finding is None:
            finding = self._under_way[key] = asyncio.create_task(find())
            finding.add_done_callback(lambda done: self._end(key, done))
        return await asyncio.shield(finding)

    def _end(self, key: K, finding: asyncio.Task[T]) -> None:
        del self._under_way[key]
        if not finding.cancelled():
            finding.exception()  # seen, even if nobody waits for it any more
