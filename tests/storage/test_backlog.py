"""What the database says of the backlog, and how it finds that out."""

from __future__ import annotations

from datetime import UTC, datetime

from durable_runs import House
from fakes import ScriptedModel, answer
from sqlalchemy import Connection, text

from app.agent.core import Agent
from app.runs.backlog import Backlog
from app.storage.backlog import SqlBacklog, select_backlog
from app.storage.database import Database


async def test_the_backlog_is_what_is_stored(database: Database) -> None:
    async with House(database, Agent(ScriptedModel(answer()))) as house:
        source = SqlBacklog(database)
        assert await source.read() == Backlog()
        keys = [await house.submit() for _ in range(4)]
        await house.submit(not_before=datetime(2126, 1, 1, tzinfo=UTC))
        house.change(keys[0], created_at=1_000_000)
        house.change(keys[1], status="waiting")
        house.change(keys[2], status="running")
        await house.execute(keys[3])
        backlog = await source.read()
        assert (backlog.queued, backlog.running, backlog.waiting) == (1, 1, 1)
        assert backlog.oldest_queued_s > 365 * 86_400


async def test_it_is_counted_in_the_index_of_unfinished_runs(sqlite_database: Database) -> None:
    def plan(connection: Connection) -> str:
        statement = select_backlog().compile(connection, compile_kwargs={"literal_binds": True})
        return str(connection.execute(text(f"EXPLAIN QUERY PLAN {statement}")).all())

    assert "SEARCH runs USING INDEX runs_unfinished (status=? AND due_at<?)" in await sqlite_database.read(plan)
