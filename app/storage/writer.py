"""The group writer: one thread that commits the pending units of all runs of a process in one transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, Thread
from time import perf_counter
from typing import Any, Final, TypeAlias, TypeVar

from sqlalchemy import Connection

from ..errors import FencedError, StorageError, StorageUnavailableError
from ..runs.ports import RunNews, Unit
from .committer import Committer, Notify, Work
from .database import PATIENCE_S, Database
from .units import Outcome, WriteCall

log = logging.getLogger(__name__)

T = TypeVar("T")

OnCommit: TypeAlias = Callable[[int, float, bool], None]
"""Is told, on the writer's thread, of a group that was written or given up: its size, how many seconds that took,
and whether something of it could not be written."""

MAX_GROUP: Final = 2_000
"""How many units a transaction takes at most; the rest is the next one's."""

EAGER: Final = 16
"""With so many units gathered, an idle writer is not kept waiting until the event loop has nothing else to do: it
writes them while the loop makes the next ones."""

STOP_S: Final = 4.0
"""How long stopping waits for the last commit; one that the database never answers must not keep the process."""


class GroupWriter:
    """The one in the process that writes journals. While a commit waits for the disk, work for the next gathers.

    Args:
        news: is told, on the event loop, of every unit that has become durable.
        notify: called in the transaction with the units that are written, to tell other processes.
        patience_s: for how long a group is tried again while the database cannot be reached.
        on_commit: is told of every group.
    """

    def __init__(
        self,
        database: Database,
        news: RunNews,
        notify: Notify | None = None,
        patience_s: float = PATIENCE_S,
        *,
        on_commit: OnCommit | None = None,
    ) -> None:
        self._news = news
        self._on_commit = on_commit
        self._queue: SimpleQueue[list[Work] | None] = SimpleQueue()
        self._open: list[Work] = []
        self._is_idle = False
        self._stopping = Event()
        self._committer = Committer(database, notify, patience_s, self._stopping)
        self._thread = Thread(target=self._run, name="journal-writer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.commits = 0
        self.units = 0

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether its thread is at work."""
        return self._thread.is_alive()

    async def stop(self) -> None:
        """Write what has been submitted, and end. What is submitted from then on fails."""
        self._hand_over()
        self._stopping.set()
        self._queue.put(None)
        if self._loop is not None:
            await asyncio.to_thread(self._thread.join, STOP_S)

    def submit(self, unit: Unit) -> None:
        """Take a unit; it is open until the event loop has nothing else to do at once."""
        self._gather(unit)

    async def transact(self, fn: Callable[[Connection], T]) -> T:
        """Call `fn` in a savepoint of the next group; return or raise what it does, once that is durable.

        It may be called again when the group has to be tried again.
        """
        assert self._loop is not None
        done: asyncio.Future[Any] = self._loop.create_future()
        self._gather(WriteCall(fn, done))
        result: T = await asyncio.shield(done)
        return result

    def _gather(self, work: Work) -> None:
        assert self._loop is not None
        if self._is_idle and len(self._open) >= EAGER:
            self._hand_over()  # without this one, which may be getting its events just now
        if not self._open:
            self._loop.call_soon(self._hand_over)
        self._open.append(work)

    def _hand_over(self) -> None:
        gathered, self._open = self._open, []
        for work in gathered:
            if isinstance(work, Unit):
                work.is_open = False
        if self._stopping.is_set():  # the thread takes nothing any more
            self._tell(gathered, [Outcome(StorageUnavailableError("The process has stopped.")) for _ in gathered])
        elif gathered:
            self._is_idle = False
            self._queue.put(gathered)

    def _run(self) -> None:
        kept: list[Work] = []
        ending = False
        while kept or not ending:
            if not kept:
                self._is_idle = self._queue.empty()
                first = self._queue.get()
                self._is_idle = False
                ending = first is None
                kept.extend(first or ())
            while not ending:
                try:
                    more = self._queue.get_nowait()
                except Empty:
                    break
                ending = more is None
                kept.extend(more or ())
            group, kept = kept[:MAX_GROUP], kept[MAX_GROUP:]
            if group:
                self._write(group)

    def _write(self, group: list[Work]) -> None:
        began = perf_counter()
        outcomes = self._committer.commit(group)
        seconds = perf_counter() - began
        self.commits += 1
        self.units += len(group)
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._tell, group, outcomes)
        except RuntimeError:
            log.debug("the event loop has closed; nobody waits for these units any more")
        if self._on_commit is not None:
            self._report(self._on_commit, outcomes, seconds)

    def _report(self, on_commit: OnCommit, outcomes: list[Outcome], seconds: float) -> None:
        # who was fenced has lost a run, and what a call raises is its own affair: neither is the journal's failure
        failed = any(
            isinstance(one.error, StorageError) and type(one.error) is not FencedError for one in outcomes
        )
        try:
            on_commit(len(outcomes), seconds, failed)
        except Exception:  # the thread has to go on
            log.exception("that a group was written could not be told")

    def _tell(self, group: list[Work], outcomes: list[Outcome]) -> None:
        for work, outcome in zip(group, outcomes, strict=True):
            try:
                self._tell_of(work, outcome)
            except Exception:  # the others wait too
                log.exception("what became of a unit could not be told")

    def _tell_of(self, work: Work, outcome: Outcome) -> None:
        if isinstance(work, Unit):
            work.done(work, outcome.error, outcome.cancel_requested)
            if outcome.error is None:
                self._news.committed(work.key, work.events, work.status)
        elif outcome.error is not None:
            work.done.set_exception(outcome.error)
        else:
            work.done.set_result(outcome.result)
