"""Executing runs: which of them this process takes up, how many at once, and what brings back those that fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec

from ..agent.core import Agent, utc_now
from ..agent.events import RunStarted
from ..errors import FencedError, StorageUnavailableError
from ..redaction import PLAIN_REDACTOR, Redactor
from .driver import Driver
from .held import Ended, OnFinished
from .models import Claim, Job, NewRun, RunKey
from .ports import RunObserver, RunStore, UnitWriter
from .voices import Voices

log = logging.getLogger(__name__)

T = TypeVar("T")

HAND_BACK_S: Final = 5.0
RETRY_HELD_S: Final = 2.0
RETRY_STORAGE_S: Final = 2.0
RETRY_UNREADABLE_S: Final = 10.0
RETRY_S: Final = {"held": RETRY_HELD_S, "too_early": RETRY_HELD_S, "tenant_full": 1.0}
"""After how many seconds to deliver a run again that could not be claimed; not at all for the other reasons."""


class Executor:
    """Drives runs in this process. What it holds is only what is under way.

    Args:
        owner: this process's name in claims; never used by another process, before or after.
        concurrency: how many runs are under way here at once; others wait for their turn.
        tenant_limit: how many of one tenant may be running in all processes; 0 for any number.
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
        owner: str,
        *,
        concurrency: int = 64,
        tenant_limit: int = 0,
        on_finished: OnFinished | None = None,
        voices: Voices | None = None,
        observers: Sequence[RunObserver] = (),
        redactor: Redactor = PLAIN_REDACTOR,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self.owner = owner
        self._tenant_limit = tenant_limit
        voices = Voices() if voices is None else voices
        self.driver = Driver(
            agent, store, writer, f"{owner}/guest", on_finished, clock, voices, observers, redactor
        )
        self._slots = asyncio.Semaphore(concurrency)
        self._taken: set[RunKey] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._retries: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def held(self) -> Sequence[RunKey]:
        """The runs that this process is driving."""
        return list(self.driver.held)

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
        try:
            return await self.detached(self._execute(key))
        except StorageUnavailableError as error:
            log.warning("run %s waits for the database: %s", key.run_id, error)
            return RETRY_STORAGE_S
        except FencedError:
            # by another process, as a rule, and then the next claim is refused until that has ended it
            log.info("run %s was taken over", key.run_id)
            return RETRY_HELD_S

    async def start(self, new: NewRun, opening: RunStarted) -> Ended:
        """Begin a run here and carry it on as far as it goes, even if the caller is cancelled meanwhile.

        Raises:
            StorageError: the run could not be kept, or is in other hands; if it was kept, it goes on later.
        """
        return await self.detached(self._start(new, opening))

    async def resume(self, claim: Claim) -> Ended:
        """Carry a claimed run on from where it stands, even if the caller is cancelled meanwhile.

        Raises:
            StorageError: as for `start`.
        """
        return await self.detached(self._resume_here(claim))

    async def detached(self, work: Coroutine[Any, Any, T]) -> T:
        """Carry `work` out to its end, whether or not the caller is there to see it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_tell_of_failure)
            raise

    def take_up_later(self, key: RunKey) -> None:
        """See to it that a run goes on here after a failure of the database, if it is nobody else's."""
        if not self._stopping:
            task = asyncio.get_running_loop().create_task(self._again_and_again(key))
            self._retries.add(task)
            task.add_done_callback(self._retries.discard)

    def cancel(self, key: RunKey) -> bool:
        """Stop a run that this process is driving, at the tool in flight; False if it drives no such run."""
        if key not in self._taken:
            return False
        self.driver.cancel(key)
        return True

    async def stop(self, grace_s: float) -> None:
        """Take up no more runs; let each end the step it is in for at most `grace_s`, then hand it back.

        That takes HAND_BACK_S at most, however the database does.
        """
        self._stopping = True
        self.driver.stop_gently()
        for task in self._retries:
            task.cancel()
        await self._wait(grace_s)
        self.driver.stop_now()
        await self._wait(HAND_BACK_S)

    async def _wait(self, seconds: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def _again_and_again(self, key: RunKey) -> None:
        seconds: float | None = RETRY_STORAGE_S
        while seconds is not None:
            await asyncio.sleep(seconds)
            try:
                seconds = await self.execute(Job(key))
            except Exception:
                log.exception("run %s could not be carried out and is tried again", key.run_id)
                seconds = RETRY_STORAGE_S

    async def _execute(self, key: RunKey) -> float | None:
        async with self._slots:
            if self._stopping:
                return RETRY_HELD_S
            if key in self._taken:
                return None
            with self._taking(key):
                return await self._claim_and_resume(key)

    async def _claim_and_resume(self, key: RunKey) -> float | None:
        claim = await self._store.claim(
            key, self.owner, statuses=("queued", "running"), tenant_limit=self._tenant_limit
        )
        if isinstance(claim, Claim):
            try:
                ended = await self.driver.resume(claim)
            except msgspec.DecodeError:
                # a newer version has written it, and goes on with it; that we tried does not count
                log.exception("run %s cannot be read by this version of the program", key.run_id)
                await self._store.release(claim)
                return RETRY_UNREADABLE_S
            return 0.0 if ended.status == "queued" else None
        if claim.reason == "waiting":
            await self.driver.end_if_due(key)
        return RETRY_S.get(claim.reason)

    async def _start(self, new: NewRun, opening: RunStarted) -> Ended:
        async with self._slots:
            with self._taking(new.key, retries=True):
                return await self.driver.begin(new, opening)

    async def _resume_here(self, claim: Claim) -> Ended:
        async with self._slots:
            if claim.key in self._taken:
                raise FencedError(f"The run {claim.key.run_id} has been taken up here meanwhile.")
            with self._taking(claim.key, retries=True):
                return await self.driver.resume(claim)

    @contextmanager
    def _taking(self, key: RunKey, *, retries: bool = False) -> Iterator[None]:
        """Note that this process is about to drive a run; `retries` if no delivery would bring it back."""
        self._taken.add(key)
        try:
            yield
        except Exception:
            if retries:
                self.take_up_later(key)
            raise
        finally:
            self._taken.discard(key)
            self.driver.forget(key)


def _tell_of_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.warning("a run whose caller had gone has stopped: %s", task.exception())
