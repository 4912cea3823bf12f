"""The backlog in SQLite or Postgres: the unfinished runs, counted in the index that holds nothing else."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Select, func, select

from ..runs.backlog import Backlog
from .database import Database
from .dialect import now_us
from .tables import runs

_age: Final = (now_us() - func.min(runs.c.due_at)).label("age_us")


def select_backlog() -> Select[Any]:
    """Select how many runs of each status could be carried out by now, and for how long the oldest could."""
    return (
        select(runs.c.status, func.count().label("runs"), _age)
        .where(
            runs.c.finished_at.is_(None),
            runs.c.status.in_(("queued", "running", "waiting")),
            runs.c.due_at <= now_us(),
        )
        .group_by(runs.c.status)
    )


class SqlBacklog:
    """A `BacklogSource`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> Backlog:
        return await self._database.read(_read)


def _read(connection: Connection) -> Backlog:
    rows = {row.status: row for row in connection.execute(select_backlog())}
    counts = {status: int(row.runs) for status, row in rows.items()}
    age_us = int(rows["queued"].age_us) if "queued" in rows else 0
    return Backlog(**counts, oldest_queued_s=max(age_us, 0) / 1e6)
