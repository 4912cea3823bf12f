"""The reconcile pass: workers that die, workers that only seemed to, and runs that have no job."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace
from postgres import PostgresServer
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job as QueuedJob
from procrastinate.jobs import Status
from procrastinate.manager import JobManager
from queue_fixtures import FAST, Deliveries, Unclaimed, consuming, defer, job, rows, until

from app.errors import StorageUnavailableError
from app.queues.link import DEFAULT_PACE, QUEUE, Link, link
from app.queues.procrastinate import ProcrastinateQueue
from app.queues.reconcile import LOCK, Pass, Reconciler
from app.runs.chain import GENESIS
from app.runs.models import NewRun, RunKey, StoredEvent
from app.storage.database import Database
from app.storage.runs import SqlRunStore

WORKERS = "SELECT id FROM procrastinate_workers ORDER BY id"


@pytest.fixture
async def opened(postgres_url: str) -> AsyncIterator[Link]:
    async with link(postgres_url, FAST, 2) as found:
        yield found


def reconciler(url: str, store: Unclaimed, **options: Any) -> Reconciler:
    return Reconciler(url, store, FAST, **options)  # type: ignore[arg-type]


def statuses(url: str) -> list[tuple[str, str]]:
    return [(run_id, status) for _, run_id, status in rows(url)]


def silence(url: str, worker: int, seconds: float = 5) -> None:
    """Let a worker be as if it had died that long ago."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "UPDATE procrastinate_workers SET last_heartbeat = now() - make_interval(secs => %s) WHERE id = %s",
            (seconds, worker),
        )


async def take_and_die(url: str, opened: Link) -> tuple[int, QueuedJob]:
    """Be a worker that takes a job and is heard of no more."""
    worker = await opened.manager.register_worker()
    row = await opened.manager.fetch_job([QUEUE], worker)
    assert row is not None
    silence(url, worker)
    return worker, row


async def test_a_job_of_a_dead_worker_is_replaced_by_another_of_the_same_urgency(
    postgres_url: str, opened: Link
) -> None:
    defer(postgres_url, ProcrastinateQueue(postgres_url), job("r1", 7))
    _, row = await take_and_die(postgres_url, opened)
    assert await reconciler(postgres_url, Unclaimed()).reconcile_once(opened) == Pass(stalled=1, given=0)
    ((number, run_id, status, priority),) = rows(
        postgres_url, "SELECT id, args->>'run_id', status::text, priority FROM procrastinate_jobs"
    )
    assert (run_id, status, priority) == ("r1", "todo", 7)
    assert number != row.id


async def test_a_job_of_a_living_worker_is_left_alone(postgres_url: str, opened: Link) -> None:
    defer(postgres_url, ProcrastinateQueue(postgres_url), job("r1"))
    await opened.manager.fetch_job([QUEUE], await opened.manager.register_worker())
    assert await reconciler(postgres_url, Unclaimed()).reconcile_once(opened) == Pass(0, 0)
    assert statuses(postgres_url) == [("r1", "doing")]


async def test_a_second_job_while_the_first_was_under_way_and_the_death_of_its_worker_leave_one(
    postgres_url: str, opened: Link
) -> None:
    queue = ProcrastinateQueue(postgres_url)
    defer(postgres_url, queue, job("r1"))
    await take_and_die(postgres_url, opened)
    defer(postgres_url, queue, job("r1"))
    passes = reconciler(postgres_url, Unclaimed(orphaned=[job("r1")]))
    assert await passes.reconcile_once(opened) == Pass(stalled=1, given=0)
    assert statuses(postgres_url) == [("r1", "todo")]
    assert await passes.reconcile_once(opened) == Pass(0, 0)


async def test_two_deliveries_to_two_workers_that_both_die_leave_one(postgres_url: str, opened: Link) -> None:
    defer(postgres_url, ProcrastinateQueue(postgres_url), job("r1"), job("r1"))
    await take_and_die(postgres_url, opened)
    await take_and_die(postgres_url, opened)
    passes = reconciler(postgres_url, Unclaimed(orphaned=[job("r1")]))
    assert await passes.reconcile_once(opened) == Pass(stalled=2, given=0)
    assert statuses(postgres_url) == [("r1", "todo")]


async def test_a_worker_that_comes_back_to_life_cannot_finish_the_job_of_its_successor(
    postgres_url: str, opened: Link
) -> None:
    queue, successor = ProcrastinateQueue(postgres_url, FAST), Deliveries()
    defer(postgres_url, queue, job("r1"))
    _, its_row = await take_and_die(postgres_url, opened)
    passes = reconciler(postgres_url, Unclaimed())
    await passes.reconcile_once(opened)
    successor.may_end.clear()
    async with consuming(queue, successor):
        await until(lambda: successor.under_way)
        with pytest.raises(ConnectorException):
            await opened.manager.finish_job(its_row, Status.SUCCEEDED, delete_job=True)
        assert statuses(postgres_url) == [("r1", "doing")]
        successor.may_end.set()
    # and if the successor dies as well, the run is not forgotten
    defer(postgres_url, queue, job("r1"))
    await take_and_die(postgres_url, opened)
    with pytest.raises(ConnectorException):
        await opened.manager.finish_job(its_row, Status.SUCCEEDED, delete_job=True)
    assert await passes.reconcile_once(opened) == Pass(stalled=1, given=0)
    assert statuses(postgres_url) == [("r1", "todo")]


async def test_a_consumer_that_was_taken_for_dead_ends_its_job_in_silence_and_goes_on(
    postgres_url: str, opened: Link, caplog: pytest.LogCaptureFixture
) -> None:
    never_beats = replace(FAST, heartbeat_s=60)
    queue, execute = ProcrastinateQueue(postgres_url, never_beats), Deliveries(0.0)
    execute.may_end.clear()
    defer(postgres_url, queue, job("r1"))
    async with consuming(queue, execute):
        await until(lambda: execute.under_way)
        ((worker,),) = rows(postgres_url, WORKERS)
        silence(postgres_url, worker)
        assert await reconciler(postgres_url, Unclaimed()).reconcile_once(opened) == Pass(stalled=1, given=0)
        execute.may_end.set()
        await until(lambda: execute.ended == 3)  # its own again, and the one that replaced it
        await until(lambda: statuses(postgres_url) == [])
        await until(lambda: not [task for task in asyncio.all_tasks() if "_carry_out" in repr(task)])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_consumer_whose_worker_was_forgotten_gets_another(postgres_url: str) -> None:
    queue, execute = ProcrastinateQueue(postgres_url, replace(FAST, heartbeat_s=60)), Deliveries()
    async with consuming(queue, execute):
        await until(lambda: rows(postgres_url, WORKERS))
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("DELETE FROM procrastinate_workers")
        defer(postgres_url, queue, job("r1"))
        await until(lambda: execute.ids == ["r1"])


class OvertakenManager(JobManager):
    """What it finds stalled has ended by the time that it is told."""

    async def get_stalled_jobs(self, *args: Any, **options: Any) -> list[QueuedJob]:
        found = list(await super().get_stalled_jobs(*args, **options))
        for row in found:
            await self.finish_job(row, Status.SUCCEEDED, delete_job=True)
        return found


async def test_a_job_that_ends_while_it_is_found_to_be_stalled_breaks_off_no_pass(
    postgres_url: str, opened: Link
) -> None:
    defer(postgres_url, ProcrastinateQueue(postgres_url), job("r1"))
    await take_and_die(postgres_url, opened)
    overtaken = Link(opened.pool, OvertakenManager(opened.manager.connector))
    passes = reconciler(postgres_url, Unclaimed(orphaned=[job("r2")]))
    assert await passes.reconcile_once(overtaken) == Pass(stalled=1, given=1)
    assert statuses(postgres_url) == [("r1", "todo"), ("r2", "todo")]


async def test_a_run_whose_owner_is_dead_gets_a_job_at_once_and_only_one(postgres_url: str, opened: Link) -> None:
    passes = reconciler(postgres_url, Unclaimed(orphaned=[job("r1", 5), job("r2")]))
    assert await passes.reconcile_once(opened) == Pass(stalled=0, given=2)
    assert await passes.reconcile_once(opened) == Pass(0, 0)
    assert rows(postgres_url, "SELECT args->>'run_id', priority FROM procrastinate_jobs ORDER BY id") == [
        ("r1", 5),
        ("r2", 0),
    ]


async def test_runs_of_two_tenants_with_one_id_are_two(postgres_url: str, opened: Link) -> None:
    defer(postgres_url, ProcrastinateQueue(postgres_url), job("r1", tenant="a"))
    store = Unclaimed(orphaned=[job("r1", tenant="a"), job("r1", tenant="b")])
    assert await reconciler(postgres_url, store).reconcile_once(opened) == Pass(stalled=0, given=1)
    assert rows(postgres_url, "SELECT args->>'tenant' FROM procrastinate_jobs ORDER BY id") == [("a",), ("b",)]


async def test_a_queued_run_without_a_job_gets_one_when_that_has_lasted_for_a_while(
    postgres_url: str, opened: Link
) -> None:
    patient = reconciler(postgres_url, Unclaimed(queued=[job("r1")]), grace_s=60)
    assert [await patient.reconcile_once(opened) for _ in range(2)] == [Pass(0, 0)] * 2
    passes = reconciler(postgres_url, Unclaimed(queued=[job("r1")]), grace_s=0.1)
    assert await passes.reconcile_once(opened) == Pass(0, 0)
    await asyncio.sleep(0.1)
    assert await passes.reconcile_once(opened) == Pass(stalled=0, given=1)
    assert await passes.reconcile_once(opened) == Pass(0, 0)


async def test_a_queued_run_that_a_living_worker_keeps_without_claiming_it_gets_another_job(
    postgres_url: str, opened: Link
) -> None:
    defer(postgres_url, ProcrastinateQueue(postgres_url), job("r1"))
    await opened.manager.fetch_job([QUEUE], await opened.manager.register_worker())
    passes = reconciler(postgres_url, Unclaimed(queued=[job("r1")]), grace_s=0.1)
    assert await passes.reconcile_once(opened) == Pass(0, 0)
    await asyncio.sleep(0.1)
    assert await passes.reconcile_once(opened) == Pass(stalled=0, given=1)
    assert statuses(postgres_url) == [("r1", "doing"), ("r1", "todo")]


async def test_a_pass_is_bounded_and_the_next_goes_on(postgres_url: str, opened: Link) -> None:
    passes = reconciler(postgres_url, Unclaimed(orphaned=[job(f"r{number}") for number in range(5)]), at_once=2)
    assert await passes.reconcile_once(opened) == Pass(stalled=0, given=2)


async def test_only_one_process_makes_a_pass_at_a_time(postgres_url: str, opened: Link) -> None:
    passes = reconciler(postgres_url, Unclaimed(orphaned=[job("r1")]))
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        assert await passes.reconcile_once(opened) is None
    assert await passes.reconcile_once(opened) == Pass(stalled=0, given=1)


async def test_workers_that_have_long_been_dead_are_forgotten(postgres_url: str, opened: Link) -> None:
    dead, silent, alive = [await opened.manager.register_worker() for _ in range(3)]
    silence(postgres_url, dead, 100 * FAST.stalled_s)
    silence(postgres_url, silent, 2 * FAST.stalled_s)
    await reconciler(postgres_url, Unclaimed()).reconcile_once(opened)
    assert rows(postgres_url, WORKERS) == [(silent,), (alive,)]


async def test_it_goes_on_through_every_outage_and_tells_of_each_once(
    postgres: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Unclaimed()
    with caplog.at_level(logging.INFO, "app.patience"):
        going = asyncio.create_task(reconciler(postgres_url, store).reconcile_forever(0.02))
        await until(lambda: store.asked)
        store.error = StorageUnavailableError("away")
        await until(lambda: caplog.records)
        postgres.crash()
        store.error = None
        postgres.start()
        store.orphaned = [job("r1")]
        await until(lambda: ("r1", "todo") in statuses(postgres_url))
        await until(lambda: "succeeds again" in caplog.text)
        going.cancel()
    levels = [record.levelname for record in caplog.records if record.name == "app.patience"]
    assert levels == ["WARNING", "INFO"]


async def test_the_real_store_tells_it_of_runs_whose_job_or_owner_is_gone(postgres_database: Database) -> None:
    url = postgres_database.conninfo
    assert url is not None
    queue = ProcrastinateQueue(url, FAST)
    store = SqlRunStore(postgres_database, queue)
    first_event = [StoredEvent(1, "{}", GENESIS, bytes(32))]
    await store.create(NewRun(RunKey("default", "without job"), priority=3), first_event, None, None)
    await store.create(NewRun(RunKey("default", "with job")), first_event, None, job("with job"))
    await store.create(NewRun(RunKey("default", "of the dead"), owner="dead"), first_event, None, None)
    await store.beat("alive", 60)
    await store.create(NewRun(RunKey("default", "under way"), owner="alive"), first_event, None, None)
    passes = Reconciler(url, store, FAST, grace_s=0)
    async with link(url, FAST, 2) as opened:
        assert await passes.reconcile_once(opened) == Pass(stalled=0, given=2)
        assert await passes.reconcile_once(opened) == Pass(0, 0)
    assert statuses(url) == [("with job", "todo"), ("of the dead", "todo"), ("without job", "todo")]


WORKER = """
import asyncio, sys
from app.queues.procrastinate import ProcrastinateQueue

async def execute(job):
    print(job.key.run_id, flush=True)
    await asyncio.Event().wait()

asyncio.run(ProcrastinateQueue(sys.argv[1]).consume(execute, 4))
"""


@pytest.fixture
def worker(postgres_url: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that takes four jobs, says which, and holds on to them."""
    command = [sys.executable, "-c", WORKER, postgres_url]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        yield process
        process.kill()


async def test_the_runs_of_a_worker_that_is_killed_are_delivered_to_another_within_10_s(
    postgres_url: str, worker: subprocess.Popen[str]
) -> None:
    queue, execute = ProcrastinateQueue(postgres_url), Deliveries()
    defer(postgres_url, queue, *(job(f"r{number}", number) for number in range(4)))
    assert worker.stdout is not None
    assert [worker.stdout.readline().strip() for _ in range(4)] == ["r3", "r2", "r1", "r0"]
    passes = Reconciler(postgres_url, Unclaimed(), DEFAULT_PACE)  # type: ignore[arg-type]
    async with consuming(queue, execute):
        going = asyncio.create_task(passes.reconcile_forever())
        os.kill(worker.pid, signal.SIGKILL)
        killed_at = monotonic()
        await until(lambda: execute.ended == 4, within_s=10)
        assert monotonic() - killed_at >= DEFAULT_PACE.stalled_s - DEFAULT_PACE.heartbeat_s, (
            "it was thought dead early"
        )
        going.cancel()
    assert execute.ids == ["r3", "r2", "r1", "r0"]
    assert statuses(postgres_url) == []
