"""Executing runs: claim one, fold what it has, drive the loop, and end it or hand it back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from ..agent.core import Agent, utc_now
from ..agent.endings import Limits, out_of_time
from ..agent.events import RunFinished, RunStarted
from ..agent.state import AgentState
from ..errors import FencedError, StorageUnavailableError
from .codec import read_all
from .held import Ended, HeldRun, OnFinished, Stop
from .journal import DurableJournal
from .models import Claim, Job, NewRun, RunKey
from .ports import RunStore, UnitWriter

log = logging.getLogger(__name__)

MAX_CLAIMS: Final = 3
"""How often in a row a run may be taken up, and its process die without another event, before it is given up."""

RETRY_HELD_S: Final = 2.0
RETRY_STORAGE_S: Final = 2.0
RETRY_S: Final = {"held": RETRY_HELD_S, "too_early": RETRY_HELD_S, "tenant_full": 1.0}
"""After how many seconds to deliver a run again that could not be claimed; not at all for the other reasons."""

PAGE: Final = 500


class Executor:
    """Drives runs in this process. What it holds is only what is under way.

    Args:
        owner: this process's name in claims; never used by another process, before or after.
        concurrency: how many runs are under way here at once; others wait for their turn.
        tenant_limit: how many of one tenant may be running in all processes; 0 for any number.
        on_finished: is told of every run that ends here.
    """

    def __init__(
        self,
        agent: Agent,
        store: RunStore,
        writer: UnitWriter,
        owner: str,
        *,
        concurrency: int = 64,
        tenant_limit: int = 0,
        on_finished: OnFinished | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._agent = agent
        self._store = store
        self._writer = writer
        self.owner = owner
        self._tenant_limit = tenant_limit
        self._on_finished = on_finished
        self._clock = clock
        self._slots = asyncio.Semaphore(concurrency)
        self._taken: set[RunKey] = set()
        self._held: dict[RunKey, HeldRun] = {}
        self._stopping = False

    @property
    def held(self) -> Sequence[RunKey]:
        """The runs that this process is driving."""
        return list(self._held)

    def has_room(self) -> bool:
        """Say whether a run could be started here and now."""
        return not (self._stopping or self._tenant_limit or self._slots.locked())

    async def execute(self, job: Job) -> float | None:
        """Carry out a run that was delivered, to its end or until it waits or is handed back.

        Returns:
            None when there is nothing more to do for this delivery, or after how many seconds to deliver it again.
        """
        key = job.key
        if key in self._taken:
            return None
        self._taken.add(key)
        try:
            async with self._slots:
                return await self._execute(key)
        except StorageUnavailableError as error:
            log.warning("run %s waits for the database: %s", key.run_id, error)
            return RETRY_STORAGE_S
        except FencedError:
            log.info("run %s was taken over by another process", key.run_id)
            return None
        finally:
            self._taken.discard(key)

    async def _execute(self, key: RunKey) -> float | None:
        if self._stopping:
            return RETRY_HELD_S
        claim = await self._store.claim(
            key, self.owner, statuses=("queued", "running"), tenant_limit=self._tenant_limit
        )
        if isinstance(claim, Claim):
            ended = await self.resume(claim)
            return 0.0 if ended.status == "queued" else None
        if claim.reason == "waiting":
            await self._end_if_overdue(key)
        return RETRY_S.get(claim.reason)

    async def start(self, new: NewRun, opening: RunStarted) -> Ended:
        """Begin a run here and carry it on as far as it goes.

        Raises:
            StorageError: the run could not be kept.
        """
        self._taken.add(new.key)
        try:
            async with self._slots:
                journal = DurableJournal(self._writer, new, self._clock, lambda: self._cancel(new.key))
                state = AgentState()
                state.apply(journal.append(opening))
                return await self._drive(self._held_run(journal, state, new.deadline_s))
        finally:
            self._taken.discard(new.key)

    async def resume(self, claim: Claim) -> Ended:
        """Carry a claimed run on from where it stands.

        Raises:
            StorageError: it could not be read, or its events not be kept.
        """
        held = await self.take(claim)
        if claim.cancel_requested:
            return await self._cancelled(held)
        if claim.claims > MAX_CLAIMS:
            return await held.end(_poison(claim.claims - 1))
        return await self._drive(held)

    async def take(self, claim: Claim) -> HeldRun:
        """Return a claimed run as it stands, for whoever has something to say about it."""
        journal = DurableJournal(self._writer, claim, self._clock, lambda: self._cancel(claim.key))
        return self._held_run(journal, await self._fold(claim), claim.seconds_left)

    async def end_cancelled(self, claim: Claim) -> Ended:
        """End a run that nobody was driving."""
        return await self._cancelled(await self.take(claim))

    def cancel(self, key: RunKey) -> bool:
        """Stop a run that this process is driving, at the tool in flight; False if it drives no such run.

        One that it is about to drive sees the request by itself, which is durable by now.
        """
        self._cancel(key)
        return key in self._taken

    def _cancel(self, key: RunKey) -> None:
        held = self._held.get(key)
        if held is not None:
            held.interrupt(Stop.CANCEL)

    async def stop(self, grace_s: float) -> None:
        """Take up no more runs; let each end the step it is in for at most `grace_s`, then hand it back."""
        self._stopping = True
        await self._wait(grace_s)
        for held in self._held.values():
            held.interrupt(Stop.HAND_BACK)
        await self._wait(grace_s)

    async def _wait(self, seconds: float) -> None:
        tasks = {held.task for held in self._held.values() if held.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def _fold(self, claim: Claim) -> AgentState:
        state = AgentState()
        seq = 0
        while seq < claim.head_seq:
            page = await self._store.events(claim.key, seq, PAGE)
            if not page:
                raise StorageUnavailableError(f"Events of the run {claim.key.run_id} are missing after {seq}.")
            for event in read_all(page):
                state.apply(event)
            seq = page[-1].seq
        return state

    def _held_run(self, journal: DurableJournal, state: AgentState, seconds: float | None) -> HeldRun:
        loop = self._agent.loop(state, journal, journal.key.run_id, seconds)
        return HeldRun(journal, state, loop, self._on_finished)

    async def _drive(self, held: HeldRun) -> Ended:
        held.task = asyncio.current_task()
        self._held[held.journal.key] = held
        try:
            return await self._advance(held)
        finally:
            del self._held[held.journal.key]

    async def _advance(self, held: HeldRun) -> Ended:
        """Take one event after the other until the run ends, waits, or is to stop."""
        state, loop = held.state, held.loop
        ordered_from_outside = False
        try:
            while state.result is None and not loop.is_waiting:
                if held.stop is not None or (self._stopping and state.intended is None):
                    break
                await loop.next_event()
        except asyncio.CancelledError:
            ordered_from_outside = held.stop is None
        assert held.task is not None
        while held.task.cancelling():
            held.task.uncancel()
        ended = await self._settled(held)
        if ordered_from_outside:
            raise asyncio.CancelledError
        return ended

    async def _settled(self, held: HeldRun) -> Ended:
        """Record where a run has stopped. What became of it before it could be stopped stands."""
        if held.state.result is not None:
            return await held.over()
        if held.stop is Stop.CANCEL:
            return await self._cancelled(held)
        held.note_interruption("The process that ran the tool was stopped.", for_good=False)
        return await held.hand_back()

    async def _cancelled(self, held: HeldRun) -> Ended:
        held.note_interruption("The run was cancelled while the tool was under way.", for_good=True)
        return await held.end(RunFinished("cancelled", "The run was cancelled.", "cancelled"))

    async def _end_if_overdue(self, key: RunKey) -> None:
        """End a run that waits for a person if its deadline has passed."""
        run = await self._store.get(key)
        if run is None or run.deadline_at is None:
            return
        claim = await self._store.claim(key, self.owner, statuses=("waiting",))
        if isinstance(claim, Claim):
            held = await self.take(claim)
            if claim.seconds_left is not None and claim.seconds_left <= 0:
                await held.end(out_of_time(Limits(by_deadline=True)))
            else:
                await held.hand_back()


def _poison(times: int) -> RunFinished:
    return RunFinished(
        "error",
        f"Given up: the process that carried out this run died {times} times in a row without getting further.",
        "poison",
    )
