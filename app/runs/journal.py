"""The journal of one run: the door through which the loop's events become durable, in order, under its epoch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from ..agent.events import (
    Event,
    ModelDecided,
    ModelFailed,
    ModelRejected,
    ModelRequested,
    RunFinished,
    ToolCompleted,
)
from ..errors import StepError
from ..jsonvalue import JsonObject
from ..redaction import PLAIN_REDACTOR, Redactor
from .capping import seal
from .chain import GENESIS
from .models import Claim, NewRun, RunKey, RunStatus, StoredEvent
from .ports import Effect, Unit, UnitWriter
from .usage import use_of

_OF_MODELS: Final = frozenset((ModelRequested, ModelDecided, ModelRejected, ModelFailed))


class DurableJournal:
    """Appends to one run for as long as nobody else claims it; satisfies `TransactionalJournal`.

    Once an append has failed, everything after it raises the same StorageError, and nothing more is written.
    It is used by one task at a time.

    Args:
        on_cancel: called when an append has come back with the news that the run is to stop; `cancel_requested`
            is true from then on.
        observe: is told of each event that was taken, as it is stored.
        redactor: masks the secrets in events before they are stored.
    """

    __slots__ = (
        "_asked",
        "_clock",
        "_failure",
        "_new",
        "_observe",
        "_on_cancel",
        "_redactor",
        "_unit",
        "_unsettled",
        "_waiter",
        "_writer",
        "cancel_requested",
        "epoch",
        "head_hash",
        "head_seq",
        "key",
        "steps",
        "subjects",
    )

    def __init__(
        self,
        writer: UnitWriter,
        start: NewRun | Claim,
        clock: Callable[[], datetime],
        on_cancel: Callable[[], None] | None = None,
        observe: Callable[[Event], None] | None = None,
        redactor: Redactor = PLAIN_REDACTOR,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._on_cancel = on_cancel
        self._observe = observe
        self._redactor = redactor
        self._unit: Unit | None = None
        self._unsettled = 0
        self._waiter: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        self._asked: str | None = None
        self.cancel_requested = False
        self.subjects: tuple[str, ...] = ()
        self.key: RunKey = start.key
        if isinstance(start, NewRun):
            self._new: NewRun | None = start
            self.epoch, self.head_seq, self.head_hash, self.steps = 1, 0, GENESIS, 0
        else:
            self._new = None
            self.epoch, self.head_seq = start.epoch, start.head_seq
            self.head_hash, self.steps = start.head_hash, start.steps

    def append(self, event: Event) -> Event:
        """Take an event and return it as it is stored: cut, if it is larger than an event may be."""
        # four times a step: what could be a call of another method is written out
        if self._failure is not None:
            raise self._failure
        at = self._clock()
        event, stored = seal(self.key.run_id, self.head_seq + 1, self.head_hash, at, event, self._redactor)
        unit = self._unit
        if unit is None or not unit.is_open:
            unit = self._submit()
        unit.events.append(stored)
        self.head_seq = stored.seq
        self.head_hash = stored.hash
        if type(event) is ToolCompleted:
            self.steps += 1
            unit.steps = self.steps
            unit.new_steps += 1
            unit.stepped_at = at
        elif type(event) is RunFinished:
            unit.status = event.status
        elif type(event) in _OF_MODELS:
            self._book(unit, event, at)
        if self._observe is not None:
            self._observe(event)
        return event

    async def commit(self) -> None:
        """Return when everything appended so far is durable."""
        if self._unsettled and self._failure is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._check()

    async def perform(
        self,
        step: int,
        effect: Effect,
        completed: Callable[[JsonObject | None, StepError | None], ToolCompleted],
    ) -> ToolCompleted:
        """Carry out an effect in the transaction that records its step.

        A cancellation that comes meanwhile waits until the outcome is known, and is then delivered again.
        """
        # by hash, since the transaction may be tried several times, and only the unit knows which try it was
        recorded: dict[bytes, ToolCompleted] = {}

        def complete(output: JsonObject | None, error: StepError | None) -> list[StoredEvent]:
            event, stored = self._seal(completed(output, error))
            assert isinstance(event, ToolCompleted)
            recorded[stored.hash] = event
            return [stored]

        self._check()
        unit = self._submit(effect=effect, complete=complete, step=step)
        unit.is_open = False
        self.steps += 1
        unit.steps = self.steps
        unit.new_steps = 1
        unit.stepped_at = self._clock()
        await self._outcome()
        stored = unit.events[-1]
        self._advance(stored)
        event = recorded[stored.hash]
        if self._observe is not None:
            self._observe(event)
        return event

    async def end(self, status: RunStatus) -> None:
        """Hand the claim back with an unfinished status, and return when that is durable."""
        self._open_unit().status = status
        await self.commit()

    def _book(self, unit: Unit, event: Event, at: datetime) -> None:
        """Take note of what a call of a model took, to be written with the event that says how it ended."""
        if isinstance(event, ModelRequested):
            self._asked = event.model
        elif isinstance(event, ModelDecided | ModelRejected | ModelFailed):
            use = use_of(event, self._asked, at)
            if use is not None:
                unit.usage = [*(unit.usage or ()), use]

    def _seal(self, event: Event) -> tuple[Event, StoredEvent]:
        return seal(self.key.run_id, self.head_seq + 1, self.head_hash, self._clock(), event, self._redactor)

    def _advance(self, stored: StoredEvent) -> None:
        self.head_seq, self.head_hash = stored.seq, stored.hash

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _open_unit(self) -> Unit:
        self._check()
        unit = self._unit
        return unit if unit is not None and unit.is_open else self._submit()

    def _submit(
        self,
        effect: Effect | None = None,
        complete: Callable[[JsonObject | None, StepError | None], list[StoredEvent]] | None = None,
        step: int = 0,
    ) -> Unit:
        unit = Unit(
            self.key,
            self.epoch,
            self.head_seq,
            self._settle,
            new=self._new,
            effect=effect,
            complete=complete,
            step=step,
        )
        unit.steps = self.steps
        unit.subjects = self.subjects
        self._new = None
        self._unit = unit
        self._unsettled += 1
        self._writer.submit(unit)
        return unit

    def _settle(self, _unit: Unit, error: BaseException | None, cancel_requested: bool) -> None:
        self._unsettled -= 1
        if error is not None and self._failure is None:
            self._failure = error
        waiter = self._waiter
        if waiter is not None and not waiter.done() and (error is not None or not self._unsettled):
            waiter.set_result(None)
        if cancel_requested:
            self.cancel_requested = True
            if self._on_cancel is not None:
                self._on_cancel()

    async def _outcome(self) -> None:
        """Return when all units are settled, whoever wants this task to end meanwhile."""
        cancelled = False
        while self._unsettled and self._failure is None:
            try:
                await self.commit()
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        self._check()
