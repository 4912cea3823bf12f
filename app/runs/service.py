"""What a caller can do with runs: submit, wait, read, follow, cancel, resolve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from datetime import datetime

from msgspec.structs import replace

from ..agent.core import Agent, utc_now
from ..agent.events import RunStarted, ToolResolved
from ..auth.principal import ANONYMOUS, Principal
from ..errors import (
    FencedError,
    RunEndedError,
    RunNotWaitingError,
    StorageUnavailableError,
)
from ..jsonvalue import JsonObject
from .admission import Admission
from .executor import Executor
from .feed import EventFeed
from .held import Ended
from .ids import new_run_id
from .models import (
    DEFAULT_TENANT,
    FINISHED,
    Claim,
    FinishedRun,
    IdempotencyKey,
    Job,
    NewRun,
    Run,
    RunKey,
    RunPage,
    RunRequest,
    RunStatus,
    StoredEvent,
    Trace,
)
from .ports import RunQueue, RunStore
from .requests import bounded, new_run
from .submission import Submission
from .trace import finished, not_found, pruned, trace_of

MAX_OUTPUT_BYTES = 128 * 1024
CANCEL_S = 2.0
"""How long cancelling waits for the run to have stopped."""

CANCEL_PAUSE_S = 0.02


class RunService:
    """Runs goals, and keeps them.

    Args:
        queue: brings a run to whoever executes it.
        executor: claims runs in this process's name.
        executes: whether runs are carried out in this process too; else it only takes and answers.
        wait_s: how long `run_task` waits for a run that is carried out elsewhere.
        admission: says who may have another run; None if everybody may.
        traceparent: returns where in which trace the current request is (W3C Trace Context), None for nowhere.

    Once `is_stopping`, a `run_task` that is cancelled returns the run as it stands, instead of nothing.
    """

    def __init__(
        self,
        agent: Agent,
        store: RunStore,
        queue: RunQueue,
        executor: Executor,
        feed: EventFeed,
        *,
        executes: bool = True,
        wait_s: float = 600.0,
        admission: Admission | None = None,
        traceparent: Callable[[], str | None] = lambda: None,
        new_id: Callable[[], str] = new_run_id,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._queue = queue
        self._executor = executor
        self._feed = feed
        self._executes = executes
        self._wait_s = wait_s
        self.is_stopping = False
        self._new_id = new_id
        self._submission = Submission(agent, store, queue, executor, admission, traceparent, clock)

    async def run_task(
        self,
        goal: str,
        context: str | None = None,
        tools: Sequence[str] | None = None,
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        max_cost_usd: float | None = None,
        output_schema: JsonObject | None = None,
        key: IdempotencyKey | None = None,
        who: Principal = ANONYMOUS,
    ) -> FinishedRun | Run:
        """Carry out a goal and wait for its end; of a run that waits for a person, return how it stands.

        `who` asks for it: the run is of their tenant, and keeps to their permissions. The other arguments are
        those of a `RunRequest`. Under an idempotency key that was used before, return that run: its outcome, or
        how it stands.

        Raises:
            CallerError: the request cannot be carried out; nothing has run.
            StorageError: the run could not be kept; it may have been carried out in part.
        """
        request = RunRequest(
            goal,
            context,
            tools,
            model=model,
            max_tokens=max_tokens,
            max_cost_usd=max_cost_usd,
            output_schema=output_schema,
        )
        begun = self._submission.opening(request, who)
        here = self._executes and self._executor.has_room()
        owner = self._executor.owner if here else None
        new = NewRun(RunKey(who.tenant, self._new_id()), owner, subjects=begun.subjects)
        known, new, begun = await self._submission.admit(new, begun, who, key)
        if known is not None:
            return await self._standing(known)
        try:
            if key is not None or not here or new.bounds:
                return await self._kept_first(new, begun, key)
            return await self._outcome(new.key, await self._submission.begin_here(new, begun))
        except FencedError:  # another process took it for abandoned; it is in good hands
            return await self._wait_for(new.key)
        except asyncio.CancelledError:
            if not self.is_stopping:
                raise
            return await self._left_behind(new.key)

    async def _left_behind(self, key: RunKey) -> Run:
        """Return how a run stands whose caller is sent away, since the process ends; it goes on later."""
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        run = await self._store.get(key)
        if run is None:  # it has another id, under an idempotency key, or was not kept
            raise StorageUnavailableError("The process is stopping. Send the request again, under the same key.")
        return run

    async def submit(
        self, request: RunRequest, *, key: IdempotencyKey | None = None, who: Principal = ANONYMOUS
    ) -> Run:
        """Keep a run and let it be carried out in its turn; return it as soon as it is durable.

        `who` asks for it: the run is of their tenant, and keeps to their permissions.

        Raises:
            CallerError: the request cannot be carried out; nothing was kept.
            IdempotencyKeyReusedError: the key belongs to another request.
            StorageError: it is not known to be kept.
        """
        begun = self._submission.opening(request, who)
        new = new_run(RunKey(who.tenant, self._new_id()), request, self._executor.driver.redactor)
        new = replace(new, subjects=begun.subjects)
        known, new, begun = await self._submission.admit(new, begun, who, key)
        if known is not None:
            return await self.get(known.run_id, who.tenant)
        run_id, is_new = await self._submission.keep(new, begun, key)
        try:
            return await self.get(run_id, who.tenant)
        finally:
            if is_new:  # not sooner, so that whoever carries it out here does not overtake the answer
                self._submission.wake(new)

    async def get(self, run_id: str, tenant: str = DEFAULT_TENANT) -> Run:
        """Return a run as it is now.

        Raises:
            RunNotFoundError
        """
        run = await self._store.get(RunKey(tenant, run_id))
        if run is None:
            raise not_found(run_id)
        return run

    async def page(
        self,
        status: RunStatus | None = None,
        limit: int = 20,
        cursor: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> RunPage:
        """Return runs, newest first.

        Raises:
            InvalidCursorError
        """
        return await self._store.page(tenant, status, limit, cursor)

    async def trace(self, run_id: str, after: int = 0, limit: int = 1000, tenant: str = DEFAULT_TENANT) -> Trace:
        """Return a run and its steps beyond number `after`, the one in doubt included.

        Raises:
            RunNotFoundError, RunPrunedError
        """
        return await trace_of(self._store, await self.get(run_id, tenant), after, limit)

    async def events(
        self, run_id: str, after: int = 0, limit: int = 100, tenant: str = DEFAULT_TENANT
    ) -> tuple[Run, list[StoredEvent]]:
        """Return a run and its stored events beyond number `after`.

        Raises:
            RunNotFoundError, RunPrunedError
        """
        run = await self.get(run_id, tenant)
        if run.pruned_at is not None:
            raise pruned(run)
        return run, await self._store.events(RunKey(tenant, run_id), after, limit)

    def follow(
        self, run_id: str, after: int = 0, tenant: str = DEFAULT_TENANT
    ) -> AsyncGenerator[list[StoredEvent], None]:
        """Yield pages of stored events as they become durable, to the last one of the run.

        Raises:
            RunNotFoundError, RunPrunedError: before the first page.
        """
        return self._feed.follow(RunKey(tenant, run_id), after)

    async def wait(self, run_id: str, seconds: float, tenant: str = DEFAULT_TENANT) -> Run:
        """Return a run when it has ended or waits for a person, or as it is after `seconds`.

        Raises:
            RunNotFoundError
        """
        await self._feed.wait_ended(RunKey(tenant, run_id), seconds)
        return await self.get(run_id, tenant)

    async def cancel(self, run_id: str, tenant: str = DEFAULT_TENANT) -> Run:
        """Stop a run: at once if nobody works on it, else at the tool in flight; return it as it is within 2 s.

        Raises:
            RunNotFoundError
            RunEndedError: it had ended.
        """
        key = RunKey(tenant, run_id)
        status = await self._store.request_cancel(key)
        if status is None:
            raise not_found(run_id)
        if status in FINISHED:
            raise RunEndedError(f"The run {run_id} has ended: {status}.")
        # a run that is being driven sees by itself that it is to stop: there, or in another process
        if status != "running" or not self._executor.cancel(key):
            claim = await self._store.claim(key, self._executor.driver.guest, statuses=(status,), now=True)
            if isinstance(claim, Claim):
                with suppress(FencedError):  # somebody else is ending it
                    await self._executor.driver.end_cancelled(claim)
        with suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_S):
                await self._ended(key)
        return await self.get(run_id, tenant)

    async def resolve(
        self,
        run_id: str,
        step: int,
        happened: bool,
        output: JsonObject | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Run:
        """Say what became of the step that a run waits for, and let it go on.

        A step that happened is recorded with `output`; one that did not is carried out again.

        Raises:
            RunNotFoundError
            RunNotWaitingError: it does not wait for that step.
            InvalidRunError: the output is no JSON object of at most MAX_OUTPUT_BYTES.
        """
        output = None if output is None else bounded(output, MAX_OUTPUT_BYTES, "output")
        run = await self.get(run_id, tenant)
        key = RunKey(tenant, run_id)
        claim = await self._store.claim(key, self._executor.driver.guest, statuses=("waiting",))
        if not isinstance(claim, Claim):
            raise RunNotWaitingError(f"The run {run_id} waits for nobody; it is {run.status}.")
        try:
            await self._resolve(claim, ToolResolved(step, happened, output))
        except FencedError:
            raise RunNotWaitingError(f"The run {run_id} was cancelled or went on at this very moment.") from None
        return await self.get(run_id, tenant)

    async def _resolve(self, claim: Claim, resolved: ToolResolved) -> None:
        held = await self._executor.driver.take(claim)
        doubt = held.state.doubt
        if doubt is None or doubt.step != resolved.step:
            await self._executor.driver.give_back(held)
            raise RunNotWaitingError(f"The run {claim.key.run_id} does not wait for step {resolved.step}.")
        held.journal.append(resolved)
        await held.journal.commit()
        job = Job(claim.key, claim.priority)
        if await self._store.release(claim, job):
            self._queue.wake(job)

    async def _kept_first(self, new: NewRun, begun: RunStarted, key: IdempotencyKey | None) -> FinishedRun | Run:
        """Make a run durable before anything else, and wait for it, unless it was there before."""
        run_id, ended = await self._executor.detached(self._submission.keep_and_begin(new, begun, key))
        run_key = RunKey(new.key.tenant, run_id)
        if ended is not None:
            return await self._outcome(run_key, ended)
        is_new = run_id == new.key.run_id
        return await (self._wait_for(run_key) if is_new else self._standing(run_key))

    async def _outcome(self, key: RunKey, ended: Ended) -> FinishedRun | Run:
        return await self._standing(key) if ended.run is None else ended.run

    async def _standing(self, key: RunKey) -> FinishedRun | Run:
        run = await self.get(key.run_id, key.tenant)
        return await finished(self._store, run) if run.status in FINISHED else run

    async def _ended(self, key: RunKey) -> None:
        """Return when a run has ended; one that comes to wait for a person is ended by whoever hands it back."""
        while (await self.wait(key.run_id, CANCEL_S, key.tenant)).status not in FINISHED:  # noqa: ASYNC110
            await asyncio.sleep(CANCEL_PAUSE_S)

    async def _wait_for(self, key: RunKey) -> FinishedRun | Run:
        await self._feed.wait_ended(key, self._wait_s)
        return await self._standing(key)
