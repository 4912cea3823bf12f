"""The committer: makes a group of units durable, each of them once, whatever the database does meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from threading import Event
from time import monotonic, sleep
from typing import Final, TypeAlias

from msgspec import Struct
from sqlalchemy import Connection

from ..errors import FencedError, StorageError, StorageUnavailableError
from ..runs.models import StoredEvent
from ..runs.ports import Unit
from .database import FIRST_PAUSE_S, LONGEST_PAUSE_S, Database
from .failures import one_line, trouble_of
from .units import Outcome, WriteCall, is_durable, keep_transactions_ours, write_units

log = logging.getLogger(__name__)

STOP_PATIENCE_S: Final = 2.0
"""For how long all groups together are tried again once the process is stopping."""

Work: TypeAlias = Unit | WriteCall
Notify: TypeAlias = Callable[[Connection, Sequence[Unit]], None]


class Committer:
    """Commits groups, on the one thread that calls it.

    Args:
        notify: called in the transaction with the units that are written, to tell other processes.
        patience_s: for how long a group is tried again while the database cannot be reached.
        stopping: is set when there is no time for that any more.
    """

    def __init__(self, database: Database, notify: Notify | None, patience_s: float, stopping: Event) -> None:
        self._database = database
        self._notify = notify
        self._patience_s = patience_s
        self._stopping = stopping
        self._stop_at: float | None = None
        keep_transactions_ours(database.write_engine)

    def commit(self, group: Sequence[Work]) -> list[Outcome]:
        """Write a group, in one transaction if that will do; return what became of each, in order; never raise."""
        try:
            return self._patiently(group, monotonic() + self._patience_s)
        except BaseException as error:
            log.exception("the journal could not be written")
            return _failed(group, error)

    def _patiently(self, group: Sequence[Work], give_up_at: float) -> list[Outcome]:
        unanswered: list[_Attempt] = []
        pause = FIRST_PAUSE_S
        while True:
            try:
                return self._once(group, unanswered)
            except Exception as error:
                is_fault = trouble_of(error) is None
                parts = _parts(group, each_run=is_fault)
                if is_fault and len(parts) == 1:
                    log.error("what a run wants to write cannot be written", exc_info=error)
                    return _failed(group, error)
                if not is_fault and monotonic() + pause > self._limit(give_up_at):
                    return _failed(group, error)
                if pause == FIRST_PAUSE_S:
                    log.warning("the journal is not written, and tried again: %s", one_line(error))
            sleep(pause)
            if len(parts) > 1 and (is_fault or not unanswered):
                # one may have failed all: what is wrong with it, or what an effect did to the connection
                return self._in_parts(group, parts, give_up_at)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _limit(self, give_up_at: float) -> float:
        if not self._stopping.is_set():
            return give_up_at
        if self._stop_at is None:
            self._stop_at = monotonic() + STOP_PATIENCE_S
        return min(give_up_at, self._stop_at)

    def _in_parts(self, group: Sequence[Work], parts: list[list[Work]], give_up_at: float) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        for part in parts:
            found = self._patiently(part, give_up_at)
            outcomes.update((id(work), outcome) for work, outcome in zip(part, found, strict=True))
        return [outcomes[id(work)] for work in group]

    def _once(self, group: Sequence[Work], unanswered: list[_Attempt]) -> list[Outcome]:
        """Write the group, unless an earlier attempt whose COMMIT nobody answered has done so, early or late.

        A server may be at such a COMMIT still when another connection asks. Its locks then hold the next attempt
        up until it is done, and that finds the heads moved, or the new runs there.
        """
        known = self._outcomes_of(unanswered)
        if known is not None:
            return known
        try:
            attempt = self._attempt(group)
        except Exception as error:
            reason = error
            if isinstance(error, _UnansweredCommitError):
                unanswered.append(error.attempt)
                reason = error.reason
            known = self._outcomes_of(unanswered) if trouble_of(reason) is None else None
            if known is None:
                raise reason from None
            return known
        known = self._outcomes_of(unanswered) if attempt.has_fenced else None
        return attempt.outcomes if known is None else known

    def _outcomes_of(self, unanswered: list[_Attempt]) -> list[Outcome] | None:
        """Return the outcomes of the attempt that took place, None if none did.

        The connection that failed cannot say; another can, since an attempt is all or nothing.
        """
        for attempt in unanswered:
            with self._database.read_engine.connect() as connection:
                took_place = any(is_durable(connection, unit.key, events) for unit, events in attempt.written[:1])
            if took_place:
                for unit, events in attempt.written:
                    unit.events = events  # and not what a later attempt made of an effect
                return attempt.outcomes
        return None

    def _attempt(self, group: Sequence[Work]) -> _Attempt:
        with self._database.write_engine.connect() as connection:
            transaction = connection.begin()
            try:
                attempt = _Attempt.of(group, write_units(connection, group))
                if self._notify is not None and attempt.told:
                    self._notify(connection, attempt.told)
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except Exception as error:
                connection.invalidate()  # else it went back into the pool with its transaction still open
                raise _UnansweredCommitError(error, attempt) from error
        return attempt


class _Attempt(Struct, frozen=True):
    """What one transaction did. `told` are the units that are not fenced, `written` those that brought events."""

    outcomes: list[Outcome]
    told: list[Unit]
    written: list[tuple[Unit, list[StoredEvent]]]
    has_fenced: bool

    @classmethod
    def of(cls, group: Sequence[Work], outcomes: list[Outcome]) -> _Attempt:
        pairs = zip(group, outcomes, strict=True)
        told = [work for work, outcome in pairs if isinstance(work, Unit) and outcome.error is None]
        written = [(unit, unit.events) for unit in told if unit.events]
        return cls(outcomes, told, written, any(isinstance(outcome.error, FencedError) for outcome in outcomes))


class _UnansweredCommitError(Exception):
    """A COMMIT failed, and so may have taken place."""

    def __init__(self, reason: Exception, attempt: _Attempt) -> None:
        super().__init__("COMMIT failed")
        self.reason = reason
        self.attempt = attempt


def _parts(group: Sequence[Work], *, each_run: bool) -> list[list[Work]]:
    """Return the parts that a group can be written in: each run by itself, or just each that has an effect."""
    apart = {work.key for work in group if isinstance(work, Unit) and (each_run or work.effect is not None)}
    parts: dict[Hashable, list[Work]] = {}
    for work in group:
        if isinstance(work, WriteCall):
            part: Hashable = id(work) if each_run else None
        else:
            part = work.key if work.key in apart else None
        parts.setdefault(part, []).append(work)
    return list(parts.values())


def _failed(group: Sequence[Work], error: BaseException) -> list[Outcome]:
    """Return one failure for each, since each is raised elsewhere."""
    return [Outcome(_failure(error)) for _ in group]


def _failure(error: BaseException) -> StorageError:
    kind = StorageError if trouble_of(error) is None else StorageUnavailableError
    failure = kind(f"The journal could not be written: {one_line(error)}")
    failure.__cause__ = error
    return failure
