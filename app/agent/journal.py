"""The journal door: where the loop proposes its events and gets the recorded ones back."""

from __future__ import annotations

from typing import Protocol

from .events import Event


class Journal(Protocol):
    """One run's log. Appends are pipelined; `commit` is the barrier before anything outside may depend on them."""

    def append(self, event: Event) -> Event:
        """Take an event, in order, and return it as it is recorded (capped, redacted): what is stored is seen."""
        ...

    async def commit(self) -> None:
        """Return when everything appended so far is durable."""
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
