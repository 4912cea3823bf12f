"""A channel: what this process knows of one run that somebody listens to, shared by all its listeners."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from ..errors import RunNotFoundError, RunPrunedError, StorageError
from .live import Delta, Ear, Heard, Live, Place
from .models import FINISHED, RunKey, RunStatus, StoredEvent
from .ports import RunStore
from .turns import Turns
from .window import PAGE_BYTES, Page, Window, size_of

PAGE_EVENTS: Final = 1000
KEPT_PAGES: Final = 2

PAUSE_S: Final = 0.05
"""A listener hears of news at most this often, and then of all there is."""

AT_REST: Final[frozenset[RunStatus]] = frozenset((*FINISHED, "waiting"))


class Channel:
    """One run's listeners, where the run stands as far as this process knows, and its newest events.

    What this process commits is news at once; what others do is read from the store when it is told of.
    """

    def __init__(self, key: RunKey, store: RunStore, turns: Turns, poll_s: float | None) -> None:
        self.listeners = 0
        self.head = 0
        self._key = key
        self._store = store
        self._turns = turns
        self._loop = asyncio.get_running_loop()
        self._status: RunStatus = "queued"
        self._told = 0  # how often this process has told of it
        self._known = False
        self._pruned = False
        self._window = Window()
        self._pages: dict[int, Page] = {}
        self._live: Live | None = None
        self._said: tuple[object, Page] | None = None
        self._reading = asyncio.Lock()
        self._resting = asyncio.Event()
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._waker: asyncio.TimerHandle | None = None
        self._woken = 0.0
        self._stale = False
        self._refreshing: asyncio.Task[None] | None = None
        self._poll_s = poll_s
        self._poll: asyncio.TimerHandle | None = None
        self._await_poll()

    def close(self) -> None:
        """Let go of everything; nobody listens any more."""
        for timer in (self._waker, self._poll):
            if timer is not None:
                timer.cancel()
        if self._refreshing is not None:
            self._refreshing.cancel()

    def committed(self, events: Sequence[StoredEvent], status: RunStatus) -> None:
        """Take in what this process has made durable."""
        self._told += 1
        if events:
            self._known = True
            self._window.add(events)
            self.head = max(self.head, events[-1].seq)
        self._set_status(status)
        self._tell()

    def refresh(self) -> None:
        """Look at the run again: another process may have changed it."""
        self._stale = True
        if self._refreshing is None:
            self._refreshing = self._loop.create_task(self._refresh())

    async def learn(self) -> None:
        """Find out where the run stands, unless that is known.

        Raises:
            RunNotFoundError, RunPrunedError, StorageUnavailableError
        """
        if not self._known:
            async with self._reading:
                if not self._known:
                    await self._look()
        if self._pruned:
            raise _pruned(self._key)

    @property
    def has_ended(self) -> bool:
        """Whether nothing will be added to the run."""
        return self._status in FINISHED

    def is_over(self, after: int) -> bool:
        """Say whether the run has ended and has no event beyond `after`."""
        return after >= self.head and self.has_ended

    def heard(self, live: Live) -> None:
        """Take note that there is more to be heard of the run."""
        self._live = live
        self._tell()

    def overheard(self, place: Place, turn: int, heard: Heard) -> None:
        """Take in what another process lets be heard, unless the run is further by now."""
        live = self._live
        if live is None or live.place < place:
            live = Live(place, turn)
        elif place < live.place:
            return
        if isinstance(heard, Delta):
            live.repeat(heard)
        else:
            live.report(heard)
        self.heard(live)

    def listen(self, ear: Ear, after: int) -> list[Page]:
        """Return a page of what is new to this listener, or none.

        Only who has every event before it hears what is said, and who has one behind it does not any more.
        """
        live = self._live
        if live is None or not self._says_more(ear, after):
            return []
        before = ear.position
        heard = live.hear(ear)
        which = before, ear.position
        if self._said is None or self._said[0] != which:
            self._said = which, Page((), heard)
        return [self._said[1]]

    def _says_more(self, ear: Ear, after: int) -> bool:
        live = self._live
        return live is not None and live.place[1] == after and live.has_more(ear)

    async def news(self, ear: Ear, after: int) -> None:
        """Return when there is news to a listener who has the events up to `after`, and it is their turn."""
        waiting = self._loop.create_future()
        self._waiting[waiting] = None
        if self._says_more(ear, after):
            self._tell()
        try:
            await waiting
        finally:
            self._waiting.pop(waiting, None)

    async def page(self, after: int) -> Page:
        """Return some of the events beyond `after`, of which there is at least one.

        Raises:
            RunPrunedError, StorageUnavailableError
        """
        page = self._page_here(after)
        if page is None:
            async with self._reading:  # one reads for all who are at the same place
                page = self._page_here(after) or await self._read_page(after)
        return page

    async def at_rest(self) -> RunStatus:
        """Return the run's status once it has ended or waits for a person."""
        await self._look()
        while self._status not in AT_REST:
            await self._resting.wait()
        return self._status

    def _page_here(self, after: int) -> Page | None:
        page = self._pages.get(after)
        if page is None:
            events = self._window.beyond(after)
            page = self._keep(after, events) if events else None
        return page

    async def _read_page(self, after: int) -> Page:
        events = await self._store.events(self._key, after, PAGE_EVENTS, PAGE_BYTES)
        if not events:
            raise _pruned(self._key)
        self._window.add(events)
        return self._keep(after, events)

    def _keep(self, after: int, events: Sequence[StoredEvent]) -> Page:
        page = Page(events)
        if size_of(events[0]) > PAGE_BYTES:
            self._pages.clear()
        elif len(self._pages) == KEPT_PAGES:
            del self._pages[next(iter(self._pages))]
        self._pages[after] = page
        return page

    async def _look(self) -> None:
        told = self._told
        run = await self._store.get(self._key)
        if run is None:
            raise RunNotFoundError(f"There is no run {self._key.run_id}.")
        self._known = True
        self._pruned = run.pruned_at is not None
        if self._told == told or run.events > self.head:  # else this process has told of something newer
            self._set_status(run.status)
        self.head = max(self.head, run.events)

    async def _refresh(self) -> None:
        try:
            while self._stale:
                self._stale = False
                with suppress(StorageError, RunNotFoundError):  # whoever reads a page will be told
                    await self._look()
                self._tell()
        finally:
            self._refreshing = None

    def _set_status(self, status: RunStatus) -> None:
        self._status = status
        if status in AT_REST:
            self._resting.set()
        else:
            self._resting.clear()

    def _tell(self) -> None:
        if self._waiting and self._waker is None:
            self._waker = self._loop.call_at(max(self._loop.time(), self._woken + PAUSE_S), self._wake)

    def _wake(self) -> None:
        self._waker = None
        self._woken = self._loop.time()
        waiting, self._waiting = self._waiting, {}
        self._turns.grant(waiting)

    def _await_poll(self) -> None:
        if self._poll_s is not None:
            self._poll = self._loop.call_later(self._poll_s, self._poll_now)

    def _poll_now(self) -> None:
        self.refresh()
        self._await_poll()


def _pruned(key: RunKey) -> RunPrunedError:
    return RunPrunedError(f"The events of run {key.run_id} have been pruned; its head hash is kept.")
