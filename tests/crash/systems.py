"""What a case is run on: one process over SQLite, or an API process and two workers over Postgres."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psycopg
from crash.checks import Contents, contents
from crash.ledger import LedgerProcess
from crash.processes import TestProcess, Zygote
from postgres import PostgresServer, for_all_tenants

from app.storage.database import FILE_NAME, Database
from app.storage.schema import upgrade


class Ground:
    """What cases share: the ledger, the zygote, the servers and the templates of databases."""

    def __init__(self, *, postgres: PostgresServer | None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="agent-core-crash-"))
        self.ledger = LedgerProcess()
        self.zygote = Zygote()
        self.postgres = postgres
        (self.directory / "template").mkdir()
        database = Database.open(self.directory / "template")
        upgrade(database)
        database.close()
        self.postgres_template = ""
        if postgres is not None:
            self.postgres_template = postgres.create()
            database = Database.open(Path(), postgres.url(self.postgres_template))
            upgrade(database)
            database.close()

    def stop(self, *, keep: bool = False) -> None:
        self.zygote.stop()
        self.ledger.stop()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)


class System:
    """The processes of one case and their database."""

    roles: tuple[str, ...] = ()

    def __init__(self, ground: Ground, case: str, pace: float) -> None:
        self.ground = ground
        self.directory = ground.directory / case
        self.directory.mkdir()
        self.processes: dict[str, TestProcess] = {}
        self.environment = {
            "CRASH_LEDGER": str(ground.ledger.port),
            "CRASH_CASE": case,
            "CRASH_PACE": str(pace),
            "TOOL_MODULES": "crash.tools",
            "HOST": "127.0.0.1",
            "PORT": "0",
        }

    def start(
        self, role: str, environment: dict[str, str] | None = None, strace: Sequence[str] = ()
    ) -> TestProcess:
        """Start a process; with arguments for strace, under it."""
        command = "serve" if role == "api" else "worker"
        own = {**self.environment, **(environment or {})}
        process = self.ground.zygote.start([command], own, self.directory, strace=strace)
        self.processes[role] = process
        return process

    def contents(self) -> Contents:
        """Read everything, without touching what a crash has left behind."""
        raise NotImplementedError

    def stop(self, *, keep: bool = False) -> None:
        for process in self.processes.values():
            process.kill()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)


class SqliteSystem(System):
    """The server as it is by default."""

    roles = ("api",)

    def __init__(self, ground: Ground, case: str, pace: float) -> None:
        super().__init__(ground, case, pace)
        self.data = self.directory / "data"
        self.data.mkdir()
        shutil.copy(ground.directory / "template" / FILE_NAME, self.data)
        self.environment["DATA_DIR"] = str(self.data)

    def contents(self) -> Contents:
        with tempfile.TemporaryDirectory(dir=self.directory) as copied:
            for path in self.data.glob(f"{FILE_NAME}*"):
                if not path.name.endswith("-shm"):
                    shutil.copy(path, copied)
            with closing(sqlite3.connect(Path(copied) / FILE_NAME)) as connection:
                return contents(lambda query: connection.execute(query).fetchall())


class PostgresSystem(System):
    """An API process and two workers."""

    roles = ("api", "one", "two")

    def __init__(self, ground: Ground, case: str, pace: float) -> None:
        super().__init__(ground, case, pace)
        assert ground.postgres is not None
        self.name = ground.postgres.create(ground.postgres_template)
        self.url = ground.postgres.url(self.name)
        self.environment["DATABASE_URL"] = self.url

    def contents(self) -> Contents:
        with psycopg.connect(for_all_tenants(self.url)) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            return contents(lambda query: connection.execute(query.encode()).fetchall())

    def stop(self, *, keep: bool = False) -> None:
        super().stop(keep=keep)
        assert self.ground.postgres is not None
        if not keep:
            self.ground.postgres.drop(self.name)


SYSTEMS: dict[str, type[System]] = {"sqlite": SqliteSystem, "postgres": PostgresSystem}
