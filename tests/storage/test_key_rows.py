"""API keys in both databases: what is kept of them, who may make the first, and what two processes do at once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import select, text, update
from stored_runs import another, leave_a_commit_unanswered

from app.auth.key_service import KeyService
from app.auth.keys import NO_PROOF, Pepper, Proof
from app.auth.ports import NewKey
from app.auth.principal import Limits
from app.errors import ConfigurationError
from app.permissions import ArgumentRule, Permissions
from app.storage.database import Database
from app.storage.keys import SqlKeyStore
from app.storage.tables import api_keys, key_pepper, metadata

ID, CHILD, GRANDCHILD, OTHER = (digit * 16 for digit in "abcd")
PEPPER = Pepper(b"p" * 32)
SOON = datetime(2126, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
PERMISSIONS = Permissions.of(
    ["runs:write", "tools:math"], [ArgumentRule.parse("governance_note:proposal_id=PROP-2025-*")]
)


def new(key_id: str = ID, parent: str | None = None, tenant: str = "default", **values: Any) -> NewKey:
    key = NewKey(key_id, tenant, "ci", PERMISSIONS, None, parent, None, b"d" * 32, PEPPER.fingerprint)
    return replace(key, **values)


@pytest.fixture
def store(database: Database) -> SqlKeyStore:
    return SqlKeyStore(database)


def change(database: Database, key_id: str, **values: object) -> None:
    statement = update(api_keys).where(api_keys.c.id == key_id).values(**values)
    database.transact_now(lambda connection: connection.execute(statement))


async def test_a_key_is_read_as_it_was_added(store: SqlKeyStore) -> None:
    limits = Limits("600/minute", 5, None, 10**12)
    added = await store.add(new(limits=limits, expires_at=SOON, name="Schlüssel 🔑"), 1000)
    kept = await store.find(ID)
    assert kept is not None
    assert kept.key == added
    assert (kept.key.permissions, kept.key.limits, kept.key.expires_at) == (PERMISSIONS, limits, SOON)
    assert (kept.key.name, kept.key.rotated_at, kept.key.revoked_at) == ("Schlüssel 🔑", None, None)
    assert abs(kept.key.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert kept.ancestors == ()
    assert await store.proof(ID) == Proof(b"d" * 32)
    assert (await store.find(OTHER), await store.proof(OTHER)) == (None, NO_PROOF)


async def test_a_key_is_found_with_all_that_it_descends_from(store: SqlKeyStore) -> None:
    await store.add(new(), 1000)
    await store.add(new(CHILD, ID), 1000)
    await store.add(new(GRANDCHILD, CHILD), 1000)
    kept = await store.find(GRANDCHILD)
    assert kept is not None
    assert [key.id for key in kept.ancestors] == [CHILD, ID]


async def test_keys_are_listed_by_tenant_the_revoked_last(store: SqlKeyStore, database: Database) -> None:
    for key_id in (ID, CHILD, OTHER):
        await store.add(new(key_id), 1000)
    await store.add(new(GRANDCHILD, tenant="other"), 1000)
    change(database, ID, created_at=3)
    change(database, CHILD, created_at=1)
    change(database, OTHER, created_at=2)
    await store.revoke("default", ID)
    assert [key.id for key in await store.newest("default", 10)] == [OTHER, CHILD, ID]
    assert [key.id for key in await store.newest("other", 10)] == [GRANDCHILD]
    assert len(await store.newest(None, 10)) == 4
    assert len(await store.newest(None, 3)) == 3


async def test_what_descends_from_a_key_falls_with_it(store: SqlKeyStore) -> None:
    await store.add(new(), 1000)
    await store.add(new(OTHER), 1000)
    await store.add(new(CHILD, ID), 1000)
    await store.add(new(GRANDCHILD, CHILD), 1000)
    assert await store.revoke("other", ID) is None
    first = await store.revoke("default", CHILD)
    assert first is not None
    revoked = [key.id for key in await store.newest("default", 10) if key.revoked_at]
    assert sorted(revoked) == [CHILD, GRANDCHILD]
    await store.revoke("default", ID)
    again = await store.revoke("default", CHILD)
    assert again == first
    assert [key.id for key in await store.newest("default", 10) if not key.revoked_at] == [OTHER]


async def test_a_rotation_changes_the_secret_and_nothing_else(store: SqlKeyStore) -> None:
    before = await store.add(new(limits=Limits(runs=3), expires_at=SOON), 1000)
    assert before is not None
    after = await store.rotate("default", ID, b"e" * 32, PEPPER.fingerprint, 60)
    assert after is not None
    assert after.rotated_at is not None
    assert replace(after, rotated_at=None) == before
    proof = await store.proof(ID)
    assert (proof.digest, proof.former) == (b"e" * 32, b"d" * 32)
    assert proof.former_until is not None
    left = proof.former_until - datetime.now(UTC)
    assert timedelta(seconds=50) < left <= timedelta(seconds=61)
    await store.rotate("default", ID, b"f" * 32, PEPPER.fingerprint, 0)
    assert await store.proof(ID) == Proof(b"f" * 32)


async def test_what_does_not_hold_is_not_rotated(store: SqlKeyStore, database: Database) -> None:
    for key_id in (ID, OTHER):
        await store.add(new(key_id), 1000)
    await store.revoke("default", ID)
    change(database, OTHER, expires_at=1)
    for tenant, key_id in (("default", ID), ("default", OTHER), ("other", ID), ("default", CHILD)):
        assert await store.rotate(tenant, key_id, b"e" * 32, PEPPER.fingerprint, 0) is None
    assert await store.proof(ID) == Proof(b"d" * 32)


async def test_a_tenant_has_so_many_keys_that_hold(store: SqlKeyStore, database: Database) -> None:
    assert await store.add(new(), 1)
    assert await store.add(new(CHILD), 1) is None
    assert await store.add(new(CHILD, tenant="other"), 1)
    change(database, ID, expires_at=1)
    assert await store.add(new(OTHER), 1)
    await store.revoke("default", OTHER)
    assert await store.add(new(GRANDCHILD), 1)


async def test_a_first_key_is_made_only_while_none_holds(store: SqlKeyStore, database: Database) -> None:
    assert await store.add_first(new())
    assert await store.add_first(new(OTHER, tenant="other")) is None
    await store.add(new(CHILD, ID), 1000)
    change(database, ID, expires_at=1)
    assert await store.add_first(new(OTHER, tenant="other"))
    await store.revoke("other", OTHER)
    assert await store.add_first(new(GRANDCHILD))


class Given:
    def __init__(self, pepper: Pepper = PEPPER) -> None:
        self._pepper = pepper

    def pepper(self) -> Pepper:
        return self._pepper


@pytest.fixture
def second(database: Database, data_dir: Path) -> Iterator[Database]:
    """The same database, as another process has it open."""
    if database.is_sqlite:
        found = Database.open(data_dir, patience_s=5)
        yield found
        found.close()
    else:
        with another(database) as found:
            yield found


async def test_of_processes_that_make_the_first_key_at_once_one_does(database: Database, second: Database) -> None:
    services = [KeyService(SqlKeyStore(of), Given()) for of in (database, second) * 3]
    for _ in range(4):  # the pepper is noted from the second time on
        made = await asyncio.gather(*(service.ensure_admin_key() for service in services))
        assert sum(written is not None for written in made) == 1
        (holding,) = [key for key in await services[0].all() if key.revoked_at is None]
        await services[0].revoke(holding.id)


async def test_keys_that_two_processes_make_at_once_are_all_kept(database: Database, second: Database) -> None:
    services = [KeyService(SqlKeyStore(of), Given()) for of in (database, second) * 5]
    made = await asyncio.gather(*(service.create("ci", PERMISSIONS) for service in services))
    assert {one.key.id for one in made} == {key.id for key in await SqlKeyStore(database).newest(None, 20)}


async def test_a_commit_that_nobody_answered_makes_one_key(emptied_postgres_database: Database) -> None:
    store = SqlKeyStore(emptied_postgres_database)
    happened = leave_a_commit_unanswered(emptied_postgres_database, commit=True)
    assert await store.add_first(new())
    assert happened
    assert len(await store.newest(None, 10)) == 1


async def test_a_rotation_that_nobody_answered_keeps_its_overlap(emptied_postgres_database: Database) -> None:
    store = SqlKeyStore(emptied_postgres_database)
    await store.add(new(), 1000)
    happened = leave_a_commit_unanswered(emptied_postgres_database, commit=True)
    assert await store.rotate("default", ID, b"e" * 32, PEPPER.fingerprint, 60)
    assert happened
    assert (await store.proof(ID)).former == b"d" * 32


async def test_no_key_is_made_with_another_pepper_while_one_holds(store: SqlKeyStore, database: Database) -> None:
    other = Pepper(b"q" * 32).fingerprint
    assert await store.has_keys_of(other) is None
    await store.add(new(), 1000)
    assert await store.has_keys_of(PEPPER.fingerprint) is True
    assert await store.has_keys_of(other) is False
    assert await store.has_keys_of(None) is False
    for refused in (
        store.add(new(OTHER, fingerprint=other), 1000),
        store.add_first(new(OTHER, fingerprint=other)),
        store.rotate("default", ID, b"e" * 32, other, 0),
    ):
        with pytest.raises(ConfigurationError, match=r"KEY_PEPPER: .* another pepper"):
            await refused
    await store.revoke("default", ID)
    assert await store.has_keys_of(other) is None
    assert await store.add(new(OTHER, fingerprint=other), 1000)
    assert await store.has_keys_of(other) is True
    rows = database.read_now(lambda connection: connection.execute(select(key_pepper.c.fingerprint)).all())
    assert [row.fingerprint for row in rows] == [other]


@pytest.mark.parametrize("damaged", ["{}", '{"scopes":["*"]}', '{"scopes":"*","rules":[]}', "null", ""])
async def test_permissions_that_are_damaged_are_nobodys(
    store: SqlKeyStore, database: Database, damaged: str
) -> None:
    await store.add(new(), 1000)
    change(database, ID, permissions=damaged)
    with pytest.raises(ValueError, match=r"JSON|Object|Expected|truncated"):
        await store.find(ID)


def content_of(directory: Path) -> bytes:
    """Return all that a database has on disk, of which the log is not empty."""
    files = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    assert any(name.endswith("-wal") and content for name, content in files.items())
    return b"".join(files.values())


async def test_the_secret_is_in_no_file_of_the_database(sqlite_database: Database, data_dir: Path) -> None:
    service = KeyService(SqlKeyStore(sqlite_database), Given())
    made = await service.create("ci", PERMISSIONS)
    rotated = await service.rotate(made.key.id, 60)
    content = content_of(data_dir)
    assert made.key.id.encode() in content
    for written in (made.written, rotated.written):
        secret = written.rpartition("_")[2]
        assert secret.encode() not in content
        assert bytes.fromhex(secret) not in content
    assert b"p" * 32 not in content


async def test_the_secret_is_in_no_row_of_postgres(emptied_postgres_database: Database) -> None:
    service = KeyService(SqlKeyStore(emptied_postgres_database), Given())
    made = await service.create("ci", PERMISSIONS)
    shown = emptied_postgres_database.read_now(
        lambda connection: [
            str(row)
            for table in metadata.sorted_tables
            for row in connection.execute(text(f"SELECT to_jsonb(t) FROM {table.name} AS t"))  # noqa: S608
        ]
    )
    assert any(made.key.id in row for row in shown)
    assert not any(made.written.rpartition("_")[2] in row for row in shown)


async def test_the_times_of_a_key_are_the_databases(sqlite_database: Database, data_dir: Path) -> None:
    await SqlKeyStore(sqlite_database).add(new(), 1000)
    with sqlite3.connect(data_dir / "agent-core.db") as connection:
        ((created_at,),) = connection.execute("SELECT created_at FROM api_keys").fetchall()
    connection.close()
    assert abs(created_at / 1e6 - datetime.now(UTC).timestamp()) < 60
