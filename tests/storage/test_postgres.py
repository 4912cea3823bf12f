"""Postgres: what its URL may be, and what is done again when connections break off."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from time import monotonic

import pytest
from postgres import PostgresServer
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from stored_runs import add, column, leave_a_commit_unanswered, names

from app.errors import ConfigurationError, DatabaseVersionError, MissingExtraError, StorageUnavailableError
from app.storage import postgres as postgres_module
from app.storage.database import Database
from app.storage.failures import trouble_of
from app.storage.tables import workers


def test_sessions_have_limits_and_a_name(postgres_database: Database) -> None:
    def settings(connection: Connection) -> list[str]:
        wanted = ("idle_in_transaction_session_timeout", "statement_timeout", "application_name")
        return [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in wanted]

    assert postgres_database.read_now(settings) == ["5s", "15s", "llm-agent-core"]
    postgres_database.transact_now(
        lambda connection: add(connection, connection.exec_driver_sql("SHOW transaction_isolation").scalar_one())
    )
    assert names(postgres_database) == ["read committed"]


def test_a_commit_waits_for_the_disk_whatever_the_servers_default(
    postgres: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.split("/")[3].split("?")[0]
    for default, expected in (("off", "on"), ("remote_write", "remote_write")):
        postgres.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = {default}')
        database = Database.open(Path(), postgres_url)
        assert database.read_now(lambda c: c.exec_driver_sql("SHOW synchronous_commit").scalar()) == expected
        database.close()


def test_what_the_url_says_goes_before_what_we_would_say(postgres_url: str) -> None:
    database = Database.open(Path(), f"{postgres_url}&application_name=desk")
    assert database.read_now(lambda c: c.exec_driver_sql("SHOW application_name").scalar()) == "desk"
    database.close()


def test_a_url_as_sqlalchemy_writes_it_is_understood(postgres_url: str) -> None:
    for scheme in ("postgres://", "postgresql+psycopg://"):
        Database.open(Path(), postgres_url.replace("postgresql://", scheme)).close()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:secret@127.0.0.1/x",
        "secret",
        "postgresql://u:secret%ZZ@127.0.0.1/x",
        "postgresql://u:secret@127.0.0.1:secret/x",
        "postgresql://u:secret@127.0.0.1/x?nonsense=secret",
        "postgresql://u:secret@127.0.0.1:1/x",
        "postgresql://u:secret@/x?host=/nonexistent",
        "postgresql+asyncpg://u:secret@127.0.0.1/x",
    ],
)
def test_a_bad_url_or_no_server_is_one_line_without_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Database.open(Path(), url)
    said = str(caught.value)
    assert said.startswith("DATABASE_URL: ")
    assert "secret" not in said
    assert "\n" not in said
    assert not database_knows(caught.value, "secret")


def database_knows(error: BaseException, secret: str) -> bool:
    """Say whether a traceback would print the secret: what was raised from, and what it was raised while."""
    shown = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return shown is not None and (secret in str(shown) or database_knows(shown, secret))


def test_a_database_that_does_not_exist_is_named(postgres: PostgresServer) -> None:
    with pytest.raises(ConfigurationError, match='"nowhere" does not exist'):
        Database.open(Path(), postgres.url("nowhere"))


def test_an_old_server_is_refused(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_module, "FIRST_SUPPORTED", 99)
    with pytest.raises(DatabaseVersionError, match="99 or newer"):
        Database.open(Path(), postgres_url)


def test_without_the_extra_the_line_that_installs_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ImportError('there is none')")
    code = (
        "from pathlib import Path; from app.storage.database import Database\n"
        "Database.open(Path(), 'postgresql://u:p@h/d')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr.splitlines()[-1].endswith("uv sync --extra postgres")
    assert MissingExtraError.__name__ in ran.stderr.splitlines()[-1]


def test_postgres_is_loaded_only_for_postgres(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from app.storage import database, lockfile, notes, retention, runs, schema, writer\n"
        f"found = database.Database.open(Path({str(tmp_path)!r})); schema.check(found); schema.check(found)\n"
        "print([name for name in ('psycopg', 'procrastinate', 'fastapi') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that a test may end as it likes."""
    server = PostgresServer()
    yield server
    server.stop()


def test_a_server_that_comes_back_is_waited_for(own_postgres: PostgresServer) -> None:
    database = Database.open(Path(), own_postgres.url(own_postgres.create()))
    count = text("SELECT 41 + 1")
    database.transact_now(
        lambda connection: connection.execute(text("CREATE TABLE workers (id text, expires_at int)"))
    )
    own_postgres.crash()
    restart = Thread(target=own_postgres.start)
    restart.start()
    assert database.read_now(lambda connection: connection.execute(count).scalar()) == 42
    restart.join()
    own_postgres.crash()
    restart = Thread(target=own_postgres.start)
    restart.start()
    assert database.transact_now(add) == "one"
    restart.join()
    assert database.read_now(lambda c: c.execute(text("SELECT count(*) FROM workers")).scalar()) == 1
    database.close()


async def test_a_server_that_does_not_come_back_is_an_unavailable_store(own_postgres: PostgresServer) -> None:
    database = Database.open(Path(), own_postgres.url(), patience_s=0.3)
    own_postgres.crash()
    started = monotonic()
    with pytest.raises(StorageUnavailableError, match="does not answer"):
        await database.transact(add)
    with pytest.raises(StorageUnavailableError, match="does not answer"):
        await database.read(lambda connection: connection.execute(text("SELECT 1")))
    assert monotonic() - started < 5
    database.close()


def test_closing_ends_the_patience(own_postgres: PostgresServer) -> None:
    database = Database.open(Path(), own_postgres.url(), patience_s=600)
    own_postgres.crash()
    failed = Event()

    def wait() -> None:
        with pytest.raises(StorageUnavailableError):
            database.transact_now(add)
        failed.set()

    thread = Thread(target=wait, daemon=True)
    thread.start()
    database.close()
    assert failed.wait(20)
    thread.join()


def test_what_was_not_committed_is_done_again(postgres_database: Database) -> None:
    happened = leave_a_commit_unanswered(postgres_database, commit=False)
    assert postgres_database.transact_now(add) == "one"
    assert happened
    assert names(postgres_database) == ["one"]


def test_what_may_have_been_committed_is_not_done_again_if_it_must_not_be(postgres_database: Database) -> None:
    attempts = []

    def work(connection: Connection) -> None:
        attempts.append(add(connection))

    leave_a_commit_unanswered(postgres_database, commit=True)
    with pytest.raises(StorageUnavailableError):
        postgres_database.transact_now(work, once=True)
    assert len(attempts) == 1
    assert names(postgres_database) == ["one"]


def test_a_connection_lost_before_the_commit_is_no_reason_to_give_up(postgres_database: Database) -> None:
    attempts = []

    def work(connection: Connection) -> None:
        attempts.append(1)
        add(connection)
        if len(attempts) == 1:
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    postgres_database.transact_now(work, once=True)
    assert len(attempts) == 2
    assert names(postgres_database) == ["one"]


def test_of_two_in_each_others_way_both_get_through(postgres_database: Database) -> None:
    database = postgres_database
    for name in ("a", "b"):
        database.transact_now(lambda connection, name=name: add(connection, name))
    locked = {"a": Event(), "b": Event()}

    def take(connection: Connection, first: str, second: str) -> None:
        lock = text("UPDATE workers SET expires_at = expires_at + 1 WHERE id = :id")
        connection.execute(lock, {"id": first})
        locked[first].set()
        assert locked[second].wait(10)
        connection.execute(lock, {"id": second})

    threads = [
        Thread(target=database.transact_now, args=(lambda c, a=a, b=b: take(c, a, b),)) for a, b in ("ab", "ba")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert column(database, workers, "expires_at") == [2, 2]


def test_a_session_that_stops_in_the_middle_loses_its_locks(postgres_database: Database) -> None:
    """Whoever is suspended while it holds a run's row must not keep others from taking the run over."""
    database = postgres_database
    database.transact_now(add)
    with database.write_engine.connect() as suspended:
        suspended.exec_driver_sql("SET idle_in_transaction_session_timeout = '100ms'")
        suspended.execute(text("UPDATE workers SET expires_at = 1"))
        database.transact_now(lambda connection: connection.execute(text("UPDATE workers SET expires_at = 2")))
        with pytest.raises(DBAPIError) as caught:
            suspended.execute(text("SELECT 1"))
        assert trouble_of(caught.value) == "unavailable"
        suspended.invalidate()
    assert column(database, workers, "expires_at") == [2]
