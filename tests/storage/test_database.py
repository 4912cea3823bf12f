"""The database, whichever it is: reading, writing, and what an error means."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from stored_runs import add, names

from app.errors import StorageUnavailableError
from app.storage import apsw_dbapi
from app.storage.database import Database
from app.storage.failures import trouble_of
from app.storage.tables import workers


async def test_what_is_written_is_there_to_be_read(database: Database) -> None:
    assert await database.transact(add) == "one"
    found = await database.read(lambda connection: connection.execute(select(workers.c.id)).scalars().all())
    assert found == ["one"]


async def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    def fail(connection: Connection) -> None:
        add(connection)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.transact(fail)
    assert names(database) == []


def test_a_savepoint_undoes_its_own_part_only(database: Database) -> None:
    def work(connection: Connection) -> None:
        add(connection, "kept")
        savepoint = connection.begin_nested()
        add(connection, "undone")
        savepoint.rollback()
        with connection.begin_nested():
            add(connection, "also kept")

    database.transact_now(work)
    assert names(database) == ["also kept", "kept"]


async def test_many_threads_may_use_it_at_once(database: Database) -> None:
    async def both(number: int) -> None:
        await database.transact(lambda connection: add(connection, f"worker {number:02}"))
        assert f"worker {number:02}" in await database.read(
            lambda connection: connection.execute(select(workers.c.id)).scalars().all()
        )

    await asyncio.gather(*(both(number) for number in range(40)))
    assert len(names(database)) == 40


def test_a_mistake_is_raised_at_once_and_not_retried(database: Database) -> None:
    attempts = []

    def wrong(connection: Connection) -> None:
        attempts.append(1)
        add(connection)
        add(connection)

    with pytest.raises(IntegrityError):
        database.transact_now(wrong)
    assert attempts == [1]


def test_what_is_opened_for_reading_cannot_write(database: Database, data_dir: Path) -> None:
    database.transact_now(add)
    reader = Database.open(data_dir, database.conninfo, readonly=True, patience_s=0)
    assert names(reader) == ["one"]
    with pytest.raises((DBAPIError, StorageUnavailableError)):
        reader.transact_now(lambda connection: add(connection, "two"))
    reader.close()
    assert names(database) == ["one"]


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        (5, "transient"),
        (517, "transient"),  # SQLITE_BUSY_SNAPSHOT
        (6, "transient"),
        (10, "unavailable"),
        (4874, "unavailable"),  # SQLITE_IOERR_SHMSIZE
        (13, "unavailable"),
        (14, "unavailable"),
        (1032, "unavailable"),  # SQLITE_READONLY_DBMOVED
        (8, None),
        (11, None),
        (19, None),
        (1, None),
    ],
)
def test_an_error_of_sqlite_is_what_its_code_says(code: int, trouble: str | None) -> None:
    error = apsw_dbapi.OperationalError("x")
    error.sqlite_errorcode = code
    assert trouble_of(error) == trouble
    assert trouble_of(OperationalError("statement", {}, error)) == trouble


@pytest.mark.parametrize(
    ("state", "trouble"),
    [
        ("40001", "transient"),
        ("40P01", "transient"),
        ("55P03", "transient"),
        ("57014", "transient"),
        ("08006", "unavailable"),
        ("53100", "unavailable"),  # disk_full
        ("53300", "unavailable"),
        ("57P01", "unavailable"),
        ("57P03", "unavailable"),
        ("58030", "unavailable"),
        ("25P03", "unavailable"),
        ("23505", None),
        ("42P01", None),
        ("23001", None),
    ],
)
def test_an_error_of_postgres_is_what_its_state_says(state: str, trouble: str | None) -> None:
    from psycopg.errors import lookup

    error = lookup(state)("x")
    assert trouble_of(error) == trouble
    assert trouble_of(OperationalError("statement", {}, error)) == trouble


def test_other_errors_are_no_trouble_of_the_database() -> None:
    assert trouble_of(ValueError("x")) is None
    assert trouble_of(OSError(28, "No space left on device")) is None
