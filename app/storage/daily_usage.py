"""What counts against the quotas of a day: added up with the events that tell of it, and read before a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from ..auth.charges import TENANT
from ..auth.quotas import DailyUse
from ..runs.ports import Unit
from ..runs.usage import day_of
from .adding import add_rows
from .database import Database
from .tables import daily_usage


def count(connection: Connection, units: Sequence[Unit]) -> None:
    """Add what units took, each of which has subjects, to what these and their tenants have used that day."""
    sums: dict[tuple[str, str, int], list[int]] = {}
    for unit in units:
        for day, steps, tokens in _taken(unit):
            for subject in (*unit.subjects, TENANT):
                sum_ = sums.setdefault((unit.key.tenant, subject, day), [0, 0])
                sum_[0] += steps
                sum_[1] += tokens
    rows: list[tuple[Any, ...]] = [(*place, *sums[place]) for place in sorted(sums)]
    add_rows(connection, daily_usage, rows)


def _taken(unit: Unit) -> list[tuple[int, int, int]]:
    """Return days with the steps and the tokens of a unit on them."""
    taken = [(use.day, 0, use.used.input_tokens + use.used.output_tokens) for use in unit.usage or ()]
    if unit.new_steps and unit.stepped_at is not None:
        taken.append((day_of(unit.stepped_at.date()), unit.new_steps, 0))
    return taken


class SqlDailyUsage:
    """A `DailyUsage` in SQLite or Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def used(self, tenant: str, subjects: Sequence[str], day: int) -> dict[str, DailyUse]:
        columns = daily_usage.c
        statement = select(columns.subject, columns.steps, columns.tokens).where(
            columns.tenant == tenant, columns.subject.in_(subjects), columns.day == day
        )
        rows = await self._database.read(lambda connection: connection.execute(statement).all(), tenant)
        return {row.subject: DailyUse(row.steps, row.tokens) for row in rows}
