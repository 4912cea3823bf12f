"""What the two databases say differently: the time, a stored text, an insert that may meet a row that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Connection, TableClause
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

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


class stored_text(FunctionElement[Any]):  # noqa: N801 - as above
    """SQL: a text to be read with `read_text`, since what is stored may have been damaged and be no text now."""

    type = NullType()
    inherit_cache = True


@compiles(stored_text, "sqlite")
def _sqlite_stored_text(element: stored_text, compiler: Any, **options: Any) -> str:
    text = compiler.process(element.clauses, **options)
    return f"CASE typeof({text}) WHEN 'text' THEN CAST({text} AS BLOB) END"


@compiles(stored_text, "postgresql")
def _postgres_stored_text(element: stored_text, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clauses, **options))


def read_text(stored: Any) -> str:
    """Return a text that was selected as `stored_text`; bytes that are no UTF-8 are lone surrogates in it.

    It is None, whatever the type says, if something else stands in its place.
    """
    text: str = stored.decode("utf-8", "surrogateescape") if type(stored) is bytes else stored
    return text


def insert_into(connection: Connection, table: TableClause) -> PostgresInsert | SQLiteInsert:
    """Return an insert of the connection's dialect, which knows `on_conflict_do_nothing` and `..._do_update`."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as postgres_insert

        return postgres_insert(table)
    from sqlalchemy.dialects.sqlite import insert as sqlite_insert

    return sqlite_insert(table)
