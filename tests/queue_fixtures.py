"""What tests of the queues share: databases with Procrastinate's tables, transactions, and what executes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any

import psycopg
from msgspec import Struct
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import NullPool

from app.queues.link import Pace
from app.runs.models import Job, RunKey
from app.runs.ports import RunQueue

FAST = Pace(heartbeat_s=0.1, stalled_s=1.0, poll_s=0.05, retry_s=0.1, wait_s=10.0)
"""For tests whose promise is not about these numbers."""


class Written(Struct, frozen=True):
    """The transaction that a run is written in."""

    connection: Connection
    tenant: str = "default"
    run_id: str = "r"
    step: int = 0


@contextmanager
def transaction(url: str) -> Iterator[Written]:
    engine = create_engine("postgresql+psycopg://", poolclass=NullPool)
    event.listen(
        engine, "do_connect", lambda _dialect, _record, args, _kwargs: args.__setitem__(slice(None), [url])
    )
    with engine.begin() as connection:
        yield Written(connection)
    engine.dispose()


def defer(url: str, queue: RunQueue, *jobs: Job) -> None:
    with transaction(url) as opened:
        for job in jobs:
            queue.put_in(opened, job)


def job(run_id: str, priority: int = 0, not_before: datetime | None = None, tenant: str = "default") -> Job:
    return Job(RunKey(tenant, run_id), priority, not_before)


def rows(
    url: str, query: str = "SELECT id, args->>'run_id', status::text FROM procrastinate_jobs ORDER BY id"
) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


async def until(condition: Callable[[], object], within_s: float = 30.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - it may be so in another process
            await asyncio.sleep(0.005)


class Deliveries:
    """An `execute` that writes down what it is given, and can be told to hold on to it, or what to answer."""

    def __init__(self, *answers: float | BaseException | None) -> None:
        self.jobs: list[Job] = []
        self.answers = list(answers)
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.under_way = 0
        self.most_under_way = 0
        self.ended = 0

    @property
    def ids(self) -> list[str]:
        return [job.key.run_id for job in self.jobs]

    async def __call__(self, job: Job) -> float | None:
        self.jobs.append(job)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.may_end.wait()
        finally:
            self.under_way -= 1
        self.ended += 1
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Consumption:
    """A `consume` in the background."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
        self._was_stopped = False

    def stop(self) -> None:
        """Cancel it, but never twice: the second time it would not wait for what is under way."""
        if not self._was_stopped:
            self._was_stopped = True
            self.task.cancel()


@asynccontextmanager
async def consuming(queue: RunQueue, execute: Any, concurrency: int = 1) -> AsyncIterator[Consumption]:
    """Consume in the background; in the end stop, and wait until that is done."""
    consumption = Consumption(asyncio.create_task(queue.consume(execute, concurrency)))
    try:
        yield consumption
    finally:
        consumption.stop()
        async with asyncio.timeout(30):
            await asyncio.wait([consumption.task])


class Unclaimed:
    """The one thing of a run store that a reconcile needs, as a test wants it to be."""

    def __init__(self, queued: Sequence[Job] = (), orphaned: Sequence[Job] = ()) -> None:
        self.queued = list(queued)
        self.orphaned = list(orphaned)
        self.error: Exception | None = None
        self.asked = 0

    async def unclaimed(self, limit: int, *, orphaned_only: bool = False) -> list[Job]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return (self.orphaned if orphaned_only else [*self.orphaned, *self.queued])[:limit]
