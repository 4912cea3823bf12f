"""One run that a process has claimed: its state, its loop and its journal, and the ways to let go of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum
from time import perf_counter
from typing import TypeAlias

from msgspec import Struct

from ..agent.events import RunFinished, ToolInterrupted
from ..agent.loop import Loop
from ..agent.state import AgentState
from .journal import DurableJournal
from .models import FinishedRun, RunStatus
from .voices import Voice

log = logging.getLogger(__name__)

OnFinished: TypeAlias = Callable[[FinishedRun, float], None]
"""Is told of a run that ended here, and how many seconds it took since this process had it."""


class Stop(Enum):
    """Why a run on its way is to stop."""

    CANCEL = "cancel"
    HAND_BACK = "hand back"


class Ended(Struct, frozen=True):
    """How driving a run came to its end: the run's status then, and the run itself if it is over.

    Of a run that ended with a step in doubt there is only the status: the rest is to be read from its events.
    """

    status: RunStatus
    run: FinishedRun | None = None


class HeldRun:
    """One run that this process is driving."""

    __slots__ = ("_on_finished", "_since", "journal", "loop", "state", "stop", "task", "voice")

    def __init__(
        self,
        journal: DurableJournal,
        state: AgentState,
        loop: Loop,
        voice: Voice,
        on_finished: OnFinished | None,
    ) -> None:
        self._on_finished = on_finished
        self._since = perf_counter()
        self.journal = journal
        self.state = state
        self.loop = loop
        self.voice = voice
        self.task: asyncio.Task[object] | None = None
        self.stop: Stop | None = None

    def interrupt(self, reason: Stop) -> None:
        """Stop the run where it is, tool in flight or not."""
        if self.stop is not Stop.CANCEL:
            self.stop = reason
        if self.task is not None:
            self.task.cancel()

    def note_interruption(self, reason: str, *, for_good: bool) -> None:
        """Record that the call the run is in was broken off, if what became of it is now anybody's guess."""
        state, intended = self.state, self.state.intended
        if intended is not None and self.loop.leaves_open(for_good=for_good):
            attempt = state.attempts + 1
            event = ToolInterrupted(intended.step, intended.tool, attempt, reason, in_doubt=True)
            state.apply(self.journal.append(event))
        broken_off = self.loop.broken_off(reason)
        if broken_off is not None:
            state.apply(self.journal.append(broken_off))

    async def end(self, end: RunFinished) -> Ended:
        """Record how the run ends."""
        self.state.apply(self.journal.append(end))
        return await self.over()

    async def over(self) -> Ended:
        """Return the ended run, once that is durable."""
        await self.journal.commit()
        result = self.state.result
        assert result is not None
        run = FinishedRun(self.journal.key.run_id, result.status, result.output, self.state.steps)
        if self._on_finished is not None:
            try:
                self._on_finished(run, perf_counter() - self._since)
            except Exception:  # it is kept, whoever could not be told
                log.exception("that run %s has ended could not be told", run.run_id)
        return Ended(result.status, run if self.state.doubt is None else None)

    async def hand_back(self) -> Ended:
        """Give the run up as it is: for somebody to settle a doubt, or for whoever takes it up next."""
        status: RunStatus = "waiting" if self.loop.is_waiting else "queued"
        await self.journal.end(status)
        return Ended(status)
