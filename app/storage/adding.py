"""Rows that add up: what is written to a place where something stands already is added to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table, bindparam

from .statements import write_rows


def add_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write whole rows, each to a place of its own; all columns besides the primary key are sums.

    `rows` are sorted: processes that lock the same rows then lock them in one order.
    """
    write_rows(connection, _adding(connection.dialect.name, table), rows)


@lru_cache(maxsize=16)
def _adding(dialect: str, table: Table) -> Callable[[int], Any]:
    # remembered, since texts of statements are kept prepared by what makes them
    def statement(size: int) -> Any:
        names = [column.name for column in table.c]
        rows: list[dict[str, Any]] = [{name: bindparam(f"{name}_{row}") for name in names} for row in range(size)]
        new = _insert(dialect, table).values(rows)
        sums = {column.name: column + new.excluded[column.name] for column in table.c if not column.primary_key}
        return new.on_conflict_do_update(index_elements=list(table.primary_key), set_=sums)

    return statement


def _insert(dialect: str, table: Table) -> Any:
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as postgres_insert

        return postgres_insert(table)
    from sqlalchemy.dialects.sqlite import insert as sqlite_insert

    return sqlite_insert(table)
