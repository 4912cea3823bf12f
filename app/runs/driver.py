"""The driver: takes a claimed run as it stands, carries it on, and records where it has stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Final

import msgspec

from ..agent.core import Agent
from ..agent.endings import Limits, out_of_time
from ..agent.events import RunFinished, RunStarted
from ..agent.state import AgentState
from ..errors import UnreadableRunError
from ..redaction import PLAIN_REDACTOR, Redactor
from ..tools.call import reporting_to
from .folding import folded
from .held import Ended, HeldRun, OnFinished, Stop
from .journal import DurableJournal
from .models import Claim, NewRun, RunKey
from .observers import Observers
from .ports import RunObserver, RunStore, UnitWriter
from .voices import Voices

log = logging.getLogger(__name__)

MAX_CLAIMS: Final = 3
"""How often in a row a run may be taken up, and its process die without another step, before it is given up."""

EVENTS_A_TURN: Final = 100
"""After how many events a run that never had to wait lets others have the event loop."""


class Driver:
    """Drives the runs that this process has claimed. What it holds is only what is under way.

    Args:
        guest: this process's name in claims for a moment, outside of a run's turn. Nobody of that name is ever
            alive, so what such a claim leaves behind in a failure can be taken up by anybody at once.
        on_finished: is told of every run that ends here.
        voices: what these runs say while they are driven.
        observers: are told what happens in them.
        redactor: masks the secrets in what they say and keep.
    """

    def __init__(
        self,
        agent: Agent,
        store: RunStore,
        writer: UnitWriter,
        guest: str,
        on_finished: OnFinished | None,
        clock: Callable[[], datetime],
        voices: Voices,
        observers: Sequence[RunObserver] = (),
        redactor: Redactor = PLAIN_REDACTOR,
    ) -> None:
        self._agent = agent
        self._store = store
        self._writer = writer
        self._on_finished = on_finished
        self._clock = clock
        self._voices = voices
        self._observers = Observers(observers) if observers else None
        self.redactor = redactor
        self._to_cancel: set[RunKey] = set()
        self._is_stopping = False
        self.guest = guest
        self.held: dict[RunKey, HeldRun] = {}

    async def begin(self, new: NewRun, opening: RunStarted) -> Ended:
        """Begin a run and carry it on as far as it goes.

        Raises:
            StorageError: it could not be kept, or somebody else has it by now.
        """
        journal = self._journal(new)
        journal.subjects = opening.subjects
        with self._watched(new.key, opening):
            state = AgentState()
            state.apply(journal.append(opening))
            return await self._drive(self._held_run(journal, state, new.deadline_s))

    async def resume(self, claim: Claim) -> Ended:
        """Carry a claimed run on from where it stands.

        Raises:
            StorageError: as for `begin`.
            UnreadableRunError: its events are damaged; when it has been taken up too often, it is ended instead.
            msgspec.DecodeError: a newer version of this program has written it.
        """
        if claim.cancel_requested:
            return await self.end_cancelled(claim)
        if claim.claims > MAX_CLAIMS:
            return await self._give_up(claim)
        held = await self.take(claim)
        with self._watched(claim.key, held.state.opening):
            return await self._drive(held)

    @contextmanager
    def _watched(self, key: RunKey, opening: RunStarted) -> Iterator[None]:
        """Let the observers know that a run is driven, and that it no longer is, however that ends."""
        if self._observers is None:
            yield
            return
        self._observers.began(key, opening)
        try:
            yield
        finally:
            self._observers.left(key)

    async def take(self, claim: Claim) -> HeldRun:
        """Return a claimed run as it stands, for whoever has a say in it; raises what `folded` does."""
        return self._held_run(self._journal(claim), await folded(self._store, claim), claim.seconds_left)

    async def give_back(self, held: HeldRun) -> Ended:
        """Hand a run back; if it was to be cancelled just then, end it."""
        ended = await held.hand_back()
        if held.journal.cancel_requested:
            claim = await self._store.claim(held.journal.key, self.guest, statuses=(ended.status,), now=True)
            if isinstance(claim, Claim):
                return await self.end_cancelled(claim)
        return ended

    async def end_cancelled(self, claim: Claim) -> Ended:
        """End a run that nobody was driving, whether or not it can be read."""
        held, _ = await self._take_to_end(claim)
        return await self._cancelled(held)

    async def end_if_due(self, key: RunKey) -> None:
        """End a run that waits for a person if its deadline has passed, or it was to be cancelled all the same."""
        run = await self._store.get(key)
        if run is None or (run.deadline_at is None and not run.cancel_requested):
            return
        claim = await self._store.claim(key, self.guest, statuses=("waiting",))
        if isinstance(claim, Claim):
            if claim.seconds_left is not None and claim.seconds_left <= 0:
                held, _ = await self._take_to_end(claim)
                await held.end(out_of_time(Limits(by_deadline=True)))
            elif claim.cancel_requested:
                await self.end_cancelled(claim)
            else:
                await self.give_back(await self.take(claim))

    def cancel(self, key: RunKey) -> None:
        """Stop a run at the tool in flight, or as soon as it is driven."""
        if key not in self.held:
            self._to_cancel.add(key)
        self._interrupt(key)

    def forget(self, key: RunKey) -> None:
        """Note that a run is not about to be driven any more."""
        self._to_cancel.discard(key)

    def stop_gently(self) -> None:
        """Let each run end the call that it is in, and then hand it back."""
        self._is_stopping = True

    def stop_now(self) -> None:
        """Hand every run back, calls in flight or not."""
        for held in self.held.values():
            held.interrupt(Stop.HAND_BACK)

    def _interrupt(self, key: RunKey) -> None:
        held = self.held.get(key)
        if held is not None:
            held.interrupt(Stop.CANCEL)

    async def _give_up(self, claim: Claim) -> Ended:
        held, error = await self._take_to_end(claim)
        held.note_interruption("The process that carried it out died.", for_good=True)
        is_damaged = isinstance(error, UnreadableRunError)
        return await held.end(_UNREADABLE if is_damaged else _poison(claim.claims - 1))

    async def _take_to_end(self, claim: Claim) -> tuple[HeldRun, Exception | None]:
        """Take a run that is to be ended; if it cannot be read, its head will do, and the error comes with it."""
        error: Exception | None = None
        if claim.claims <= MAX_CLAIMS + 1:  # beyond that, it may be the reading that processes die of
            try:
                return await self.take(claim), None
            except (UnreadableRunError, msgspec.DecodeError) as unread:
                error = unread
        log.warning("run %s is ended without having been read: %s", claim.key.run_id, error or "it is poison")
        return self._held_run(self._journal(claim), AgentState(), None), error

    def _journal(self, start: NewRun | Claim) -> DurableJournal:
        key = start.key
        observe = None if self._observers is None else partial(self._observers.recorded, key)
        return DurableJournal(
            self._writer, start, self._clock, lambda: self._interrupt(key), observe, self.redactor
        )

    def _held_run(self, journal: DurableJournal, state: AgentState, seconds: float | None) -> HeldRun:
        voice = self._voices.voice(journal, state)
        journal.subjects = state.opening.subjects
        key = journal.key
        loop = self._agent.loop(state, journal, key.run_id, seconds, on_delta=voice.say, tenant=key.tenant)
        return HeldRun(journal, state, loop, voice, self._on_finished)

    async def _drive(self, held: HeldRun) -> Ended:
        """Carry a run on until it ends, waits, or is to stop, and record where it has stopped."""
        key = held.journal.key
        self.held[key] = held
        self._voices.begin(key, held.voice)
        if key in self._to_cancel:
            held.stop = Stop.CANCEL
        elif self._is_stopping:
            held.stop = Stop.HAND_BACK
        ordered_from_outside = False
        try:
            held.task = asyncio.current_task()
            with reporting_to(held.voice.report):
                await self._advance(held)
        except asyncio.CancelledError:
            ordered_from_outside = held.stop is None
        finally:
            del self.held[key]  # from here on nobody interrupts it
            held.loop.close()
            self._voices.end(key)
        ended = await self._settled(held)
        if ordered_from_outside:
            raise asyncio.CancelledError
        return ended

    async def _advance(self, held: HeldRun) -> None:
        """Take one event after the other until the run ends, waits, or is to stop."""
        state, loop = held.state, held.loop
        left = EVENTS_A_TURN
        while state.result is None and not loop.is_waiting:
            if held.stop is not None:
                await asyncio.sleep(0)  # a cancellation that an effect had to wait for comes out here
                return
            if self._is_stopping and state.intended is None:
                return
            await loop.next_event()
            left -= 1
            if not left:
                left = EVENTS_A_TURN
                await asyncio.sleep(0)

    async def _settled(self, held: HeldRun) -> Ended:
        """Record where a run has stopped. What became of it before it could be stopped stands."""
        if held.state.result is not None:
            return await held.over()
        if held.stop is Stop.CANCEL:
            return await self._cancelled(held)
        held.note_interruption("The process that carried it out was stopped.", for_good=False)
        return await self.give_back(held)

    async def _cancelled(self, held: HeldRun) -> Ended:
        held.note_interruption("The run was cancelled while it was under way.", for_good=True)
        return await held.end(RunFinished("cancelled", "The run was cancelled.", "cancelled"))


def _poison(times: int) -> RunFinished:
    return RunFinished(
        "error",
        f"Given up: the process that carried out this run died {times} times in a row without another step.",
        "poison",
    )


_UNREADABLE: Final = RunFinished(
    "error",
    "Given up: stored events of this run are damaged or missing. Whether a call was under way is not known.",
    "unreadable",
)
