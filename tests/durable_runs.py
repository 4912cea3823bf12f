"""One process's worth of durable runs, wired by hand over a database, and what tests look at in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

from sqlalchemy import func, select, update

from app.agent.core import Agent
from app.agent.events import Event, ToolCompleted
from app.queues.in_process import InProcessQueue
from app.runs.chain import GENESIS, link
from app.runs.codec import read_all
from app.runs.executor import Executor
from app.runs.feed import EventFeed
from app.runs.models import FinishedRun, Job, NewRun, Run, RunKey, RunRequest, StoredEvent
from app.runs.ports import UnitWriter
from app.runs.service import RunService
from app.runs.voices import Voices
from app.storage.database import Database
from app.storage.runs import SqlRunStore
from app.storage.tables import events as events_table
from app.storage.tables import runs as runs_table
from app.storage.writer import GroupWriter

TENANT = "default"


class House(AbstractAsyncContextManager["House"]):
    """A process: it holds nothing back when it is left, and leaves nothing when it is killed.

    With `consumes` it takes runs from its queue; else a test delivers them with `executor.execute`.
    """

    def __init__(
        self,
        database: Database,
        agent: Agent,
        *,
        owner: str = "me",
        consumes: bool = False,
        executes: bool = True,
        concurrency: int = 64,
        tenant_limit: int = 0,
        wait_s: float = 10.0,
        patience_s: float = 5.0,
        writer: Callable[[GroupWriter], UnitWriter] | None = None,
    ) -> None:
        self.database = database
        self.agent = agent
        self.finished: list[FinishedRun] = []
        self.queue = InProcessQueue()
        self.store = SqlRunStore(database, self.queue)
        self.voices = Voices()
        self.feed = EventFeed(self.store, voices=self.voices)
        self.writer = GroupWriter(database, self.feed, patience_s=patience_s)
        self.executor = Executor(
            agent,
            self.store,
            self.writer if writer is None else writer(self.writer),
            owner,
            concurrency=concurrency,
            tenant_limit=tenant_limit,
            on_finished=lambda run, _seconds: self.finished.append(run),
            voices=self.voices,
        )
        self.service = RunService(
            agent, self.store, self.queue, self.executor, self.feed, executes=executes, wait_s=wait_s
        )
        self._consumes = consumes
        self._concurrency = concurrency
        self._consumer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.writer.start()
        self.database.attach(self.writer)
        if self._consumes:
            self._consumer = asyncio.create_task(self.queue.consume(self.executor.execute, self._concurrency))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.executor.stop(1.0)
        if self._consumer is not None:
            self._consumer.cancel()
            await asyncio.wait([self._consumer])
        await self.writer.stop()
        self.database.writer = None

    async def submit(self, goal: str = "go", **request: Any) -> RunKey:
        run = await self.service.submit(RunRequest(goal, **request))
        return RunKey(run.tenant, run.run_id)

    async def execute(self, key: RunKey) -> float | None:
        return await self.executor.execute(Job(key))

    async def run(self, key: RunKey) -> Run:
        found = await self.store.get(key)
        assert found is not None
        return found

    async def stored(self, key: RunKey) -> list[StoredEvent]:
        return await self.store.events(key, 0, 10_000, 1 << 30)

    async def events(self, key: RunKey) -> list[Event]:
        """Return the run's events, which are bound to each other and agree with its row."""
        stored = await self.stored(key)
        head = GENESIS
        for number, event in enumerate(stored, 1):
            assert (event.seq, event.prev_hash, event.hash) == (number, head, link(head, event.body.encode()))
            head = event.hash
        run = await self.run(key)
        found = read_all(stored)
        steps = sum(isinstance(event, ToolCompleted) for event in found)
        assert (run.events, run.head_hash, run.steps) == (len(stored), head, steps)
        return found

    def value(self, key: RunKey, column: str) -> Any:
        """Return what stands in a column of the run's row."""
        return self.database.read_now(
            lambda connection: connection.execute(
                select(runs_table.c[column]).where(
                    runs_table.c.tenant == key.tenant, runs_table.c.id == key.run_id
                )
            ).scalar()
        )

    async def crashed(
        self, key: RunKey, stored: Sequence[StoredEvent], tenant: str, *, owner: str = "dead", **values: Any
    ) -> RunKey:
        """Write a run that a process has left behind with these events, and return its key."""
        copy = RunKey(tenant, key.run_id)
        await self.store.create(NewRun(copy, owner=owner), stored, None, None)
        values["steps"] = sum(isinstance(event, ToolCompleted) for event in read_all(stored))
        self.change(copy, **values)
        return copy

    def change(self, key: RunKey, **values: Any) -> None:
        """Change the run's row."""
        statement = (
            update(runs_table)
            .where(runs_table.c.tenant == key.tenant, runs_table.c.id == key.run_id)
            .values(**values)
        )
        with self.database.write_engine.begin() as connection:
            connection.execute(statement)

    def count(self) -> int:
        """Return how many runs there are."""
        return self.database.read_now(
            lambda connection: connection.execute(select(func.count()).select_from(runs_table)).scalar_one()
        )


def event_count(database: Database) -> int:
    return database.read_now(
        lambda connection: connection.execute(select(func.count()).select_from(events_table)).scalar_one()
    )


async def until(condition: Callable[[], Any], within_s: float = 5.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - whatever it is, and whoever makes it so
            await asyncio.sleep(0.002)


def nothing_is_held(*houses: House) -> bool:
    """Say whether these processes have let go of every run."""
    return all(not house.executor._taken and not house.executor.driver.held for house in houses)


def of(kind: type | tuple[type, ...], events: Iterable[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]
