"""A worker's share of the queue over Postgres: it takes jobs, has them carried out, and outlives outages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import Any, Final

from msgspec.structs import replace
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job as QueuedJob
from procrastinate.jobs import Status
from procrastinate.manager import JobManager
from psycopg import Error
from psycopg.errors import RaiseException

from ..errors import StorageError
from ..patience import Patience
from ..runs.models import Job
from .link import QUEUE, Link, Pace, delivered, link, queued

log = logging.getLogger(__name__)

CONNECTIONS: Final = 4


class Consumer:
    """Takes jobs while it has a session: a link to the database, and a worker registered in it that beats.

    Procrastinate's `Worker` is not used, its `JobManager` is. The worker of 3.10 does not notice the end of its
    heartbeat or listener if it has no periodic tasks (its issue 1597), and then all it does is taken for stalled;
    after an outage it takes no job until the last one under way has ended, which may be hours; and while it stops
    gracefully it does not beat. Here a session that fails is replaced by another, and the jobs under way go on.
    """

    def __init__(
        self, conninfo: str, pace: Pace, execute: Callable[[Job], Awaitable[float | None]], concurrency: int
    ) -> None:
        self._conninfo = conninfo
        self._pace = pace
        self._execute = execute
        self._free = concurrency
        self._link: Link | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()  # a job may be there, one has ended, or it is time to stop
        self._stop = asyncio.Event()
        self._patience = Patience("taking runs from the queue")

    async def run(self) -> None:
        """Take jobs until cancelled; then wait for those under way, and raise the CancelledError.

        Cancelled a second time, it waits no more; the jobs whose end it did not see come again.
        """
        serving = asyncio.create_task(self._serve())
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self._stop.set()
            self._news.set()
            await serving
            raise

    async def _serve(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    async with link(self._conninfo, self._pace, CONNECTIONS) as opened:
                        await self._session(opened)
                except Exception as error:  # whatever it is: a worker that gives up is worse than one that tries
                    await _wait(self._stop, self._patience.failed(error))
            await self._drain()
        finally:
            self._stop.set()  # also when the whole event loop is being ended: nobody waits for another session

    async def _session(self, opened: Link) -> None:
        worker_id = await opened.manager.register_worker()
        self._link = opened
        try:
            await _until_first_ends(
                self._take(opened.manager, worker_id),
                self._beat(opened.manager, worker_id),
                opened.manager.listen_for_jobs(on_notification=self._notice, queues=[QUEUE]),
            )
        finally:
            self._link = None
        if not self._stop.is_set():
            raise ConnectionError("listening for jobs has ended by itself")
        await opened.manager.unregister_worker(worker_id)

    async def _take(self, manager: JobManager, worker_id: int) -> None:
        """Take jobs while there is room for them; when it is time to stop, wait for the last to end."""
        while not self._stop.is_set():
            self._news.clear()
            if not self._free:
                await self._news.wait()
                continue
            row = await manager.fetch_job([QUEUE], worker_id)
            self._patience.succeeded()
            if row is None:
                await _wait(self._news, self._pace.poll_s)
            elif self._stop.is_set():
                self._begin(self._settle(row, 0.0))
            else:
                self._free -= 1
                self._begin(self._carry_out(row))
        await self._drain()

    async def _beat(self, manager: JobManager, worker_id: int) -> None:
        while True:
            await asyncio.sleep(self._pace.heartbeat_s)
            await manager.update_heartbeat(worker_id)

    async def _notice(self, *, channel: str, notification: object) -> None:  # noqa: ARG002 - as it is called
        self._news.set()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _drain(self) -> None:
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _carry_out(self, row: QueuedJob) -> None:
        job = delivered(row)
        seconds: float | None = None
        try:
            if job is None:
                log.error("a job in the queue %s is none of ours and is dropped: %s", QUEUE, row.call_string)
            else:
                seconds = await self._execute(job)
        except StorageError as error:
            log.warning("run %s waits: %s", row.task_kwargs.get("run_id"), error)
            seconds = self._pace.retry_s
        except Exception:
            log.exception("run %s could not be carried out and is delivered again", row.task_kwargs.get("run_id"))
            seconds = self._pace.retry_s
        except asyncio.CancelledError:
            seconds = self._pace.retry_s  # broken off, by whoever stops runs; it is not known how far it got
        finally:
            self._free += 1
            self._news.set()
        await self._settle(row, seconds)

    async def _settle(self, row: QueuedJob, seconds: float | None) -> None:
        """Put a job back for later if it has to come again, and be done with the one that was taken.

        It comes again as another row. The same one would be finished under whoever has it then, by a reconcile
        pass that has just found it stalled, or by a worker that is not as dead as it was taken for.
        """
        while True:
            opened = self._link
            try:
                if opened is not None:
                    if seconds is not None:
                        await _put_back(opened, row, seconds)
                        seconds = None
                    await opened.manager.finish_job(row, Status.SUCCEEDED, delete_job=True)
                    return
            except (ConnectorException, Error) as error:
                if isinstance(error.__cause__, RaiseException):
                    return  # it is there no more: we were taken for dead, and it was delivered elsewhere
            if self._stop.is_set():
                return  # the job is found to be stalled, and comes again
            await _wait(self._stop, 0.5)


async def _put_back(opened: Link, row: QueuedJob, seconds: float) -> None:
    job = delivered(row)
    if job is not None:
        at = await _from_now(opened, seconds) if seconds > 0 else None
        await opened.manager.defer_job_async(queued(replace(job, not_before=at)))


async def _from_now(opened: Link, seconds: float) -> datetime:
    """Return the moment some seconds ahead by the database's clock, which is the one that delivers it."""
    async with opened.pool.connection() as connection:
        cursor = await connection.execute("SELECT now() + make_interval(secs => %s)", (seconds,))
        row = await cursor.fetchone()
    assert row is not None
    at: datetime = row[0]
    return at


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


async def _until_first_ends(*work: Coroutine[Any, Any, None]) -> None:
    """Run all of it until one of them ends; end the others, and raise what one of them raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        pending = set(tasks)
        while pending:
            for task in pending:
                task.cancel()
            # again and again: what waits with a timeout inside can swallow a cancellation (Python 3.11's wait_for)
            _, pending = await asyncio.wait(pending, timeout=1)
        errors = [error for task in tasks if not task.cancelled() and (error := task.exception())]
    if errors:
        raise errors[0]
