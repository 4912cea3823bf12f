"""The group writer: one thread that commits the pending units of all runs of a process in one transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Event, Thread
from time import monotonic
from typing import Any, Final, TypeAlias, TypeVar

from sqlalchemy import Connection

from ..errors import FencedError, StorageUnavailableError
from ..runs.ports import RunNews, Unit
from .database import FIRST_PAUSE_S, LONGEST_PAUSE_S, PATIENCE_S, Database
from .failures import one_line, trouble_of
from .units import Outcome, WriteCall, are_durable, write_units

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_BATCH: Final = 2_000
"""How many units a transaction takes at most; the rest is the next one's."""

EAGER: Final = 8
"""With so many units gathered, an idle writer is not kept waiting until the event loop has nothing else to do: it
writes them while the loop makes the next ones."""

Work: TypeAlias = Unit | WriteCall
Notify: TypeAlias = Callable[[Connection, Sequence[Unit]], None]


class GroupWriter:
    """The one in the process that writes journals. While a commit waits for the disk, work for the next gathers.

    Args:
        news: is told, on the event loop, of every unit that has become durable.
        notify: called in the transaction with the units that are written, to tell other processes.
        patience_s: for how long a group is tried again while the database cannot be reached.
    """

    def __init__(
        self, database: Database, news: RunNews, notify: Notify | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        self._database = database
        self._news = news
        self._notify = notify
        self._patience_s = patience_s
        self._queue: SimpleQueue[list[Work] | None] = SimpleQueue()
        self._open: list[Work] = []
        self._is_idle = False
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="journal-writer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.commits = 0
        self.units = 0

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Write what has been submitted, and end."""
        self._hand_over()
        self._stopping.set()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

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
        if not self._open:
            self._loop.call_soon(self._hand_over)
        elif self._is_idle and len(self._open) >= EAGER:
            self._hand_over()
        self._open.append(work)

    def _hand_over(self) -> None:
        gathered, self._open = self._open, []
        for work in gathered:
            if isinstance(work, Unit):
                work.is_open = False
        if gathered:
            self._queue.put(gathered)

    def _run(self) -> None:
        kept: list[Work] = []
        ending = False
        while kept or not ending:
            if not kept:
                self._is_idle = True
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
            batch, kept = kept[:MAX_BATCH], kept[MAX_BATCH:]
            if batch:
                self._write(batch)

    def _write(self, batch: list[Work]) -> None:
        try:
            outcomes = self._patiently(batch)
        except BaseException as error:
            log.exception("the journal could not be written")
            outcomes = [Outcome(error)] * len(batch)
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._tell, batch, outcomes)
        except RuntimeError:
            log.debug("the event loop has closed; nobody waits for these units any more")

    def _patiently(self, batch: list[Work]) -> list[Outcome]:
        give_up_at = monotonic() + self._patience_s
        pause = FIRST_PAUSE_S
        while True:
            try:
                return self._transaction(batch)
            except Exception as error:
                trouble = trouble_of(error)
                if trouble is None:
                    if len(batch) == 1:
                        raise
                    log.warning("a group could not be written and is taken apart: %s", one_line(error))
                    return [outcome for work in batch for outcome in self._alone(work)]
                if monotonic() + pause > give_up_at or self._stopping.is_set():
                    failure = StorageUnavailableError(f"The database does not answer: {one_line(error)}")
                    failure.__cause__ = error
                    return [Outcome(failure)] * len(batch)
                log.warning("the journal waits for the database: %s", one_line(error))
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _alone(self, work: Work) -> list[Outcome]:
        """Write one unit of a group that failed as a whole, so that it fails no other."""
        try:
            return self._patiently([work])
        except Exception as error:
            log.exception("a unit could not be written")
            return [Outcome(error)]

    def _transaction(self, batch: list[Work]) -> list[Outcome]:
        try:
            return self._attempt(batch)
        except _UnansweredCommitError as lost:
            # the connection that failed cannot say whether it took place; another can, since it was all or nothing
            written = lost.written
            if self._database.read_now(lambda connection: are_durable(connection, written)):
                return lost.outcomes
            raise lost.reason from None

    def _attempt(self, batch: list[Work]) -> list[Outcome]:
        with self._database.write_engine.connect() as connection:
            transaction = connection.begin()
            try:
                outcomes = write_units(connection, batch)
                if self._notify is not None:
                    self._notify(connection, _written(batch, outcomes))
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except Exception as error:
                raise _UnansweredCommitError(error, _written(batch, outcomes), outcomes) from error
        self.commits += 1
        self.units += len(batch)
        return outcomes

    def _tell(self, batch: list[Work], outcomes: list[Outcome]) -> None:
        for work, outcome in zip(batch, outcomes, strict=True):
            if isinstance(work, Unit):
                work.done(work, outcome.error, outcome.cancel_requested)
                if outcome.error is None:
                    self._news.committed(work.key, work.events, work.status)
            elif not work.done.done():
                if outcome.error is not None:
                    work.done.set_exception(outcome.error)
                else:
                    work.done.set_result(outcome.result)


class _UnansweredCommitError(Exception):
    """A COMMIT failed, and so may have taken place."""

    def __init__(self, reason: Exception, written: list[Unit], outcomes: list[Outcome]) -> None:
        super().__init__("COMMIT failed")
        self.reason = reason
        self.written = written
        self.outcomes = outcomes


def _written(batch: Sequence[Work], outcomes: Sequence[Outcome]) -> list[Unit]:
    return [
        work
        for work, outcome in zip(batch, outcomes, strict=True)
        if isinstance(work, Unit) and not isinstance(outcome.error, FencedError)
    ]
