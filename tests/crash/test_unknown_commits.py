"""What becomes of runs when a COMMIT is not answered, and of the journal when two own a run at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from crash.checks import contents
from crash.proxy import Cut, CuttingProxy
from postgres import PostgresServer, for_all_tenants
from pydantic import SecretStr

from app.agent.events import ModelRequested, RunStarted
from app.bootstrap import open_runs
from app.config import Settings
from app.errors import FencedError
from app.runs.chain import Head, verify
from app.runs.feed import EventFeed
from app.runs.journal import DurableJournal
from app.runs.models import Claim, NewRun, RunKey, RunRequest
from app.runs.service import RunService
from app.storage.database import Database
from app.storage.runs import SqlRunStore
from app.storage.writer import GroupWriter

GOAL = "Calculate 6*7 and add a note to PROP-2025-001: 'Budget approved'"
COMMITS = 9
"""More than a run makes."""

SLOW_COMMIT = """
CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.03); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON events
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION be_slow();
"""
"""What makes the server take its time at a COMMIT, so that others ask about it before it is done."""


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[tuple[CuttingProxy, Path]]:
    with TemporaryDirectory(prefix="pg-proxy-") as name:
        listening = CuttingProxy(Path(name), postgres.directory)
        yield listening, Path(name)
        listening.close()


@asynccontextmanager
async def _runs_through(url: str, directory: Path, postgres: PostgresServer) -> AsyncGenerator[RunService, None]:
    through = url.replace(str(postgres.directory), str(directory))
    assert through != url
    async with open_runs(Settings(database_url=SecretStr(through)), executes=True) as runs:
        yield runs


@pytest.mark.parametrize("how", ["before", "during", "after"])
async def test_a_commit_that_is_not_answered_is_made_once(
    postgres: PostgresServer, postgres_url: str, proxy: tuple[CuttingProxy, Path], how: Cut
) -> None:
    cutting, directory = proxy
    with psycopg.connect(postgres_url) as connection:
        connection.execute(SLOW_COMMIT)
    async with _runs_through(postgres_url, directory, postgres) as runs:
        for number in range(1, COMMITS):
            cutting.cut_at(number, how)
            run = await runs.submit(RunRequest(GOAL))
            ended = await runs.wait(run.run_id, 30)
            assert (ended.status, ended.steps) == ("success", 2), f"{how} COMMIT {number}"
    assert cutting.cuts >= 4
    _in_order(postgres_url, COMMITS - 1)


@pytest.mark.parametrize("how", ["before", "during", "after"])
async def test_many_runs_in_one_commit_are_all_told_the_truth(
    postgres: PostgresServer, postgres_url: str, proxy: tuple[CuttingProxy, Path], how: Cut
) -> None:
    cutting, directory = proxy
    with psycopg.connect(postgres_url) as connection:
        connection.execute(SLOW_COMMIT)
    async with _runs_through(postgres_url, directory, postgres) as runs:
        submitted = [await runs.submit(RunRequest(GOAL)) for _ in range(4)]
        for number in range(1, 4):
            cutting.cut_at(number, how)
            submitted += await asyncio.gather(*[runs.submit(RunRequest(GOAL)) for _ in range(3)])
        ended = await asyncio.gather(*[runs.wait(run.run_id, 30) for run in submitted])
        assert [run.status for run in ended] == ["success"] * len(ended)
    assert cutting.cuts == 3
    _in_order(postgres_url, len(submitted))


def _in_order(url: str, count: int) -> None:
    """Hold the journal to one chain a run, and the notes to one for each step that added one."""
    with psycopg.connect(for_all_tenants(url)) as connection:
        kept = contents(lambda query: connection.execute(query.encode()).fetchall())
    assert len(kept.runs) == count
    for run in kept.runs.values():
        assert verify(run.events, run.run_id, Head(run.head_hash, run.head_seq)) is None
    assert sorted((run_id, step) for _, _, _, run_id, step in kept.notes) == sorted((id_, 2) for id_ in kept.runs)
    assert [number for _, number, *_ in kept.notes] == list(range(1, count + 1))


async def _append(journal: DurableJournal) -> None:
    journal.append(ModelRequested(2))
    await journal.commit()


@pytest.mark.parametrize("zombie_first", [True, False])
async def test_a_zombies_uncommitted_append_and_a_take_over_make_one_chain(
    postgres_url: str, zombie_first: bool
) -> None:
    database, other = Database.open(Path(), postgres_url), Database.open(Path(), postgres_url)
    store, others_store = SqlRunStore(database, None), SqlRunStore(other, None)  # type: ignore[arg-type]
    holding, go_on = threading.Event(), threading.Event()

    def hold(connection: object, units: object) -> None:
        holding.set()
        go_on.wait(20)

    writer = GroupWriter(database, EventFeed(store), hold)
    writer.start()
    key = RunKey("default", "run-1")
    zombie = DurableJournal(writer, NewRun(key, owner="zombie"), lambda: datetime.now(UTC))
    go_on.set()
    zombie.append(RunStarted("A goal", None, ()))
    await zombie.commit()
    go_on.clear()
    holding.clear()

    claim: Claim | object = None
    if not zombie_first:
        claim = await others_store.claim(key, "other", statuses=("running",))
    zombie.append(ModelRequested(1))
    appended = asyncio.create_task(zombie.commit())
    if zombie_first:
        await asyncio.to_thread(holding.wait, 20)  # its rows are written and not committed
        claiming = asyncio.create_task(others_store.claim(key, "other", statuses=("running",)))
        await asyncio.sleep(0.05)
        assert not claiming.done()  # the row is the zombie's until it commits
        go_on.set()
        claim = await claiming
        await appended
    else:
        go_on.set()
        with pytest.raises(FencedError):
            await appended
    assert isinstance(claim, Claim)
    assert claim.head_seq == (2 if zombie_first else 1)
    with pytest.raises(FencedError):
        await _append(zombie)
    events = await store.events(key, 0, 100)
    assert verify(events, key.run_id, Head(claim.head_hash, claim.head_seq)) is None
    await writer.stop()
    database.close()
    other.close()
