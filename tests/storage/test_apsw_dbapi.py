"""The driver behind SQLAlchemy: what it does has to be what `sqlite3` does, where the package relies on it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.storage import apsw_dbapi

Module = Any


@pytest.fixture(params=[apsw_dbapi, sqlite3], ids=["apsw", "sqlite3"])
def module(request: pytest.FixtureRequest) -> Module:
    """The module that is promised to behave so, and the one it stands in for."""
    return request.param


def opened(module: Module, path: Path, mode: str = "rwc") -> Any:
    return module.connect(
        f"file:{path}?mode={mode}",
        uri=True,
        timeout=0.01,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=16,
    )


@pytest.fixture
def connection(module: Module, tmp_path: Path) -> Iterator[Any]:
    connection = opened(module, tmp_path / "x.db")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)").close()
    yield connection
    connection.close()


def rows_of(connection: Any, sql: str, *parameters: object) -> list[Any]:
    cursor = connection.execute(sql, parameters)
    rows: list[Any] = cursor.fetchall()
    cursor.close()
    return rows


def test_what_was_written_is_read(connection: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("INSERT INTO t VALUES (?, ?), (?, ?)", (1, "one", 2, None))
    assert (cursor.rowcount, cursor.description) == (2, None)
    cursor.executemany("INSERT INTO t VALUES (?, ?)", [(3, "ü"), (4, "x")])
    assert cursor.rowcount == 2
    cursor.execute("SELECT id, body FROM t ORDER BY id")
    assert [column[0] for column in cursor.description] == ["id", "body"]
    assert cursor.fetchone() == (1, "one")
    assert cursor.fetchmany(2) == [(2, None), (3, "ü")]
    assert cursor.fetchall() == [(4, "x")]
    assert cursor.fetchone() is None
    cursor.close()


def test_what_finds_nothing_has_columns_too(connection: Any) -> None:
    cursor = connection.execute("SELECT id FROM t")
    assert [column[0] for column in cursor.description] == ["id"]
    assert (cursor.rowcount, cursor.fetchone()) == (-1, None)
    cursor.close()


def test_what_changes_and_returns_rows_is_done_at_once(connection: Any) -> None:
    cursor = connection.execute("INSERT INTO t VALUES (7, 'a'), (8, 'b') RETURNING id")
    assert cursor.fetchone() == (7,)
    cursor.close()
    assert rows_of(connection, "SELECT count(*) FROM t") == [(2,)]


def test_a_transaction_is_what_was_begun(connection: Any) -> None:
    for end, kept in ((connection.rollback, 0), (connection.commit, 1)):
        connection.execute("BEGIN").close()
        connection.execute("INSERT INTO t VALUES (1, 'x')").close()
        assert connection.in_transaction
        end()
        assert not connection.in_transaction
        assert rows_of(connection, "SELECT count(*) FROM t") == [(kept,)]
    connection.commit()  # there is none; that is fine
    connection.rollback()


def test_bytes_numbers_and_texts_come_back_as_they_were(connection: Any) -> None:
    values = (b"\0\xff", 2**63 - 1, -(2**63), 1.5, None, "a\0b", "\U0001f389")
    assert rows_of(connection, "SELECT ?, ?, ?, ?, ?, ?, ?", *values) == [values]
    with pytest.raises(OverflowError):
        connection.execute("SELECT ?", (2**63,))


def failure(module: Module, act: Any) -> tuple[str, int]:
    with pytest.raises(module.Error) as raised:
        act()
    return type(raised.value).__name__, getattr(raised.value, "sqlite_errorcode", 0)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("INSERT INTO t VALUES (1, 'again')", ("IntegrityError", 1555)),  # SQLITE_CONSTRAINT_PRIMARYKEY
        ("INSERT INTO t SELECT 2, RAISE(ABORT, 'no')", ("OperationalError", 1)),
        ("SELEC 1", ("OperationalError", 1)),
        ("SELECT * FROM nothing", ("OperationalError", 1)),
    ],
)
def test_a_refusal_has_the_class_and_the_code_of_sqlite(
    module: Module, connection: Any, sql: str, expected: tuple[str, int]
) -> None:
    connection.execute("INSERT INTO t VALUES (1, 'x')").close()
    assert failure(module, lambda: connection.execute(sql)) == expected


def test_a_lock_that_is_held_is_busy(module: Module, connection: Any, tmp_path: Path) -> None:
    other = opened(module, tmp_path / "x.db")
    connection.execute("BEGIN IMMEDIATE").close()
    assert failure(module, lambda: other.execute("BEGIN IMMEDIATE")) == ("OperationalError", 5)
    connection.rollback()
    other.close()


def test_who_may_only_read_cannot_write(module: Module, connection: Any, tmp_path: Path) -> None:
    reader = opened(module, tmp_path / "x.db", "ro")
    assert failure(module, lambda: reader.execute("INSERT INTO t VALUES (1, 'x')")) == ("OperationalError", 8)
    reader.close()


def test_a_file_that_is_not_there_or_no_database_is_refused(module: Module, tmp_path: Path) -> None:
    assert failure(module, lambda: opened(module, tmp_path / "none.db", "rw")) == ("OperationalError", 14)
    (tmp_path / "text.db").write_text("nothing of the kind" * 100)
    other = opened(module, tmp_path / "text.db")
    assert failure(module, lambda: other.execute("SELECT * FROM sqlite_master")) == ("DatabaseError", 26)
    other.close()


def test_a_text_that_is_no_utf_8_is_an_error_of_the_database(module: Module, connection: Any) -> None:
    connection.execute("INSERT INTO t VALUES (1, CAST(x'ff' AS TEXT))").close()
    with pytest.raises(module.DatabaseError, match="UTF-8"):
        rows_of(connection, "SELECT body FROM t")


def test_a_closed_connection_says_so(module: Module, connection: Any) -> None:
    connection.close()
    with pytest.raises(module.ProgrammingError, match="Cannot operate on a closed database"):
        connection.execute("SELECT 1")


def test_a_wrong_number_of_values_is_a_mistake_of_the_programmer(module: Module, connection: Any) -> None:
    with pytest.raises(module.ProgrammingError):
        connection.execute("SELECT ?, ?", (1,))


def test_functions_can_be_added(connection: Any) -> None:
    connection.create_function("twice", 1, lambda number: number * 2, deterministic=True)
    assert rows_of(connection, "SELECT twice(21)") == [(42,)]
