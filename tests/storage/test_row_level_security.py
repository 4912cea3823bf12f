"""Row-level security on Postgres: the second lock, for the day on which a query forgets its tenant."""

from __future__ import annotations

import psycopg
import pytest
from postgres import PostgresServer, for_all_tenants
from sqlalchemy import Connection, delete, insert, select, text, update
from sqlalchemy.exc import ProgrammingError
from stored_runs import create, new_key, store_of

from app.storage.database import Database
from app.storage.postgres import is_above_security
from app.storage.tables import metadata, notes, runs


def ids(connection: Connection) -> list[str]:
    """Ask for the runs of all tenants, as a query does that has forgotten its predicate."""
    return list(connection.execute(select(runs.c.id).order_by(runs.c.id)).scalars())


async def test_a_query_that_forgets_its_tenant_sees_nobody_elses_rows(postgres_database: Database) -> None:
    database = postgres_database
    ours, theirs = new_key("ours"), new_key("theirs")
    for key in (ours, theirs):
        await create(store_of(database), key)
    assert await database.read(ids, "ours") == [ours.run_id]
    assert await database.read(ids, "theirs") == [theirs.run_id]
    assert await database.read(ids, "nobody") == []
    assert await database.read(ids) == sorted([ours.run_id, theirs.run_id])


async def test_what_is_written_for_one_tenant_changes_nobody_elses_rows(postgres_database: Database) -> None:
    database = postgres_database
    ours, theirs = new_key("ours"), new_key("theirs")
    for key in (ours, theirs):
        await create(store_of(database), key)

    def change(connection: Connection) -> int:
        return connection.execute(update(runs).values(priority=7)).rowcount

    def forge(connection: Connection) -> None:
        row = {"tenant": "theirs", "proposal_id": "P", "number": 1, "note": "ours", "created_at": 0}
        connection.execute(insert(notes).values(**row))

    assert await database.transact(change, "ours") == 1
    assert await database.transact(lambda connection: connection.execute(delete(notes)).rowcount, "ours") == 0
    with pytest.raises(ProgrammingError, match="row-level security"):
        await database.transact(forge, "ours")
    assert await database.read(ids, "ours") == [ours.run_id]  # also after what was rolled back


async def test_after_a_transaction_was_rolled_back_its_session_sees_what_the_next_one_may(
    postgres_database: Database,
) -> None:
    """What a session is told in a transaction goes with it; else one tenant would see another's rows."""
    database = postgres_database
    ours, theirs = new_key("ours"), new_key("theirs")
    for key in (ours, theirs):
        await create(store_of(database), key)

    def fail(connection: Connection) -> None:
        assert ids(connection) == [theirs.run_id]
        raise RuntimeError

    for _ in range(3):
        assert await database.transact(ids, "ours") == [ours.run_id]
        with pytest.raises(RuntimeError):
            await database.transact(fail, "theirs")
        assert await database.read(ids, "theirs") == [theirs.run_id]
        assert await database.transact(ids, "ours") == [ours.run_id]


def test_every_table_with_a_tenant_is_locked_for_its_owner_too(postgres_database: Database) -> None:
    locked = text("SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity")
    found = set(postgres_database.read_now(lambda connection: connection.execute(locked).scalars().all()))
    assert found == {table.name for table in metadata.tables.values() if "tenant" in table.c}


async def test_a_session_that_names_no_tenant_sees_nothing(
    postgres: PostgresServer, postgres_database: Database, postgres_url: str
) -> None:
    await create(store_of(postgres_database))
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT id FROM runs").fetchall() == []
    with psycopg.connect(for_all_tenants(postgres_url)) as connection:
        assert len(connection.execute("SELECT id FROM runs").fetchall()) == 1


def test_a_role_that_is_above_it_is_known(postgres: PostgresServer, postgres_database: Database) -> None:
    assert postgres_database.read_now(is_above_security) is False
    assert postgres_database.conninfo is not None
    name = postgres_database.conninfo.partition("@/")[2].partition("?")[0]
    above = Database.open(None, postgres.admin_url(name), patience_s=5)  # type: ignore[arg-type]
    try:
        assert above.read_now(is_above_security) is True
    finally:
        above.close()
