"""Runs in a real database on disk, for the tests of the commands."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import update

from app.agent.events import Event, ModelDecided, RunFinished, RunStarted, Step, ToolCompleted, ToolIntended
from app.queues.in_process import InProcessQueue
from app.runs.chain import GENESIS
from app.runs.codec import store
from app.runs.models import NewRun, RunKey, StoredEvent
from app.storage.database import FILE_NAME, Database
from app.storage.runs import SqlRunStore
from app.storage.tables import runs

RUN = "019aab7e-5c1b-7e07-9d5c-3f0a9a1b2c3d"
AT = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
BIG = 10**4300 - 1

HAPPENED: list[Event] = [
    RunStarted("Calculate 6*7", None, ("math",)),
    ModelDecided(1, "a\u2028b \U0001f600"),
    ToolIntended(1, "math", {"expression": "6*7"}),
    ToolCompleted(Step(1, "math", {"expression": "6*7"}, {"result": 2**53 + 1, "big": BIG}, None, AT)),
    RunFinished("success", "It is 42."),
]


def chain_of(happened: list[Event], run_id: str = RUN) -> list[StoredEvent]:
    events: list[StoredEvent] = []
    for number, event in enumerate(happened, 1):
        events.append(store(run_id, number, events[-1].hash if events else GENESIS, AT, event))
    return events


def keep(
    data_dir: Path, run_id: str = RUN, happened: list[Event] = HAPPENED, url: str | None = None
) -> list[StoredEvent]:
    """Write a run into the database of that directory as a server would, and return its events."""
    events = chain_of(happened, run_id)
    database = Database.open(data_dir, url)
    try:
        new = NewRun(RunKey("default", run_id), owner="a server that is gone")
        asyncio.run(SqlRunStore(database, InProcessQueue()).create(new, events, None, None))
        if isinstance(happened[-1], RunFinished):
            ended = update(runs).where(runs.c.id == run_id)
            values = {"status": happened[-1].status, "finished_at": runs.c.created_at, "steps": 1}
            database.transact_now(lambda connection: connection.execute(ended.values(values)))
    finally:
        database.close()
    return events


def change(data_dir: Path, statement: str, *values: object) -> None:
    """Do what somebody with access to the file can do: the triggers are no obstacle to them."""
    with sqlite3.connect(data_dir / FILE_NAME) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute(statement, values)
        for _, sql in triggers:
            connection.execute(sql)
    connection.close()
