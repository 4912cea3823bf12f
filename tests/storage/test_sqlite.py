"""SQLite: the library that is taken, patience with locks and full disks, and reading beside a writer."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import pytest
from sqlalchemy import Connection, event, select, text
from stored_runs import add, names

from app.errors import ConfigurationError, StorageUnavailableError
from app.storage import apsw_dbapi
from app.storage import sqlite as sqlite_module
from app.storage.database import FILE_NAME, Database
from app.storage.schema import upgrade
from app.storage.tables import workers


def pragma(database: Database, name: str) -> object:
    with database.write_engine.connect() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def test_sqlite_writes_ahead_and_waits_for_the_disk(sqlite_database: Database) -> None:
    assert pragma(sqlite_database, "journal_mode") == "wal"
    assert pragma(sqlite_database, "synchronous") == 2
    assert sqlite_database.write_engine.dialect.dbapi.sqlite_version_info >= (3, 51, 3)  # type: ignore[union-attr]


def test_the_shipped_sqlite_is_preferred() -> None:
    driver = sqlite_module.choose_driver()
    assert driver.module is apsw_dbapi
    assert driver.is_current


def test_the_standard_library_is_taken_if_it_is_current_or_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    standard = SimpleNamespace(sqlite_version_info=(3, 53, 0), sqlite_version="3.53.0")
    monkeypatch.setitem(sys.modules, "current_sqlite", standard)
    assert sqlite_module.choose_driver(("not_installed_sqlite", "current_sqlite")).is_current
    standard.sqlite_version_info = (3, 51, 2)
    assert not sqlite_module.choose_driver(("not_installed_sqlite", "current_sqlite")).is_current
    with pytest.raises(ConfigurationError):
        sqlite_module.choose_driver(("not_installed_sqlite",))


@pytest.fixture
def old_sqlite(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Database]:
    """A database as it is opened where SQLite has the WAL-reset bug."""
    found = sqlite_module.Driver(apsw_dbapi, is_current=False)
    monkeypatch.setattr(sqlite_module, "choose_driver", lambda: found)
    with caplog.at_level(logging.WARNING):
        database = Database.open(data_dir, patience_s=5)
    yield database
    database.close()


def test_an_affected_sqlite_gets_a_rollback_journal_one_connection_and_a_warning(
    old_sqlite: Database, caplog: pytest.LogCaptureFixture
) -> None:
    assert "3.51.3" in caplog.get_records("setup")[0].getMessage()
    assert pragma(old_sqlite, "journal_mode") == "delete"
    assert old_sqlite.read_engine is old_sqlite.write_engine
    old_sqlite.transact_now(add)
    assert names(old_sqlite) == ["one"]


async def test_with_one_connection_what_reads_and_what_writes_take_turns(old_sqlite: Database) -> None:
    await asyncio.gather(
        *(old_sqlite.transact(lambda connection, n=n: add(connection, f"{n:02}")) for n in range(20)),
        *(
            old_sqlite.read(lambda connection: connection.execute(select(workers.c.id)).scalars().all())
            for _ in range(20)
        ),
    )
    assert len(names(old_sqlite)) == 20


def test_readers_do_not_wait_for_the_writer_and_see_what_is_committed(sqlite_database: Database) -> None:
    sqlite_database.transact_now(add)
    with sqlite_database.write_engine.begin() as connection:
        add(connection, "not yet")
        assert names(sqlite_database) == ["one"]
    assert names(sqlite_database) == ["not yet", "one"]


def test_what_one_read_sees_is_of_one_moment(sqlite_database: Database) -> None:
    def look_twice(connection: Connection) -> list[int]:
        count = text("SELECT count(*) FROM workers")
        before = connection.execute(count).scalar_one()
        sqlite_database.transact_now(add)
        return [before, connection.execute(count).scalar_one()]

    assert sqlite_database.read_now(look_twice) == [0, 0]


async def test_with_a_writer_attached_transactions_are_its(sqlite_database: Database) -> None:
    class Writer:
        calls = 0

        async def transact(self, fn: Callable[[Connection], Any]) -> Any:
            self.calls += 1
            return sqlite_database.transact_now(fn)

    writer = Writer()
    sqlite_database.attach(writer)
    await sqlite_database.transact(add)
    sqlite_database.transact_now(lambda connection: add(connection, "two"))  # takes its turn at the connection
    assert writer.calls == 1
    assert names(sqlite_database) == ["one", "two"]


def test_a_lock_that_another_process_holds_is_waited_for(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_module, "BUSY_S", 0.01)
    database = Database.open(data_dir, patience_s=10)
    other = apsw.Connection(str(data_dir / FILE_NAME))
    other.execute("BEGIN IMMEDIATE")
    refused: list[int] = []

    def let_go(_context: object) -> None:
        refused.append(1)
        if len(refused) == 3:
            other.execute("COMMIT")

    event.listen(database.write_engine, "handle_error", let_go)
    database.transact_now(add)
    assert len(refused) == 3
    assert names(database) == ["one"]
    other.close()
    database.close()


def test_a_lock_that_is_never_let_go_of_is_an_unavailable_store(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_module, "BUSY_S", 0.05)
    database = Database.open(data_dir, patience_s=0.2)
    other = apsw.Connection(str(data_dir / FILE_NAME))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageUnavailableError, match="locked"):
        database.transact_now(add)
    other.execute("ROLLBACK")
    other.close()
    assert database.transact_now(add) == "one"
    database.close()


def test_a_full_disk_is_an_unavailable_store_until_there_is_room(sqlite_database: Database) -> None:
    database = sqlite_database
    database._patience_s = 0.2
    pages = pragma(database, "page_count")
    with database.write_engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StorageUnavailableError, match="full"):
        database.transact_now(lambda connection: add(connection, "x" * 100_000))
    with database.write_engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert database.transact_now(add) == "one"


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"This is a poem, and not a short one; it goes on and on." * 100)
    with pytest.raises(ConfigurationError, match=f"{FILE_NAME} cannot be opened"):
        Database.open(tmp_path)


def test_reading_creates_no_database(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no database"):
        Database.open(tmp_path, readonly=True)
    unchecked = Database.declare(tmp_path, readonly=True, patience_s=0)
    with pytest.raises(StorageUnavailableError, match="unable to open"):
        names(unchecked)
    unchecked.close()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_a_strange_name_will_do(tmp_path: Path) -> None:
    directory = tmp_path / "a b?c#d%20é&mode=ro"
    directory.mkdir()
    Database.open(directory).close()
    assert [path.name for path in directory.iterdir()] == [FILE_NAME]


WRITER = """
import os, sys
from pathlib import Path
from sqlalchemy import insert
from app.storage.database import Database
from app.storage.schema import upgrade
from app.storage.tables import workers
database = Database.open(Path(sys.argv[1]))
database.transact_now(lambda connection: connection.execute(insert(workers).values(id="theirs", expires_at=0)))
connection = database.write_engine.connect()
connection.begin()
connection.execute(insert(workers).values(id="uncommitted", expires_at=0))
print("ready", flush=True)
sys.stdin.readline()
"""


def test_a_reader_works_beside_a_server_and_after_it_was_killed(data_dir: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == "ready\n"
        beside = Database.open(data_dir, readonly=True)
        assert names(beside) == ["theirs"]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        process.stdin.close()
        process.stdout.close()
    assert names(beside) == ["theirs"]
    beside.close()
    after = Database.open(data_dir, readonly=True)
    assert names(after) == ["theirs"]
    after.close()


def test_the_file_is_its_owners_alone_whatever_the_directory_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    database = Database.open(tmp_path)
    upgrade(database)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    database.close()
    assert {name for name in modes if name.startswith("agent-core.db")} >= {"agent-core.db", "agent-core.db-wal"}
    assert set(modes.values()) == {0o600}
