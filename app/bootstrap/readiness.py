"""Readiness: whether this process can do its work now, as far as looking costs nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from ..errors import AgentCoreError
from ..runs.glance import Glance
from ..storage.database import Database
from ..storage.schema import HEAD_REVISION, stored_revision

log = logging.getLogger(__name__)

SENTENCES: Final = {
    "stopping": "The process has been told to stop.",
    "process": "A part of the process has died; it has to be started again.",
    "database": "The database does not answer.",
    "migrations": "The tables are older than the program, or there are none.",
}


class Readiness:
    """Looks at what the process depends on; satisfies `Checks` of the API. Models are not asked.

    Args:
        database: is to answer within a second, and is asked at most once a second. Newer tables than the program's
            are no reason to send requests elsewhere: while processes are replaced, there would be nowhere.
        stopping: is set once the process has been told to end.
        is_whole: says whether all parts of the process are at work: its consumer of the queue, its writer.
    """

    def __init__(self, database: Database, stopping: asyncio.Event, is_whole: Callable[[], bool]) -> None:
        self._revision = Glance(lambda: database.read(stored_revision))
        self._stopping = stopping
        self._is_whole = is_whole

    async def failing(self) -> Mapping[str, str]:
        """Return what is not as it should be, each with a sentence that says nothing of the inside."""
        failing = []
        if self._stopping.is_set():
            failing.append("stopping")
        if not self._is_whole():
            failing.append("process")
        about_database = await self._database()
        if about_database is not None:
            failing.append(about_database)
        return {name: SENTENCES[name] for name in failing}

    async def _database(self) -> str | None:
        try:
            revision = await self._revision.look()
        except (AgentCoreError, TimeoutError) as error:
            log.warning("not ready: %s", str(error) or "the database has not answered within a second")
            return "database"
        return "migrations" if revision is None or revision < HEAD_REVISION else None
