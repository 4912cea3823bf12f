"""A full queue: how fast workers empty it, and whether each run ends, and ends once."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, Final

from pydantic import SecretStr
from sqlalchemy import Connection, func, select
from sqlalchemy import Row as Found

from app.api.sse import event_type
from app.bootstrap import open_runs
from app.config import Settings
from app.runs.chain import Head, verify
from app.runs.models import RunRequest, StoredEvent
from app.storage.database import Database
from app.storage.tables import events, runs
from benchmarks.databases import RAW, postgres_url, raw_commits, serving_postgres
from benchmarks.durable import run_as_a_server_does
from benchmarks.place import new_directory
from benchmarks.row import Row
from benchmarks.server import WORKER, started

GOAL: Final = "Calculate the result of (100 + 50) * 2"
WORKERS: Final = 3
SUBMITTERS: Final = 32
LIMIT_S: Final = 900.0
LOOK_S: Final = 0.2


def measure(*, quick: bool, postgres: bool) -> list[Row]:
    """Return the rows of one process over SQLite and, if wanted, of three workers over Postgres."""
    number = 200 if quick else 10_000
    with new_directory() as directory:
        settings = Settings(_env_file=None, data_dir=directory, database_url=None)
        rows = _embedded(settings, number)
    if postgres:
        with serving_postgres() as server, postgres_url(server) as url:
            settings = Settings(_env_file=None, database_url=SecretStr(url))
            rows += _scaled_out(settings, url, number)
    return rows


def _embedded(settings: Settings, number: int) -> list[Row]:
    asyncio.run(submit(settings, number))

    async def drain() -> None:
        async with open_runs(settings):
            await asyncio.to_thread(_wait_until_drained, looking)

    looking = Database.open(settings.data_dir, readonly=True)
    try:
        run_as_a_server_does(drain)
        rate, missing = _rate(looking), lost(looking, number)
    finally:
        looking.close()
    with new_directory() as directory:
        raw = _raw(Database.open(directory))
    return _rows("SQLite", "one process", number, rate, raw, missing)


def _scaled_out(settings: Settings, url: str, number: int) -> list[Row]:
    asyncio.run(submit(settings, number))
    looking = Database.open(Path(), url)
    with ExitStack() as workers:
        for _ in range(WORKERS):
            workers.enter_context(started(WORKER, DATABASE_URL=url))
        _wait_until_drained(looking)
    rate, missing = _rate(looking), lost(looking, number)
    return _rows("Postgres", f"{WORKERS} workers", number, rate, _raw(looking), missing)


async def submit(settings: Settings, number: int) -> None:
    """Fill the queue with so many runs; nobody carries them out yet."""
    async with open_runs(settings, executes=False) as service:
        left = iter(range(number))

        async def submitter() -> None:
            for _ in left:
                await service.submit(RunRequest(GOAL))

        await asyncio.gather(*(submitter() for _ in range(SUBMITTERS)))


def _wait_until_drained(database: Database) -> None:
    def unfinished(connection: Connection) -> int:
        return connection.execute(select(func.count()).where(runs.c.finished_at.is_(None))).scalar_one()

    give_up_at = perf_counter() + LIMIT_S
    while left := database.read_now(unfinished):
        if perf_counter() > give_up_at:
            raise RuntimeError(f"{left} runs have not ended")
        sleep(LOOK_S)


def _rate(database: Database) -> float:
    """Return how many runs ended a second from the start of the first to the end of the last."""

    def span(connection: Connection) -> tuple[int, int]:
        microseconds = func.max(runs.c.finished_at) - func.min(runs.c.started_at)
        found = connection.execute(select(func.count(), microseconds).select_from(runs)).one()
        return found[0], found[1]

    number, microseconds = database.read_now(span)
    return number / microseconds * 1e6


def lost(database: Database, number: int) -> int:
    """Return how many of so many runs are missing, did not succeed, ended twice or have a broken chain."""

    def whole(connection: Connection) -> int:
        return sum(_is_whole(connection, run) for run in connection.execute(select(runs)).all())

    return number - database.read_now(whole)


def _is_whole(connection: Connection, run: Found[Any]) -> bool:
    of_run = events.select().where(events.c.run_id == run.id).order_by(events.c.seq)
    stored = [StoredEvent(row.seq, row.body, row.prev_hash, row.hash) for row in connection.execute(of_run)]
    ends = sum(event_type(event.body) == "run.finished" for event in stored)
    is_bound = verify(stored, run.id, Head(run.head_hash, run.head_seq)) is None
    return run.status == "success" and ends == 1 and is_bound


def _raw(database: Database) -> float:
    try:
        return raw_commits(database, 1.0)
    finally:
        database.close()


def _rows(name: str, who: str, number: int, rate: float, raw: float, missing: int) -> list[Row]:
    return [
        Row(f"{name}: {number:,} queued runs drained by {who}", "/s", rate, raw, RAW),
        Row(f"{name}: of these lost, ended twice, or with a broken chain", "", missing, target=0),
    ]
