"""apsw, which brings a current SQLite in its wheel, as the PEP 249 module that SQLAlchemy takes for a driver.

Only what SQLAlchemy's `pysqlite` dialect and this package use is here. Nothing is begun or committed by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import apsw

apilevel: Final = "2.0"
threadsafety: Final = 1
paramstyle: Final = "qmark"
Binary: Final = bytes

sqlite_version: Final = apsw.sqlite_lib_version()
sqlite_version_info: Final = tuple(int(part) for part in sqlite_version.split("."))

_OPEN: Final = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
"""The URI's mode says how much of it is meant."""

Row = tuple[Any, ...]


class Warning(Exception):  # noqa: A001, N818 - PEP 249 names it
    """Never raised."""


class Error(Exception):
    """What SQLite or apsw refuses. `sqlite_errorcode` is SQLite's extended result code, 0 if it is apsw's own."""

    sqlite_errorcode: int = 0


class InterfaceError(Error):
    """Never raised."""


class DatabaseError(Error):
    """SQLite refuses, for a reason that has no class of its own: the file is damaged, or none of its own."""


class DataError(DatabaseError):
    """A value is too large."""


class OperationalError(DatabaseError):
    """The database does not do it just now, or not at all: it is locked, full, gone, or the SQL is wrong."""


class IntegrityError(DatabaseError):
    """A constraint or a trigger says no."""


class InternalError(DatabaseError):
    """Never raised."""


class ProgrammingError(DatabaseError):
    """The connection is closed, or is used wrongly."""


class NotSupportedError(DatabaseError):
    """Never raised."""


# https://sqlite.org/rescode.html: the lower byte is the kind
_ERRORS: Final[dict[int, type[Error]]] = {
    apsw.SQLITE_CONSTRAINT: IntegrityError,
    apsw.SQLITE_MISMATCH: IntegrityError,
    apsw.SQLITE_TOOBIG: DataError,
    apsw.SQLITE_CORRUPT: DatabaseError,
    apsw.SQLITE_NOTADB: DatabaseError,
    apsw.SQLITE_FORMAT: DatabaseError,
    apsw.SQLITE_MISUSE: ProgrammingError,
    apsw.SQLITE_RANGE: ProgrammingError,
}


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except apsw.ConnectionClosedError as error:
        raise ProgrammingError("Cannot operate on a closed database.") from error
    except apsw.Error as error:
        raise _translation(error) from error
    except UnicodeDecodeError as error:
        raise DatabaseError(f"A text in the database is not UTF-8: {error.reason}.") from error


def _translation(error: apsw.Error) -> Error:
    code = getattr(error, "extendedresult", 0)
    kind = _ERRORS.get(code & 0xFF, OperationalError) if code else ProgrammingError
    translated = kind(str(error))
    translated.sqlite_errorcode = code
    return translated


class Cursor:
    """A cursor. `rowcount` is how many rows a statement without a result has changed, else -1."""

    arraysize = 1
    lastrowid: int | None = None

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        # once a statement is through, as one that finds nothing is at once, it is too late to ask for its columns
        self._cursor.exec_trace = self._describe
        self.description: Sequence[Row] | None = None
        self.rowcount = -1

    def _describe(self, cursor: apsw.Cursor, _sql: str, _bindings: object) -> bool:
        columns = cursor.get_description()
        self.description = [(name, None, None, None, None, None, None) for name, _ in columns] or None
        return True

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        # not with _translated: this is done for every statement of the journal
        try:
            self._cursor.execute(sql, parameters or None)
        except apsw.ConnectionClosedError as error:
            raise ProgrammingError("Cannot operate on a closed database.") from error
        except apsw.Error as error:
            raise _translation(error) from error
        self.rowcount = self._connection.changes() if self.description is None else -1
        return self

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> Cursor:
        before = self._connection.total_changes()
        with _translated():
            self._cursor.executemany(sql, rows)
        self.rowcount = self._connection.total_changes() - before
        return self

    def fetchone(self) -> Row | None:
        with _translated():
            row: Row | None = self._cursor.fetchone()
            return row

    def fetchmany(self, size: int | None = None) -> list[Row]:
        rows: list[Row] = []
        for _ in range(size or self.arraysize):
            row = self.fetchone()
            if row is None:
                break
            rows.append(row)
        return rows

    def fetchall(self) -> list[Row]:
        with _translated():
            rows: list[Row] = self._cursor.fetchall()
            return rows

    def close(self) -> None:
        self._cursor.close(True)


class Connection:
    """A connection in autocommit: a transaction is what stands between a BEGIN of the user's and its end.

    `apsw` is the connection behind it, which can do more.
    """

    isolation_level = None

    def __init__(self, connection: apsw.Connection) -> None:
        self.apsw = connection

    @property
    def in_transaction(self) -> bool:
        return self.apsw.in_transaction

    def cursor(self) -> Cursor:
        with _translated():
            return Cursor(self.apsw)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        return self.cursor().execute(sql, parameters)

    def create_function(
        self, name: str, narg: int, func: Callable[..., Any], *, deterministic: bool = False
    ) -> None:
        self.apsw.create_scalar_function(name, func, narg, deterministic=deterministic)

    def commit(self) -> None:
        self._end("COMMIT")

    def rollback(self) -> None:
        self._end("ROLLBACK")

    def _end(self, how: str) -> None:
        with _translated():
            if self.apsw.in_transaction:
                self.apsw.execute(how)

    def close(self) -> None:
        self.apsw.close()


def connect(
    database: str,
    *,
    uri: bool,
    timeout: float,
    isolation_level: None,
    check_same_thread: bool,
    cached_statements: int,
) -> Connection:
    """Open a database as `sqlite3.connect` does with these arguments; `database` is a URI, `timeout` in seconds.

    Raises:
        OperationalError: it cannot be opened.
    """
    assert uri
    assert isolation_level is None
    assert not check_same_thread
    with _translated():
        connection = apsw.Connection(database, _OPEN, statementcachesize=cached_statements)
        connection.set_busy_timeout(round(timeout * 1000))
        return Connection(connection)
