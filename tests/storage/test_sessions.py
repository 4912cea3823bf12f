"""What becomes of Postgres sessions: of those that are lost, and of those whose process is taken for dead."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import Connection, func, insert, select, text
from stored_runs import create, new_key, store_of

from app.errors import StorageUnavailableError
from app.runs.models import RunKey, RunStatus
from app.storage.database import Database
from app.storage.dialect import now_us
from app.storage.tables import runs, workers
from app.storage.writer import GroupWriter


class Silence:
    def committed(self, key: RunKey, events: object, status: RunStatus) -> None: ...

    def changed(self, key: RunKey) -> None: ...


def cut_once(connection: Connection, cut: list[int]) -> int:
    """Lose the connection in the middle of a transaction, the first time."""
    if not cut:
        cut.append(1)
        connection.execute(select(func.pg_terminate_backend(func.pg_backend_pid())))
    return int(connection.execute(text("SELECT 7")).scalar_one())


async def test_a_lost_connection_is_a_failure_like_another_also_beside_a_writer(
    postgres_database: Database,
) -> None:
    writer = GroupWriter(postgres_database, Silence())  # which watches over the engine's transactions
    writer.start()
    cut: list[int] = []
    assert await postgres_database.transact(lambda connection: cut_once(connection, cut)) == 7
    await writer.stop()


async def test_the_locks_of_a_process_that_is_taken_for_dead_do_not_outlive_it(
    postgres_url: str, postgres_database: Database
) -> None:
    store, key = store_of(postgres_database), new_key()
    await create(store, key)
    sleeper = Database.declare(Path(), postgres_url, owner="sleeper")
    locked, wake = Event(), Event()

    def hold(connection: Connection) -> None:
        connection.execute(select(runs.c.id).with_for_update())
        locked.set()
        wake.wait(20)

    holding = asyncio.create_task(asyncio.to_thread(sleeper.transact_now, hold, once=True))
    await asyncio.to_thread(locked.wait, 10)
    expired = insert(workers).values(id="sleeper", expires_at=now_us() - 1)
    await postgres_database.transact(lambda connection: connection.execute(expired))
    await store.unclaimed(10, orphaned_only=True)
    async with asyncio.timeout(3):
        await store.request_cancel(key)  # it changes the row that was locked
    wake.set()
    with pytest.raises(StorageUnavailableError):
        await holding
    sleeper.close()
