"""The feed: hands what became durable to those in this process who listen to a run, in order and without gaps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager

from .channel import Channel, Page
from .models import RunKey, RunStatus, StoredEvent
from .ports import RunStore
from .turns import Turns

__all__ = ["EventFeed", "Page"]


class EventFeed:
    """Implements `RunNews`. A run nobody listens to costs one look-up for each of its units.

    Args:
        store: where events are read that are not fresh in memory.
        poll_s: how often a run that somebody listens to is looked at, in case news of other processes got lost;
            None if there are no other processes.
        turns: paces all listeners together.
    """

    def __init__(self, store: RunStore, poll_s: float | None = None, turns: Turns | None = None) -> None:
        self._store = store
        self._poll_s = poll_s
        self._turns = Turns() if turns is None else turns
        self._channels: dict[RunKey, Channel] = {}

    def __len__(self) -> int:
        """Return how many runs are listened to."""
        return len(self._channels)

    def committed(self, key: RunKey, events: Sequence[StoredEvent], status: RunStatus) -> None:
        """Tell of events that this process has made durable."""
        channel = self._channels.get(key)
        if channel is not None:
            channel.committed(events, status)

    def changed(self, key: RunKey) -> None:
        """Tell that another process has made something durable."""
        channel = self._channels.get(key)
        if channel is not None:
            channel.refresh()

    async def follow(self, key: RunKey, after: int) -> AsyncGenerator[list[StoredEvent], None]:
        """Yield the events beyond number `after`, none twice and none left out, to the last one of the run.

        Listeners at the same place are handed the same pages (`Page`). A page holds what there is when its
        listener's turn comes, at most PAGE_BYTES of text, but at least one event.

        Raises:
            RunNotFoundError, RunPrunedError: before the first page; RunPrunedError also when it happens later.
            StorageUnavailableError
        """
        with self._joined(key) as channel:
            await channel.learn()
            while not channel.is_over(after):
                await (self._turns.take() if after < channel.head else channel.news())
                if after < channel.head:
                    pages = [await channel.page(after)]
                    after = pages[0][-1].seq
                    yield pages.pop()  # and keep no hold of it, since its reader may be slow

    async def wait_ended(self, key: RunKey, timeout: float) -> RunStatus | None:  # noqa: ASYNC109 - None is an answer
        """Return the status of a run once it has ended or waits for a person; None after `timeout` seconds.

        Raises:
            RunNotFoundError, StorageUnavailableError
        """
        with self._joined(key) as channel:
            try:
                async with asyncio.timeout(timeout):
                    return await channel.at_rest()
            except TimeoutError:
                return None

    @contextmanager
    def _joined(self, key: RunKey) -> Iterator[Channel]:
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = Channel(key, self._store, self._turns, self._poll_s)
        channel.listeners += 1
        try:
            yield channel
        finally:
            channel.listeners -= 1
            if not channel.listeners:
                channel.close()
                del self._channels[key]
