"""The journal door: where the loop proposes its events and gets the recorded ones back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..errors import StepError
from ..jsonvalue import JsonObject
from ..tools.base import Transaction
from .events import Event, ToolCompleted


class Journal(Protocol):
    """One run's log. Appends are pipelined; `commit` is the barrier before anything outside may depend on them."""

    def append(self, event: Event) -> Event:
        """Take an event, in order, and return it as it is recorded (capped, redacted): what is stored is seen."""
        ...

    async def commit(self) -> None:
        """Return when everything appended so far is durable."""
        ...


class TransactionalJournal(Journal, Protocol):
    """A journal in a database, which can let a tool write there in the transaction that records its step."""

    async def perform(
        self,
        step: int,
        effect: Callable[[Transaction], JsonObject],
        completed: Callable[[JsonObject | None, StepError | None], ToolCompleted],
    ) -> ToolCompleted:
        """Carry out an effect and record the step that came of it, both or neither; return once it is durable.

        An effect that raises a StepError leaves nothing behind but the step that says so.
        """
        ...


class ListJournal:
    """A journal in memory, for a run that lives no longer than its caller."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events: list[Event] = []

    def append(self, event: Event) -> Event:
        self.events.append(event)
        return event

    async def commit(self) -> None:
        return None
