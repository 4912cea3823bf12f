"""A glance: something that is read on demand, but not too often, and not waited for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, Generic, TypeVar

T = TypeVar("T")

FRESH_S: Final = 1.0
PATIENCE_S: Final = 1.0


class Glance(Generic[T]):
    """Reads for whoever asks, once at a time: however many ask, and however long it takes.

    Args:
        read: reads it.
        fresh_s: for how many seconds since it began a reading, or its failure, is handed out again.
        patience_s: for how long one is waited for; it goes on nevertheless, for those who ask next.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[T]],
        *,
        fresh_s: float = FRESH_S,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._read = read
        self._fresh_s = fresh_s
        self._patience_s = patience_s
        self._clock = clock
        self._reading: asyncio.Future[T] | None = None
        self._began = 0.0

    async def look(self) -> T:
        """Return what was read.

        Raises:
            TimeoutError: it takes too long.
            Exception: what reading it raised.
        """
        reading = self._reading
        if reading is None or (reading.done() and self._clock() - self._began >= self._fresh_s):
            self._began = self._clock()
            reading = self._reading = asyncio.ensure_future(self._read())
            reading.add_done_callback(_note_failure)
        async with asyncio.timeout(self._patience_s):
            return await asyncio.shield(reading)


def _note_failure(reading: asyncio.Future[T]) -> None:
    """Take note of what was raised, which nobody may have waited for."""
    if not reading.cancelled():
        reading.exception()
