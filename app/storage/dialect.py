"""What the two databases say differently: the time, and an insert that may meet a row that is there already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Connection, TableClause
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

if TYPE_CHECKING:
    from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
    from sqlalchemy.dialects.sqlite import Insert as SQLiteInsert


class now_us(FunctionElement[int]):  # noqa: N801 - reads as the SQL function it is
    """SQL: microseconds since 1970 UTC by the database's clock, at the start of this statement."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_us, "sqlite")
def _sqlite_now(_element: now_us, _compiler: Any, **_: Any) -> str:
    # SQLite counts milliseconds; unixepoch('subsec') says the same, but only since 3.42
    return "(CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000)"


@compiles(now_us, "postgresql")
def _postgres_now(_element: now_us, _compiler: Any, **_: Any) -> str:
    # not now(), which stands still in a transaction; nor clock_timestamp(), which moves on within a statement, and
    # with which therefore no index can be searched
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000000 AS BIGINT)"


def insert_into(connection: Connection, table: TableClause) -> PostgresInsert | SQLiteInsert:
    """Return an insert of the connection's dialect, which knows `on_conflict_do_nothing` and `..._do_update`."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as postgres_insert

        return postgres_insert(table)
    from sqlalchemy.dialects.sqlite import insert as sqlite_insert

    return sqlite_insert(table)
