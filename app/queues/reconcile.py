"""The reconcile pass over Postgres: no sequence of deaths and double deliveries leaves a run behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any, Final, NoReturn

from msgspec import Struct
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job as QueuedJob
from procrastinate.jobs import Status
from psycopg import AsyncConnection
from psycopg.errors import RaiseException

from ..patience import Patience
from ..runs.models import Job, RunKey
from ..runs.ports import RunStore
from .link import DEFAULT_PACE, QUEUE, Link, Pace, delivered, link, queued

log = logging.getLogger(__name__)

LOCK: Final = 0x6C6C6D5F72756E73
"""The advisory lock of whoever makes a pass ("llm_runs" in ASCII)."""

GIVE_UP_LOCK: Final = "SET LOCAL idle_in_transaction_session_timeout = '5s'"
"""A process that is suspended in the middle of a pass would hold the lock for as long as it is."""

WAITING: Final = (
    # Procrastinate's `list_jobs` can only give all that wait, as whole objects, and there may be 10,000s of them.
    # This reads the same rows through the same index, and returns those that were asked for.
    "SELECT DISTINCT args->>'tenant', args->>'run_id' FROM procrastinate_jobs"
    " WHERE status = 'todo' AND queue_name = %s AND args->>'run_id' = ANY(%s)"
)

DEAD_FOR: Final = 10
"""How many times as long as a stalled worker one has to be silent before its row goes."""


class Pass(Struct, frozen=True):
    """What a pass did: jobs of dead workers that it ended, and jobs that it gave to runs that had none."""

    stalled: int
    given: int


class Reconciler:
    """Makes whole what the queue has lost. Any number of processes may have one; only one makes a pass at a time.

    A run whose worker has died gets another job at once. A run that is queued gets one if it has none for
    `grace_s`: until then it may have been taken and not be claimed yet. A job too many does no harm, because the
    claim is refused.

    Args:
        at_once: how many runs and jobs are looked at in one pass.
    """

    def __init__(
        self,
        conninfo: str,
        store: RunStore,
        pace: Pace = DEFAULT_PACE,
        *,
        grace_s: float = 3.0,
        at_once: int = 1_000,
    ) -> None:
        self._conninfo = conninfo
        self._store = store
        self._pace = pace
        self._grace_s = grace_s
        self._at_once = at_once
        self._without_since: dict[RunKey, float] = {}

    async def reconcile_forever(self, every_s: float = 2.0) -> NoReturn:
        """Make passes until cancelled, whatever happens to the database."""
        patience = Patience("looking for lost runs")
        while True:
            try:
                async with link(self._conninfo, self._pace, 2) as opened:
                    while True:
                        await self.reconcile_once(opened)
                        patience.succeeded()
                        await asyncio.sleep(every_s)
            except Exception as error:
                await asyncio.sleep(patience.failed(error))

    async def reconcile_once(self, opened: Link) -> Pass | None:
        """Make one pass; None if another process is at it.

        Raises:
            StorageUnavailableError, ConnectorException or psycopg.Error: the database does not answer.
        """
        async with opened.pool.connection() as connection, connection.transaction():
            await connection.execute(GIVE_UP_LOCK)
            cursor = await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (LOCK,))
            if await cursor.fetchone() != (True,):
                self._without_since.clear()
                return None
            done = Pass(await self._end_stalled(opened), await self._give_jobs(opened))
            await opened.manager.prune_stalled_workers(DEAD_FOR * self._pace.stalled_s)
        if done.stalled or done.given:
            log.info(
                "lost runs are delivered again", extra={"fields": {"stalled": done.stalled, "given": done.given}}
            )
        return done

    async def _end_stalled(self, opened: Link) -> int:
        """End the jobs of dead workers, once their runs have others; not one is retried.

        A job that goes back to waiting would keep its number, and a worker that was only suspended would, when it
        wakes, end it under its new holder.
        """
        found = await opened.manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=self._pace.stalled_s)
        rows = list(found)[: self._at_once]
        jobs = {job.key: job for job in map(delivered, rows) if job is not None}
        await self._give(opened, jobs.values())
        for row in rows:
            await _end(opened, row)
        return len(rows)

    async def _give_jobs(self, opened: Link) -> int:
        orphans = await self._store.unclaimed(self._at_once, orphaned_only=True)
        given = await self._give(opened, orphans)
        known = {job.key for job in orphans}
        queued_runs = [job for job in await self._store.unclaimed(self._at_once) if job.key not in known]
        without = await self._without_job(opened, queued_runs)
        now = monotonic()
        since = {job.key: self._without_since.get(job.key, now) for job in without}
        long_enough = [job for job in without if now - since[job.key] >= self._grace_s]
        await _put(opened, long_enough)
        self._without_since = {key: at for key, at in since.items() if now - at < self._grace_s}
        return given + len(long_enough)

    async def _give(self, opened: Link, jobs: Iterable[Job]) -> int:
        without = await self._without_job(opened, list(jobs))
        await _put(opened, without)
        return len(without)

    async def _without_job(self, opened: Link, jobs: Sequence[Job]) -> list[Job]:
        """Return those for whose runs no job waits."""
        if not jobs:
            return []
        async with opened.pool.connection() as connection:
            waiting = await _waiting(connection, [job.key.run_id for job in jobs])
        return [job for job in jobs if (job.key.tenant, job.key.run_id) not in waiting]


async def _waiting(connection: AsyncConnection[Any], run_ids: list[str]) -> set[tuple[str, str]]:
    cursor = await connection.execute(WAITING, (QUEUE, run_ids))
    return {(tenant, run_id) for tenant, run_id in await cursor.fetchall()}


async def _put(opened: Link, jobs: Sequence[Job]) -> None:
    if jobs:
        await opened.manager.batch_defer_jobs_async([queued(job) for job in jobs])


async def _end(opened: Link, row: QueuedJob) -> None:
    try:
        await opened.manager.finish_job(row, Status.FAILED, delete_job=True)
    except ConnectorException as error:
        if not isinstance(error.__cause__, RaiseException):  # else its worker was alive, and has ended it
            raise
