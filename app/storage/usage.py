"""What models took: added up with the events that tell of it, and read by day, model or tenant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import astuple
from sqlalchemy import Connection, Select, Text, func, literal_column, select

from ..runs.ports import Unit
from ..runs.usage import By, Used
from .adding import add_rows
from .database import Database
from .tables import run_usage

_COUNTS: Final = tuple(run_usage.c[name] for name in Used.__struct_fields__)
_GROUPS: Final = {"day": run_usage.c.day, "model": run_usage.c.model, "tenant": run_usage.c.tenant}


def book(connection: Connection, units: Sequence[Unit]) -> None:
    """Add what the units' models took to what is written already, in the transaction that writes their events."""
    sums: dict[tuple[str, str, int, str], Used] = {}
    for unit in units:
        for use in unit.usage or ():
            place = (unit.key.tenant, unit.key.run_id, use.day, use.model)
            sums[place] = sums[place] + use.used if place in sums else use.used
    rows: list[tuple[Any, ...]] = [(*place, *astuple(sums[place])) for place in sorted(sums)]
    add_rows(connection, run_usage, rows)


_sums: Final = " || ' ' || ".join(f"CAST(SUM({name}) AS TEXT)" for name in Used.__struct_fields__)

used_by_run: Final = literal_column(
    f"(SELECT {_sums} FROM run_usage WHERE run_usage.tenant = runs.tenant AND run_usage.run_id = runs.id)",  # noqa: S608
    Text,
)
"""SQL: what the models of a run took, for `read_used`. One text, so that its rows are looked up once and not seven
times, and a run that has none costs one look into the index; and written out, since SQLAlchemy walks through an
expression each time it is executed."""


def read_used(sums: str | None) -> Used:
    """Return what `used_by_run` gave."""
    return Used() if sums is None else Used(*map(int, sums.split(" ")))


def select_usage(tenant: str | None, by: By, first_day: int, last_day: int) -> Select[Any]:
    """Select the sums of some days, the first and last included, of a tenant or of all."""
    group = _GROUPS[by]
    statement = select(group, *(func.sum(column) for column in _COUNTS)).group_by(group)
    statement = statement.where(run_usage.c.day >= first_day, run_usage.c.day <= last_day)
    return statement if tenant is None else statement.where(run_usage.c.tenant == tenant)


class SqlUsageStore:
    """A `UsageStore` in SQLite or Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def used(self, tenant: str | None, by: By, first_day: int, last_day: int) -> dict[int | str, Used]:
        statement = select_usage(tenant, by, first_day, last_day)
        rows = await self._database.read(lambda connection: connection.execute(statement).all(), tenant)
        return {row[0]: Used(*map(int, row[1:])) for row in rows}
