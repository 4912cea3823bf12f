"""The queue over Postgres, on Procrastinate: jobs are rows that any worker takes, written with their runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..errors import MissingExtraError
from ..runs.models import Job
from ..tools.base import Transaction

try:
    from procrastinate import SyncPsycopgConnector
    from procrastinate.exceptions import ConnectorException
    from procrastinate.manager import JobManager

    from .consumer import Consumer
    from .link import DEFAULT_PACE, Pace, link, queued
except ImportError as error:
    raise MissingExtraError("Runs over Postgres need packages of their own: uv sync --extra postgres") from error


class ProcrastinateQueue:
    """A `RunQueue` for any number of processes.

    Args:
        conninfo: the database as libpq takes it; it has Procrastinate's schema.
    """

    def __init__(self, conninfo: str, pace: Pace = DEFAULT_PACE) -> None:
        self._conninfo = conninfo
        self._pace = pace
        # never opened, so without connections of its own: it takes the transaction's
        self._manager = JobManager(SyncPsycopgConnector())

    def put_in(self, transaction: Transaction, job: Job) -> None:
        """Defer a job in the transaction that writes its run; psycopg's errors are raised as they are."""
        connection = transaction.connection.connection.driver_connection
        try:
            self._manager.defer_job(queued(job), connection=connection)
        except ConnectorException as error:
            raise error.__cause__ or error from None

    def wake(self, job: Job) -> None:
        """Do nothing: the commit of what `put_in` wrote tells every worker that listens."""

    async def put(self, job: Job) -> None:
        """Defer a job on its own, for a run that is there already.

        Raises:
            ConnectorException or psycopg.Error: the database does not answer.
        """
        async with link(self._conninfo, self._pace, 1) as opened:
            await opened.manager.defer_job_async(queued(job))

    async def consume(self, execute: Callable[[Job], Awaitable[float | None]], concurrency: int) -> None:
        """Deliver jobs until cancelled; then wait for those under way, and raise the CancelledError.

        It outlives any outage of the database, and tells of each once.
        """
        await Consumer(self._conninfo, self._pace, execute, concurrency).run()
