"""The two databases of the durable benchmarks: fresh ones for each measurement, and what they can do at best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Final

from sqlalchemy import Connection, text

from app.storage.database import Database
from app.storage.schema import upgrade
from app.storage.statements import EventRow, insert_events
from app.storage.tables import events
from benchmarks.place import new_directory
from tests.postgres import PostgresServer

RAW: Final = "raw commits"


@dataclass(frozen=True)
class Kind:
    """A kind of database: its name, and how to get an empty one that nobody else has."""

    name: str
    database: Callable[[], AbstractContextManager[Database]]


@contextmanager
def _new_file() -> Iterator[Database]:
    with new_directory() as directory, _opened(directory, None) as database:
        yield database


SQLITE: Final = Kind("SQLite", _new_file)


@contextmanager
def serving_postgres() -> Iterator[PostgresServer]:
    """Run a Postgres server that waits for its disk, out of the wheel that the tests use."""
    server = PostgresServer(durable=True)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def postgres_url(server: PostgresServer) -> Iterator[str]:
    """Make a Postgres database with all tables, and drop it again."""
    name = server.create()
    try:
        with _opened(Path(), server.url(name)):
            pass
        yield server.url(name)
    finally:
        server.drop(name)


def postgres_kind(server: PostgresServer) -> Kind:
    """Return the kind of the databases of a server."""

    @contextmanager
    def new_one() -> Iterator[Database]:
        name = server.create()
        try:
            with _opened(Path(), server.url(name)) as database:
                yield database
        finally:
            server.drop(name)

    return Kind("Postgres", new_one)


@contextmanager
def _opened(directory: Path, url: str | None) -> Iterator[Database]:
    database = Database.open(directory, url)
    try:
        upgrade(database)
        yield database
    finally:
        database.close()


def raw_commits(database: Database, seconds: float) -> float:
    """Return how many rows a second can be made durable if each waits for its own commit."""
    with database.write_engine.connect() as connection:
        with connection.begin():
            connection.execute(text("CREATE TABLE IF NOT EXISTS raw (number INTEGER)"))
        started = perf_counter()
        for number in count(1):
            with connection.begin():
                connection.execute(text("INSERT INTO raw VALUES (:number)"), {"number": number})
            if perf_counter() - started > seconds:
                break
        return number / (perf_counter() - started)


def bare_seconds(database: Database, rows: Sequence[EventRow], rows_a_commit: int) -> float:
    """Return how long it takes to insert the rows of a journal with nothing around it.

    The statements are those that the journal's writer uses (COPY on Postgres), and as many rows go into a commit;
    but it is one thread with nothing else to do, the rows are there, and the table has no triggers.
    """
    with database.write_engine.connect() as connection:
        with connection.begin():
            _forget_triggers(connection)
        started = perf_counter()
        for start in range(0, len(rows), rows_a_commit):
            with connection.begin():
                insert_events(connection, rows[start : start + rows_a_commit])
        return perf_counter() - started


def _forget_triggers(connection: Connection) -> None:
    events.drop(connection)
    events.create(connection)


def rows_of(database: Database) -> list[EventRow]:
    """Return the rows of a journal, run by run."""
    order = events.c.tenant, events.c.run_id, events.c.seq
    with database.read_engine.connect() as connection:
        return [tuple(row) for row in connection.execute(events.select().order_by(*order))]
