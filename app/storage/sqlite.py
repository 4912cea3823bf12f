"""SQLite: which library is current enough to write ahead with, and the two engines of a file."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import quote

from msgspec import Struct
from sqlalchemy import Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError

from ..errors import ConfigurationError
from .failures import one_line

FIRST_CURRENT: Final = (3, 51, 3)
"""The first SQLite in which two connections that write and checkpoint at once cannot corrupt a write-ahead log
(https://sqlite.org/wal.html#walresetbug)."""

READERS = 4
BUSY_S = 5.0
"""How long a connection waits for another's lock before it says SQLITE_BUSY."""

MAX_IDLE_WAL_BYTES = 64 * 1024 * 1024

_log = logging.getLogger(__name__)


class Driver(Struct, frozen=True):
    """A module that speaks to SQLite (PEP 249), and whether its SQLite may write ahead."""

    module: ModuleType
    is_current: bool

    @property
    def version(self) -> str:
        return str(self.module.sqlite_version)


def choose_driver(names: tuple[str, ...] = (".apsw_dbapi", "sqlite3.dbapi2")) -> Driver:
    """Return the first of the modules that is installed and current, else the last."""
    module = None
    for name in names:
        try:
            module = importlib.import_module(name, __package__)
        except ImportError:
            continue
        if module.sqlite_version_info >= FIRST_CURRENT:
            return Driver(module, is_current=True)
    if module is None:
        raise ConfigurationError("This Python has no sqlite3; install apsw, or use Postgres (DATABASE_URL).")
    return Driver(module, is_current=False)


class Engines(Struct, frozen=True):
    """The engine that writes, with exactly one connection, and the one that reads; they may be the same."""

    write: Engine
    read: Engine


def engines_of(path: Path, driver: Driver) -> Engines:
    """Return engines that write and read the file, and create it if there is none; nothing is opened yet."""
    if driver.is_current:
        write = _engine(_connector(path, "rwc", driver, _WRITE_AHEAD), driver, "BEGIN IMMEDIATE", 1)
        read = _engine(_connector(path, "rw", driver, ("PRAGMA query_only=ON",)), driver, "BEGIN", READERS)
    else:
        _log.warning(
            "SQLite %s can damage a write-ahead log (fixed in 3.51.3): using a rollback journal and one "
            "connection, which is slower. Install apsw to have a current one.",
            driver.version,
        )
        write = read = _engine(_connector(path, "rwc", driver, _ROLL_BACK), driver, "BEGIN IMMEDIATE", 1)
    return Engines(write, read)


def readonly_engine_of(path: Path, driver: Driver) -> Engine:
    """Return an engine that does nothing but read the file, beside whoever writes to it.

    SQLite may leave empty `-wal` and `-shm` files beside one that nobody serves; it takes them up again.
    """
    return _engine(_connector(path, "ro", driver, ("PRAGMA query_only=ON",)), driver, "BEGIN", READERS)


_SYNCED = ("PRAGMA synchronous=FULL", f"PRAGMA journal_size_limit={MAX_IDLE_WAL_BYTES}")
_WRITE_AHEAD = ("PRAGMA journal_mode=WAL", *_SYNCED)
_ROLL_BACK = ("PRAGMA journal_mode=DELETE", *_SYNCED)


def _connector(path: Path, mode: str, driver: Driver, pragmas: tuple[str, ...]) -> Callable[[], Any]:
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"

    def connect() -> Any:
        # no isolation level: the driver begins nothing by itself; the pool lets one thread at a time have it
        connection = driver.module.connect(
            uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            for pragma in pragmas:
                connection.execute(pragma).close()
        except BaseException:
            connection.close()
            raise
        return connection

    return connect


def _engine(connect: Callable[[], Any], driver: Driver, begin: str, connections: int) -> Engine:
    engine = create_engine(
        "sqlite+pysqlite://",
        hide_parameters=True,  # what runs hold is for no log
        module=driver.module,
        creator=connect,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
    )

    def begin_explicitly(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "begin", begin_explicitly)
    return engine


def check_file(engine: Engine, path: Path, *, readonly: bool) -> None:
    """Read the file's header, so that what is wrong with it is known at once.

    Raises:
        ConfigurationError: it cannot be opened, is no SQLite database, or is not there to be read.
    """
    if readonly and not path.exists():
        raise ConfigurationError(f"There is no database at {path}; the server makes one when it starts.")
    if not readonly:
        with suppress(OSError):  # what is wrong is said below
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # and what SQLite puts beside it is as private
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
    except DBAPIError as error:
        engine.dispose()
        raise ConfigurationError(f"{path} cannot be opened as a database: {one_line(error)}") from error
