"""Submitting a run: checked, admitted, and kept before anything depends on it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from hashlib import sha256

from ..agent.core import Agent, utc_now
from ..agent.events import RunStarted
from ..auth.principal import Principal
from ..errors import (
    FencedError,
    IdempotencyKeyReusedError,
    QuotaExceededError,
    StorageError,
    StorageUnavailableError,
)
from .admission import Admission
from .capping import seal
from .chain import GENESIS
from .executor import Executor
from .held import Ended
from .models import Claim, IdempotencyKey, Job, NewRun, RunKey, RunRequest, StoredEvent
from .ports import Created, RunQueue, RunStore
from .requests import opening


class Submission:
    """Takes runs in.

    Args:
        queue: brings a run to whoever executes it.
        executor: claims runs in this process's name.
        admission: says who may have another run; None if everybody may.
        traceparent: returns where in which trace the current request is (W3C Trace Context), None for nowhere.
    """

    def __init__(
        self,
        agent: Agent,
        store: RunStore,
        queue: RunQueue,
        executor: Executor,
        admission: Admission | None = None,
        traceparent: Callable[[], str | None] = lambda: None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._agent = agent
        self._store = store
        self._queue = queue
        self._executor = executor
        self._admission = admission
        self._traceparent = traceparent
        self._clock = clock

    def opening(self, request: RunRequest, who: Principal) -> RunStarted:
        """Return the first event of a run that `who` asks for; raises the CallerErrors of `Agent.opening`."""
        return opening(self._agent, request, who, self._traceparent())

    async def admit(
        self, new: NewRun, begun: RunStarted, who: Principal, key: IdempotencyKey | None
    ) -> tuple[RunKey | None, NewRun, RunStarted]:
        """Return no run, and what may be created with its opening; or the run that was made under the key before.

        Raises:
            QuotaExceededError: there may be no more.
            IdempotencyKeyReusedError: the key belongs to another request.
        """
        if self._admission is None:
            return None, new, begun
        key = self._masked(key)
        try:
            return None, *await self._admission.admit(new, who, begun)
        except QuotaExceededError:
            made = None if key is None else await self._store.made_under(who.tenant, key)
            if made is None:
                raise
            return RunKey(who.tenant, _same(made)), new, begun

    async def begin_here(self, new: NewRun, begun: RunStarted) -> Ended:
        """Begin a run in this process and carry it on; it becomes durable with its first steps."""
        try:
            return await self._executor.start(new, begun)
        except StorageError:
            self._withdraw(new)  # it may go on; but if it was not kept, nobody would free its slot
            raise

    async def keep(self, new: NewRun, begun: RunStarted, key: IdempotencyKey | None) -> tuple[str, bool]:
        """Write a run, unless there is one under the key; return its id, and whether it is new.

        Raises:
            IdempotencyKeyReusedError: the key belongs to another request.
            QuotaExceededError: there are as many unfinished runs as there may be.
            StorageError: it is not known to be kept.
        """
        return await self._create(new, self._first(new, begun), key)

    async def keep_and_begin(
        self, new: NewRun, begun: RunStarted, key: IdempotencyKey | None
    ) -> tuple[str, Ended | None]:
        """Do what `keep` does, and carry the run on if it is new and this process's to carry out."""
        stored = self._first(new, begun)
        try:
            run_id, is_new = await self._create(new, stored, key)
        except StorageUnavailableError:
            if new.owner is not None:
                self._executor.take_up_later(new.key)  # it may be there
            raise
        if is_new and new.owner is None:
            self.wake(new)
        if not is_new or new.owner is None:
            return run_id, None
        left = new.deadline_s
        claim = Claim(new.key, 1, "running", 1, stored.hash, 0, 1, new.priority, left, cancel_requested=False)
        try:
            return run_id, await self._executor.resume(claim)
        except FencedError:  # another process took it for abandoned, or this one did; it is in good hands
            return run_id, None

    def wake(self, new: NewRun) -> None:
        """Tell the queue of a run that is kept."""
        self._queue.wake(Job(new.key, new.priority, new.not_before))

    def _first(self, new: NewRun, begun: RunStarted) -> StoredEvent:
        return seal(new.key.run_id, 1, GENESIS, self._clock(), begun, self._executor.driver.redactor)[1]

    async def _create(self, new: NewRun, stored: StoredEvent, key: IdempotencyKey | None) -> tuple[str, bool]:
        key = self._masked(key)
        job = Job(new.key, new.priority, new.not_before)
        is_new = False
        try:
            made = await self._store.create(new, [stored], key, job if new.owner is None else None)
            is_new = made[0] == "new"
        finally:
            if not is_new:
                self._withdraw(new)
        return _same(made), is_new

    def _masked(self, key: IdempotencyKey | None) -> IdempotencyKey | None:
        """Return a key that holds no secret: of one that does, its digest."""
        if key is None or self._executor.driver.redactor.text(key.key) is key.key:
            return key
        return IdempotencyKey(f"sha256:{sha256(key.key.encode()).hexdigest()}", key.fingerprint)

    def _withdraw(self, new: NewRun) -> None:
        if self._admission is not None:
            self._admission.withdraw(new.key)


def _same(made: tuple[Created, str]) -> str:
    """Return the id of a run that was made, now or for the same request before.

    Raises:
        IdempotencyKeyReusedError: its key was used for another request.
    """
    created, run_id = made
    if created == "mismatch":
        raise IdempotencyKeyReusedError(
            f"This Idempotency-Key was used for another request, whose run is {run_id}."
        )
    return run_id
