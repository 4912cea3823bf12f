"""The database: SQLite or Postgres, what reads and writes run on threads, and failures borne with patience."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Final, Protocol, TypeVar

from sqlalchemy import Connection, Engine

from ..errors import StorageUnavailableError
from . import postgres, sqlite
from .failures import one_line, trouble_of

T = TypeVar("T")

FILE_NAME: Final = "agent-core.db"
"""The SQLite database in the data directory."""

PATIENCE_S: Final = 30.0
"""How long something is tried again while the database cannot be reached."""

THREADS: Final = 16

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 1.0


class Transactor(Protocol):
    """Runs functions in write transactions of its own, on a thread of its own.

    It has to give the write engine's only connection back after each transaction (or group of them), since
    `Database.transact_now` takes its turn at it.
    """

    async def transact(self, fn: Callable[[Connection], T]) -> T: ...


class Database:
    """One database, SQLite or Postgres.

    Args:
        write_engine: begins transactions that write. On SQLite it has exactly one connection, and whoever wants it
            waits for it.
        read_engine: for reading. On Postgres it shares the write engine's connections and begins no transactions.
        tenant_engine: for what is done for one tenant: its sessions see nobody else's rows. None on SQLite.
        check: connects for the first time, and says what is wrong.
        conninfo: the Postgres URL as psycopg takes it (with its password), None on SQLite.
        patience_s: how long what fails for want of a database is tried again.
    """

    def __init__(
        self,
        write_engine: Engine,
        read_engine: Engine,
        check: Callable[[], None],
        *,
        tenant_engine: Engine | None = None,
        conninfo: str | None = None,
        readonly: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._check = check
        self.write_engine = write_engine
        self.read_engine = read_engine
        self.tenant_engine = tenant_engine
        self._tenant_reading = tenant_engine and tenant_engine.execution_options(isolation_level="AUTOCOMMIT")
        self.conninfo = conninfo
        self.is_sqlite = conninfo is None
        self.readonly = readonly
        self.writer: Transactor | None = None
        self._patience_s = patience_s
        self._closing = Event()
        # of its own: the threads of tools that hang must not be missing here, least of all for the heartbeat
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="database")

    @classmethod
    def declare(
        cls,
        data_dir: Path,
        url: str | None = None,
        *,
        readonly: bool = False,
        patience_s: float = PATIENCE_S,
        owner: str | None = None,
    ) -> Database:
        """Return the Postgres database that `url` names, or without one the SQLite database in `data_dir`.

        Nothing is opened or created before `connect`. By then the directory exists and, unless `readonly`, is
        locked by this process. With `readonly` nothing can be written through it.

        Raises:
            ConfigurationError: the URL is none.
            MissingExtraError: what speaks to Postgres is not installed.
        """
        if url:
            conninfo = postgres.conninfo_of(url)
            engine = postgres.open_url(conninfo, readonly=readonly, owner=owner)
            reading = engine.execution_options(isolation_level="AUTOCOMMIT")
            bound = postgres.open_url(conninfo, readonly=readonly, owner=owner, sees_everything=False)
            check = partial(postgres.check_server, engine, conninfo, patience_s)
            return cls(
                engine,
                reading,
                check,
                tenant_engine=bound,
                conninfo=conninfo,
                readonly=readonly,
                patience_s=patience_s,
            )
        driver, path = sqlite.choose_driver(), data_dir / FILE_NAME
        if readonly:
            engine = sqlite.readonly_engine_of(path, driver)
            engines = sqlite.Engines(engine, engine)
        else:
            engines = sqlite.engines_of(path, driver)
        check = partial(sqlite.check_file, engines.write, path, readonly=readonly)
        return cls(engines.write, engines.read, check, readonly=readonly, patience_s=patience_s)

    @classmethod
    def open(
        cls, data_dir: Path, url: str | None = None, *, readonly: bool = False, patience_s: float = PATIENCE_S
    ) -> Database:
        """Declare the database and connect to it. Raises what `declare` and `connect` do."""
        database = cls.declare(data_dir, url, readonly=readonly, patience_s=patience_s)
        database.connect()
        return database

    def connect(self) -> None:
        """Connect for the first time, and see what is there.

        Raises:
            ConfigurationError: the database cannot be reached or opened, is none, or is not there to be read.
            DatabaseVersionError: the server is too old.
        """
        self._check()

    def attach(self, writer: Transactor) -> None:
        """Let `writer` carry out what is to be written, if this is SQLite: a file has one writer at a time."""
        if self.is_sqlite:
            self.writer = writer

    def close(self) -> None:
        """Close the connections that nobody uses, and stop trying again."""
        self._closing.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.read_engine.dispose()
        self.write_engine.dispose()
        if self.tenant_engine is not None:
            self.tenant_engine.dispose()

    async def read(
        self, fn: Callable[[Connection], T], tenant: str | None = None, *, patience_s: float | None = None
    ) -> T:
        """Call `fn` with a connection to read from, on a thread, and return what it does.

        It may be called again after a failure. On SQLite all that it reads is of one moment, on Postgres what one
        statement does; and there it sees only rows of `tenant`, whatever it asks for, or with None all rows.

        Raises:
            StorageUnavailableError: the database could not be reached for PATIENCE_S, or `patience_s`.
        """
        if self.writer is not None and self.read_engine is self.write_engine:
            return await self.writer.transact(fn)  # one connection for everything, and the writer has it
        return await self._on_a_thread(partial(self.read_now, fn, tenant, patience_s=patience_s))

    async def _on_a_thread(self, call: Callable[[], T]) -> T:
        if self._closing.is_set():
            raise StorageUnavailableError("The database is closed.")
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def read_now(
        self, fn: Callable[[Connection], T], tenant: str | None = None, *, patience_s: float | None = None
    ) -> T:
        """Do what `read` does, on this thread."""
        engine = self._tenant_reading
        if tenant is None or engine is None:
            attempt = partial(_read, self.read_engine, fn)
        else:
            attempt = partial(_read, engine, fn, tenant)
        return self._patiently(attempt, retry_unknown=True, patience_s=patience_s)

    async def transact(self, fn: Callable[[Connection], T], tenant: str | None = None) -> T:
        """Call `fn` in a transaction of its own, on a thread; return what it does once that is durable.

        On Postgres it sees and writes rows of this tenant alone; None is for what is done for all.

        `fn` may be called again: after a failure that undid it, and on Postgres also when a connection was lost at
        COMMIT and what it did may be there already. It has to find that out, and do it once.

        Raises:
            StorageUnavailableError: the database could not be reached, or had no room, for PATIENCE_S. On Postgres
                what `fn` did may have been done nevertheless.
        """
        if self.writer is not None:
            return await self.writer.transact(fn)
        return await self._on_a_thread(partial(self.transact_now, fn, tenant))

    def transact_now(self, fn: Callable[[Connection], T], tenant: str | None = None, *, once: bool = False) -> T:
        """Do what `transact` does, on this thread.

        With `once`, `fn` is not called again when what it did may be there already: StorageUnavailableError, then.
        """
        engine = self.tenant_engine
        if tenant is None or engine is None:
            return self._patiently(lambda: _write(self.write_engine, fn), retry_unknown=not once)
        return self._patiently(lambda: _write(engine, fn, tenant), retry_unknown=not once)

    def _patiently(self, attempt: Callable[[], T], *, retry_unknown: bool, patience_s: float | None = None) -> T:
        if self._closing.is_set():
            raise StorageUnavailableError("The database is closed.")
        give_up_at = monotonic() + (self._patience_s if patience_s is None else patience_s)
        pause = FIRST_PAUSE_S
        while True:
            try:
                return attempt()
            except _UnknownOutcomeError as error:
                reason = error.reason
                may_retry = retry_unknown or self.is_sqlite
            except Exception as error:
                if trouble_of(error) is None:
                    raise
                reason, may_retry = error, True
            if not may_retry or monotonic() + pause > give_up_at or self._closing.wait(pause):
                raise StorageUnavailableError(self._sentence(reason)) from reason
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _sentence(self, reason: BaseException) -> str:
        said = one_line(reason)
        if self.conninfo is not None:
            said = postgres.without_password(said, self.conninfo)
        return f"The database does not answer: {said}"


class _UnknownOutcomeError(Exception):
    """The connection failed at COMMIT, so that nobody knows whether it took place."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _read(engine: Engine, fn: Callable[[Connection], T], tenant: str | None = None) -> T:
    with engine.connect() as connection:
        if tenant is not None:
            postgres.see_only(connection, tenant)
        return fn(connection)


def _write(engine: Engine, fn: Callable[[Connection], T], tenant: str | None = None) -> T:
    with engine.connect() as connection:
        transaction = connection.begin()
        try:
            if tenant is not None:
                postgres.see_only(connection, tenant)
            result = fn(connection)
        except BaseException:
            transaction.rollback()
            postgres.see_again(connection)
            raise
        try:
            transaction.commit()
        except Exception as error:
            connection.invalidate()  # else it went back into the pool with its transaction still open
            if trouble_of(error) == "unavailable":
                raise _UnknownOutcomeError(error) from error
            raise
        return result
