"""The feed: hands what became durable to those in this process who listen to a run, in order and without gaps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager

from .channel import Channel
from .live import Ear, Heard, Live, Place
from .models import RunKey, RunStatus, StoredEvent
from .ports import RunStore
from .turns import Turns
from .voices import Voices
from .window import Page

__all__ = ["EventFeed", "Page"]


class EventFeed:
    """Implements `RunNews` and `Audience`. A run nobody listens to costs a look-up for each unit and each delta.

    Args:
        store: where events are read that are not fresh in memory.
        poll_s: how often a run that somebody listens to is looked at, in case news of other processes got lost;
            None if there are no other processes.
        turns: paces all listeners together.
        voices: the runs that are driven in this process.

    `call_out` is for whoever hears other processes: it is called with a run that somebody here begins to follow.
    """

    def __init__(
        self,
        store: RunStore,
        poll_s: float | None = None,
        turns: Turns | None = None,
        *,
        voices: Voices | None = None,
    ) -> None:
        self._store = store
        self._poll_s = poll_s
        self._turns = Turns() if turns is None else turns
        self._channels: dict[RunKey, Channel] = {}
        self._listeners: dict[RunKey, int] = {}
        self._voices = Voices() if voices is None else voices
        self._voices.join(self)
        self.call_out: Callable[[RunKey], None] | None = None

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

    def __contains__(self, key: object) -> bool:
        """Say whether somebody follows this run here."""
        return key in self._listeners

    @property
    def followed(self) -> list[RunKey]:
        """The unfinished runs that somebody follows here."""
        return list(self._listeners)

    def heard(self, key: RunKey, live: Live) -> None:
        """Take note that there is more to hear of a run that is driven here."""
        channel = self._channels.get(key)
        if channel is not None:
            channel.heard(live)

    def overheard(self, key: RunKey, place: Place, turn: int, heard: Heard) -> None:
        """Take in what is said in a run that is driven elsewhere."""
        channel = self._channels.get(key)
        if channel is not None:
            channel.overheard(place, turn, heard)

    async def follow(self, key: RunKey, after: int) -> AsyncGenerator[list[StoredEvent], None]:
        """Yield the events beyond number `after`, none twice and none left out, to the last one of the run.

        While a model speaks, or a tool tells how it gets on, pages without events come too (`Page.heard`): the
        whole text so far, and then what is added, to whoever has the events before it. What is not taken in time
        is left out: behind the next event there is nothing more of it.

        Listeners at the same place are handed the same pages (`Page`). A page holds what there is when its
        listener's turn comes, at most PAGE_BYTES of text, but at least one event.

        Raises:
            RunNotFoundError, RunPrunedError: before the first page; RunPrunedError also when it happens later.
            StorageUnavailableError
        """
        with self._joined(key) as channel:
            await channel.learn()
            with self._listening(key, channel) as ear:
                while not channel.is_over(after):
                    await (self._turns.take() if after < channel.head else channel.news(ear, after))
                    if after < channel.head:
                        pages = [await channel.page(after)]
                        after = pages[0][-1].seq
                    else:
                        pages = channel.listen(ear, after)
                    if pages:
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
    def _listening(self, key: RunKey, channel: Channel) -> Iterator[Ear]:
        if channel.has_ended:
            yield Ear()
            return
        listeners = self._listeners.get(key, 0)
        self._listeners[key] = listeners + 1
        if not listeners:
            self._tune_in(key, channel)
        try:
            yield Ear()
        finally:
            self._listeners[key] -= 1
            if not self._listeners[key]:
                del self._listeners[key]

    def _tune_in(self, key: RunKey, channel: Channel) -> None:
        """See to it that what is being said in a run is heard here, from its beginning."""
        live = self._voices.live(key)
        if live is not None:
            channel.heard(live)
        if self.call_out is not None:
            self.call_out(key)

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
