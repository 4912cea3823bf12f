"""The database that the settings name: declared, and opened with everything that opening it takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ..config import Settings
from ..storage.database import Database
from ..storage.lockfile import DirectoryLock
from ..storage.schema import check, upgrade

PROGRAM: Final = "llm-agent-core"
"""What the holder of a data directory is called, to whom it refuses."""


def declare_database(settings: Settings, *, readonly: bool = False, owner: str | None = None) -> Database:
    """Return the database; nothing is opened yet. `owner` is this process's name in claims.

    Raises:
        ConfigurationError: DATABASE_URL names none.
        MissingExtraError: what speaks to it is not installed.
    """
    url = settings.database_url
    return Database.declare(
        settings.data_dir, None if url is None else url.get_secret_value(), readonly=readonly, owner=owner
    )


def connect(database: Database, settings: Settings) -> DirectoryLock | None:
    """Open the database for writing: alone if it is a file, and with the tables of this version.

    Returns:
        the lock of the data directory, to be released when all is closed.

    Raises:
        DataInUseError: another process has the directory.
        ConfigurationError: the database cannot be opened.
        DatabaseVersionError: its tables are newer than this program or, on Postgres, older.
    """
    lock = None
    if database.is_sqlite:
        lock = DirectoryLock.acquire(settings.data_dir, PROGRAM)
    try:
        database.connect()
        if database.is_sqlite:
            upgrade(database)
        else:
            check(database)
    except BaseException:
        database.close()
        if lock is not None:
            lock.release()
        raise
    return lock


@contextmanager
def open_database(settings: Settings, *, readonly: bool) -> Iterator[Database]:
    """Open the database for a command, and close it again; raises what `connect` does."""
    database = declare_database(settings, readonly=readonly)
    if readonly:
        try:
            database.connect()
            check(database)
            yield database
        finally:
            database.close()
        return
    lock = connect(database, settings)
    try:
        yield database
    finally:
        database.close()
        if lock is not None:
            lock.release()
