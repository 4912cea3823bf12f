"""What is written stays as it is, whoever has the database: the triggers."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from stored_runs import create, finish, new_key, set_run, store_of

from app.runs.models import RunKey
from app.storage.database import Database
from app.storage.notes import SqlNoteStore


def execute(database: Database, statement: str, **values: object) -> None:
    database.transact_now(lambda connection: connection.execute(text(statement), values))


def refused(database: Database, statement: str, **values: object) -> None:
    with pytest.raises(DBAPIError, match="append-only"):
        execute(database, statement, **values)


def count(database: Database, table: str) -> int:
    statement = text(f"SELECT count(*) FROM {table}")  # noqa: S608 - a name from this file
    return int(database.read_now(lambda connection: connection.execute(statement).scalar_one()))


@pytest.fixture
async def run(database: Database) -> RunKey:
    key = await create(store_of(database))
    finish(database, key)
    return key


def test_an_event_cannot_be_changed(database: Database, run: RunKey) -> None:
    refused(database, "UPDATE events SET body = 'forged' WHERE run_id = :id AND seq = 1", id=run.run_id)
    refused(database, "UPDATE events SET seq = 9 WHERE run_id = :id AND seq = 1", id=run.run_id)


def test_an_event_cannot_be_deleted(database: Database, run: RunKey) -> None:
    refused(database, "DELETE FROM events WHERE run_id = :id AND seq = 3", id=run.run_id)
    refused(database, "DELETE FROM events")
    assert count(database, "events") == 3


def test_an_event_of_no_run_cannot_be_deleted(database: Database, run: RunKey) -> None:
    execute(database, "DELETE FROM runs")
    refused(database, "DELETE FROM events")


def test_the_events_of_a_pruned_run_can(database: Database, run: RunKey) -> None:
    set_run(database, run, pruned_at=1)
    execute(database, "DELETE FROM events WHERE run_id = :id", id=run.run_id)
    assert count(database, "events") == 0


async def test_that_one_run_is_pruned_frees_no_other(database: Database, run: RunKey) -> None:
    other = await create(store_of(database), new_key("another tenant"))
    same_id = await create(store_of(database), RunKey("another tenant", run.run_id))
    set_run(database, run, pruned_at=1)
    for key in (other, same_id):
        refused(
            database,
            "DELETE FROM events WHERE tenant = :tenant AND run_id = :id",
            tenant=key.tenant,
            id=key.run_id,
        )


def test_even_a_pruned_runs_events_cannot_be_changed(database: Database, run: RunKey) -> None:
    set_run(database, run, pruned_at=1)
    refused(database, "UPDATE events SET body = 'forged' WHERE run_id = :id", id=run.run_id)


def test_a_note_cannot_be_changed_or_deleted(database: Database) -> None:
    SqlNoteStore(database).add_note("PROP-2025-001", "as it was")
    refused(database, "UPDATE notes SET note = 'forged'")
    refused(database, "DELETE FROM notes")
    assert SqlNoteStore(database).get_notes("PROP-2025-001") == ["as it was"]


NOTE = "(tenant, proposal_id, number, note, created_at) VALUES ('default', 'PROP-2025-001', 1, 'forged', 0)"


def test_nothing_is_replaced_in_sqlite(sqlite_database: Database) -> None:
    SqlNoteStore(sqlite_database).add_note("PROP-2025-001", "as it was")
    refused(sqlite_database, f"INSERT OR REPLACE INTO notes {NOTE}")
    refused(sqlite_database, f"INSERT INTO notes {NOTE} ON CONFLICT DO UPDATE SET note = 'forged'")


async def test_no_event_is_replaced_in_sqlite(sqlite_database: Database) -> None:
    key = await create(store_of(sqlite_database))
    refused(
        sqlite_database,
        "INSERT OR REPLACE INTO events (tenant, run_id, seq, prev_hash, hash, body) "
        "VALUES ('default', :id, 1, x'00', x'00', 'forged')",
        id=key.run_id,
    )


def test_nothing_is_truncated_or_overwritten_in_postgres(postgres_database: Database) -> None:
    SqlNoteStore(postgres_database).add_note("PROP-2025-001", "as it was")
    for table in ("notes", "events", "runs, events"):
        refused(postgres_database, f"TRUNCATE {table}")
    refused(
        postgres_database,
        f"INSERT INTO notes {NOTE} ON CONFLICT (tenant, proposal_id, number) DO UPDATE SET note = 'forged'",
    )
