"""A store of runs in memory, and a service over it that carries out nothing: a test says what happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from msgspec.structs import replace

from app.agent.events import Event, RunFinished, RunStarted, Step, ToolCompleted
from app.auth.principal import ANONYMOUS, Principal
from app.errors import (
    IdempotencyKeyReusedError,
    RunEndedError,
    RunNotFoundError,
    RunNotWaitingError,
    RunPrunedError,
)
from app.runs.chain import GENESIS
from app.runs.codec import read_all, store
from app.runs.feed import EventFeed
from app.runs.ids import new_run_id
from app.runs.live import Live, Progress
from app.runs.models import (
    FINISHED,
    FinishedRun,
    IdempotencyKey,
    Run,
    RunKey,
    RunPage,
    RunRequest,
    RunStatus,
    StoredEvent,
    Trace,
)
from app.runs.ports import RunStore

AT = datetime(2026, 11, 22, 9, 30, 0, 123456, tzinfo=UTC)

NEW = Run(
    run_id="",
    status="queued",
    goal=None,
    context=None,
    output=None,
    reason=None,
    steps=0,
    events=0,
    head_hash=GENESIS,
    priority=0,
    max_steps=None,
    metadata=None,
    created_at=AT,
    started_at=None,
    finished_at=None,
    not_before=None,
    deadline_at=None,
    cancel_requested=False,
    pruned_at=None,
)


def step(number: int, output: dict[str, Any] | None = None) -> ToolCompleted:
    return ToolCompleted(Step(number, "probe", {"n": number}, output or {"ok": True}, None, AT))


class FakeRunStore:
    """What a feed needs of a `RunStore`; it counts what it is asked."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.stored: dict[str, list[StoredEvent]] = {}
        self.gets = 0
        self.reads: list[int] = []
        self.failure: Exception | None = None

    def append(self, run_id: str, *events: Event, status: RunStatus = "running") -> list[StoredEvent]:
        """Write events as if a writer had, with the status that follows from them; tells nobody."""
        run = self.runs.get(run_id) or replace(NEW, run_id=run_id)
        added = []
        for event in events:
            stored = store(run_id, run.events + 1, run.head_hash, AT, event)
            run = replace(run, events=stored.seq, head_hash=stored.hash)
            if isinstance(event, RunStarted):
                run = replace(run, goal=event.goal, context=event.context)
            if isinstance(event, ToolCompleted):
                run = replace(run, steps=run.steps + 1)
            if isinstance(event, RunFinished):
                status = event.status
                run = replace(run, output=event.output, reason=event.reason, finished_at=AT)
            added.append(stored)
        self.runs[run_id] = replace(run, status=status)
        self.stored.setdefault(run_id, []).extend(added)
        return added

    async def get(self, key: RunKey) -> Run | None:
        self.gets += 1
        await asyncio.sleep(0)  # a database takes its time
        if self.failure:
            raise self.failure
        return self.runs.get(key.run_id) if key.tenant == "default" else None

    async def events(self, key: RunKey, after: int, limit: int, max_bytes: int = 1 << 20) -> list[StoredEvent]:
        self.reads.append(after)
        await asyncio.sleep(0)
        if self.failure:
            raise self.failure
        page: list[StoredEvent] = []
        for event in self.stored.get(key.run_id, [])[after : after + limit]:
            max_bytes -= len(event.body.encode())
            if page and max_bytes < 0:
                break
            page.append(event)
        return page


class FakeRunService:
    """What the routes need of `RunService`, with the real feed over a store in memory."""

    def __init__(self) -> None:
        self.store = FakeRunStore()
        self.feed = EventFeed(cast(RunStore, self.store))
        self.lives: dict[str, Live] = {}
        self.keys: dict[str, tuple[bytes, str]] = {}
        self.requests: list[RunRequest] = []
        self.finishes = True
        self.failure: Exception | None = None

    def append(self, run_id: str, *events: Event, status: RunStatus = "running") -> None:
        """Make events durable, and tell of them."""
        added = self.store.append(run_id, *events, status=status)
        self.feed.committed(RunKey("default", run_id), added, self.store.runs[run_id].status)

    def started(self, goal: str = "go", **fields: Any) -> str:
        """Return the id of a new run."""
        run_id = new_run_id()
        self.store.runs[run_id] = replace(NEW, run_id=run_id, **fields)
        self.append(run_id, RunStarted(goal, None, ()), status="queued")
        return run_id

    def say(self, run_id: str, text: str, turn: int = 1) -> None:
        """Let the model of a run say something behind its last event."""
        live = self._live_of(run_id, turn)
        live.say(text)
        self.feed.heard(RunKey("default", run_id), live)

    def report(self, run_id: str, progress: Progress) -> None:
        """Let a tool of a run tell how it gets on."""
        live = self._live_of(run_id, 1)
        live.report(progress)
        self.feed.heard(RunKey("default", run_id), live)

    def _live_of(self, run_id: str, turn: int) -> Live:
        place = 1, self.store.runs[run_id].events
        live = self.lives.get(run_id)
        if live is None or live.place != place:
            live = self.lives[run_id] = Live(place, turn)
        return live

    async def run_task(
        self,
        goal: str,
        context: str | None,
        tools: Sequence[str] | None,
        *,
        key: IdempotencyKey | None = None,
        who: Principal = ANONYMOUS,
        **asked: Any,
    ) -> FinishedRun | Run:
        run = await self.submit(RunRequest(goal, context, tools, **asked), key=key)
        if not self.finishes:
            return run
        if run.status not in FINISHED:
            self.append(run.run_id, RunFinished("success", "done"))
            run = self.store.runs[run.run_id]
        assert run.output is not None
        return FinishedRun(run.run_id, cast(Any, run.status), run.output, [])

    async def submit(
        self, request: RunRequest, *, key: IdempotencyKey | None = None, who: Principal = ANONYMOUS
    ) -> Run:
        if self.failure:
            raise self.failure
        if key is not None and key.key in self.keys:
            fingerprint, run_id = self.keys[key.key]
            if fingerprint != key.fingerprint:
                raise IdempotencyKeyReusedError("The Idempotency-Key was used before, for another request.")
            return self.store.runs[run_id]
        self.requests.append(request)
        kept = {name: getattr(request, name) for name in ("priority", "max_steps", "metadata", "not_before")}
        run_id = self.started(request.goal, **kept)
        if key is not None:
            self.keys[key.key] = key.fingerprint, run_id
        return self.store.runs[run_id]

    async def get(self, run_id: str, tenant: str = "default") -> Run:
        if self.failure:
            raise self.failure
        if run_id not in self.store.runs:
            raise RunNotFoundError(f"There is no run {run_id}.")
        return self.store.runs[run_id]

    async def page(
        self, status: RunStatus | None, limit: int, cursor: str | None, tenant: str = "default"
    ) -> RunPage:
        runs = [run for run in reversed(self.store.runs.values()) if status in (None, run.status)]
        start = int(cursor or 0)
        more = len(runs) > start + limit
        return RunPage(runs[start : start + limit], str(start + limit) if more else None)

    async def trace(self, run_id: str, after: int, limit: int, tenant: str = "default") -> Trace:
        run = await self.get(run_id)
        steps = [event.step for event in read_all(self.store.stored[run_id]) if isinstance(event, ToolCompleted)]
        page = steps[after : after + limit]
        return Trace(run, page, after + limit if len(steps) > after + limit else None)

    async def events(
        self, run_id: str, after: int, limit: int, tenant: str = "default"
    ) -> tuple[Run, list[StoredEvent]]:
        run = await self.get(run_id)
        if run.pruned_at:
            raise RunPrunedError("gone")
        return run, await self.store.events(RunKey(tenant, run_id), after, limit)

    def follow(self, run_id: str, after: int, tenant: str = "default") -> AsyncGenerator[list[StoredEvent], None]:
        return self.feed.follow(RunKey(tenant, run_id), after)

    async def cancel(self, run_id: str, tenant: str = "default") -> Run:
        run = await self.get(run_id)
        if run.status in FINISHED:
            raise RunEndedError(f"Run {run_id} has ended.")
        if run.status == "queued":
            self.append(run_id, RunFinished("cancelled", "Cancelled."))
        else:
            self.store.runs[run_id] = replace(run, cancel_requested=True)
        return self.store.runs[run_id]

    async def resolve(
        self, run_id: str, step: int, happened: bool, output: dict[str, Any] | None, tenant: str = "default"
    ) -> Run:
        run = await self.get(run_id)
        if run.status != "waiting" or step != run.steps + 1:
            raise RunNotWaitingError(f"Run {run_id} does not wait for step {step}.")
        self.resolved = (run_id, step, happened, output)
        self.store.runs[run_id] = replace(run, status="queued")
        return self.store.runs[run_id]
