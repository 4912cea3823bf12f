"""What everything over Postgres shares: the way to Procrastinate, and how a job looks there."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from msgspec import Struct
from procrastinate import PsycopgConnector
from procrastinate.jobs import Job as QueuedJob
from procrastinate.manager import JobManager
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from ..runs.models import Job, RunKey

# it tells of every connection that is asked for and, in an outage, of every attempt
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)

QUEUE: Final = "runs"
TASK: Final = "execute_run"
"""What the jobs are called; their arguments are `tenant` and `run_id`. All versions of this program share that."""

CONNECT: Final[dict[str, str]] = {
    "application_name": "llm-agent-core queue",
    "connect_timeout": "5",
    # a server that is gone without a word is noticed
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


class Pace(Struct, frozen=True):
    """How often things are done, in seconds.

    Args:
        heartbeat_s: a worker says that it is alive.
        stalled_s: after that long without it is taken for dead.
        poll_s: idle workers look for jobs whose time has come; of new ones they are told at once.
        retry_s: a job is delivered again whose `execute` raised.
        wait_s: a connection is waited for.
    """

    heartbeat_s: float = 2.0
    stalled_s: float = 6.0
    poll_s: float = 1.0
    retry_s: float = 5.0
    wait_s: float = 5.0


DEFAULT_PACE: Final = Pace()


class Link(Struct, frozen=True):
    """An open way to the database: connections, and what Procrastinate does over them."""

    pool: AsyncConnectionPool[AsyncConnection[Any]]
    manager: JobManager


def queued(job: Job) -> QueuedJob:
    """Return a job as Procrastinate takes it.

    It has neither of Procrastinate's locks. `queueing_lock` guards only what waits, so a second job of a running
    run makes `retry_job` fail for ever once its worker is dead, and `lock` blocks the one behind it. What keeps a
    run from being carried out twice is the claim.
    """
    return QueuedJob(
        queue=QUEUE,
        task_name=TASK,
        task_kwargs={"tenant": job.key.tenant, "run_id": job.key.run_id},
        priority=job.priority,
        scheduled_at=job.not_before,
        lock=None,
        queueing_lock=None,
    )


def delivered(row: QueuedJob) -> Job | None:
    """Return the job that Procrastinate holds, or None if it is none of ours."""
    tenant, run_id = row.task_kwargs.get("tenant"), row.task_kwargs.get("run_id")
    if row.task_name != TASK or not isinstance(tenant, str) or not isinstance(run_id, str):
        return None
    return Job(RunKey(tenant, run_id), row.priority, row.scheduled_at)


@asynccontextmanager
async def link(conninfo: str, pace: Pace, size: int) -> AsyncIterator[Link]:
    """Open a link with at most `size` connections.

    A broken connection fails whatever uses it: whoever has the link gives it up then and opens another, so that
    nothing goes on after an outage as if there had been none.

    Raises:
        psycopg.Error: the database does not answer.
    """
    conninfo = make_conninfo("", **{**CONNECT, **conninfo_to_dict(conninfo)})
    # the pool would only say that it has timed out; this says why
    probe = await AsyncConnection.connect(conninfo)
    await probe.close()
    pool: AsyncConnectionPool[AsyncConnection[Any]] = AsyncConnectionPool(
        conninfo,
        min_size=1,
        max_size=size,
        configure=_configure,
        timeout=pace.wait_s,
        reconnect_timeout=pace.wait_s,
        open=False,
    )
    connector = PsycopgConnector()
    async with pool:
        await connector.open_async(pool)
        yield Link(pool, JobManager(connector))


async def _configure(connection: AsyncConnection[Any]) -> None:
    """Save each statement a BEGIN, a COMMIT and the wait for the disk.

    What workers write here is how far the delivery of jobs has got. If a crash of the server undoes the last
    moments of that, they are undone in order, so jobs are delivered again, which is harmless; none is lost. Jobs
    that come with their runs are not written here but in the runs' own transactions.
    """
    await connection.set_autocommit(True)
    await connection.execute("SET synchronous_commit TO off; SET statement_timeout TO '10s'")
