"""The queue over Postgres: jobs and transactions, what is left of them, and a database that goes away."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import psycopg
import pytest
from postgres import PostgresServer
from queue_fixtures import FAST, Deliveries, consuming, defer, job, rows, transaction, until

from app.queues.link import QUEUE, Pace, link, queued
from app.queues.procrastinate import ProcrastinateQueue
from app.runs.models import Job

SHAPE = "SELECT queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at FROM procrastinate_jobs"


def test_a_job_is_there_if_its_transaction_is_committed(postgres_url: str) -> None:
    queue = ProcrastinateQueue(postgres_url)
    with transaction(postgres_url) as opened:
        queue.put_in(opened, job("r1", 3, tenant="acme"))
        assert rows(postgres_url) == []
    assert rows(postgres_url, SHAPE) == [
        ("runs", "execute_run", 3, None, None, {"tenant": "acme", "run_id": "r1"}, None)
    ]


def test_a_job_is_not_there_if_its_transaction_is_rolled_back(postgres_url: str) -> None:
    queue = ProcrastinateQueue(postgres_url)
    with pytest.raises(ZeroDivisionError), transaction(postgres_url) as opened:  # noqa: PT012
        queue.put_in(opened, job("r1"))
        raise ZeroDivisionError
    assert rows(postgres_url) == []


def test_what_fails_in_the_transaction_is_the_drivers_own_error(postgres_url: str) -> None:
    queue = ProcrastinateQueue(postgres_url)
    with transaction(postgres_url) as opened:
        opened.connection.exec_driver_sql("DROP FUNCTION procrastinate_defer_jobs_v1")
        with pytest.raises(psycopg.errors.UndefinedFunction):
            queue.put_in(opened, job("r1"))


async def test_a_job_can_be_put_on_its_own(postgres_url: str) -> None:
    queue, execute = ProcrastinateQueue(postgres_url, FAST), Deliveries()
    async with consuming(queue, execute):
        await queue.put(job("r1"))
        await until(lambda: execute.ids == ["r1"])


async def test_nothing_is_left_of_jobs_that_are_done_however_they_ended(postgres_url: str) -> None:
    queue, execute = ProcrastinateQueue(postgres_url, FAST), Deliveries(None, 0.0, ZeroDivisionError())
    defer(postgres_url, queue, *(job(f"r{number}") for number in range(4)))
    async with consuming(queue, execute, concurrency=2):
        await until(lambda: execute.ended == 6)
        await until(lambda: rows(postgres_url) == [])
    assert rows(postgres_url, "SELECT * FROM procrastinate_events") == []
    assert rows(postgres_url, "SELECT * FROM procrastinate_workers") == []


async def test_a_job_that_is_none_of_ours_is_dropped_and_told_of(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    queue, execute = ProcrastinateQueue(postgres_url, FAST), Deliveries()
    async with link(postgres_url, FAST, 1) as opened:
        strange = queued(job("r1")).evolve(task_kwargs={"run_id": 1})
        await opened.manager.defer_job_async(strange)
    async with consuming(queue, execute):
        await until(lambda: rows(postgres_url) == [])
    assert not execute.jobs
    assert "none of ours" in caplog.text


async def test_a_new_job_is_delivered_without_waiting_for_a_poll(postgres_url: str) -> None:
    queue, execute = ProcrastinateQueue(postgres_url, Pace(poll_s=60)), Deliveries()
    async with consuming(queue, execute):
        listening = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        await until(lambda: rows(postgres_url, listening))
        await until(lambda: rows(postgres_url, "SELECT 1 FROM procrastinate_workers"))
        defer(postgres_url, queue, job("r1"))
        await until(lambda: execute.ids == ["r1"], within_s=2)


async def test_several_consumers_share_the_jobs_and_none_is_lost_or_comes_twice(postgres_url: str) -> None:
    queue, execute = ProcrastinateQueue(postgres_url, FAST), Deliveries()
    defer(postgres_url, queue, *(job(f"r{number}") for number in range(100)))
    async with (
        consuming(queue, execute, concurrency=4),
        consuming(ProcrastinateQueue(postgres_url, FAST), execute, concurrency=4),
    ):
        await until(lambda: execute.ended == 100)
        await until(lambda: rows(postgres_url) == [])
    assert sorted(execute.ids) == sorted(f"r{number}" for number in range(100))


async def test_a_worker_beats_while_it_waits_for_the_last_job_to_end(postgres_url: str) -> None:
    queue, execute = ProcrastinateQueue(postgres_url, FAST), Deliveries()
    execute.may_end.clear()
    defer(postgres_url, queue, job("r1"))
    async with consuming(queue, execute) as consumption:
        await until(lambda: execute.under_way)
        consumption.stop()
        beat = "SELECT last_heartbeat FROM procrastinate_workers"
        first = rows(postgres_url, beat)
        await until(lambda: rows(postgres_url, beat) > first)
        execute.may_end.set()
    assert rows(postgres_url) == []


async def test_a_job_that_was_being_fetched_when_it_had_to_stop_goes_to_somebody_else(postgres_url: str) -> None:
    queue, execute = ProcrastinateQueue(postgres_url, FAST), Deliveries()
    defer(postgres_url, queue, job("r1"))
    with psycopg.connect(postgres_url) as holder:
        holder.execute("LOCK TABLE procrastinate_jobs IN EXCLUSIVE MODE")
        async with consuming(queue, execute) as consumption:
            fetching = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%fetch_job%'"
            await until(lambda: rows(postgres_url, fetching))
            consumption.stop()
            for _ in range(20):  # the cancellation gets to where it is heard, before the answer does
                await asyncio.sleep(0)
            holder.rollback()
    assert not execute.jobs
    assert [(run_id, status) for _, run_id, status in rows(postgres_url)] == [("r1", "todo")]


async def test_it_outlives_the_database_tells_of_each_outage_once_and_takes_jobs_while_old_ones_are_under_way(
    postgres: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    delivered: set[str] = set()
    may_end = asyncio.Event()

    async def execute(job: Job) -> None:
        is_new = job.key.run_id not in delivered  # that it was fetched may be what the crash undid
        delivered.add(job.key.run_id)
        if job.key.run_id == "long" and is_new:
            await may_end.wait()

    def told(level: str) -> int:
        return [record.levelname for record in caplog.records if record.name == "app.patience"].count(level)

    queue = ProcrastinateQueue(postgres_url, FAST)
    defer(postgres_url, queue, job("long"))
    with caplog.at_level(logging.INFO):
        async with consuming(queue, execute, concurrency=3):
            await until(lambda: "long" in delivered)
            for number in (1, 2):
                postgres.crash()
                await until(lambda: told("WARNING") == number)  # noqa: B023
                postgres.start()
                defer(postgres_url, queue, job(f"after outage {number}"))
                await until(lambda: f"after outage {number}" in delivered)  # noqa: B023
            may_end.set()
            await until(lambda: not rows(postgres_url, "SELECT 1 FROM procrastinate_jobs WHERE status = 'todo'"))
    assert (told("WARNING"), told("INFO")) == (2, 2)


def test_a_missing_extra_names_the_line_that_installs_it() -> None:
    code = (
        "import sys; sys.modules['procrastinate'] = None\n"
        "from app.errors import MissingExtraError\n"
        "try: import app.queues.procrastinate\n"
        "except MissingExtraError as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "uv sync --extra postgres" in ran.stdout


def test_the_in_process_queue_needs_nothing_of_it() -> None:
    code = (
        "import sys, app.queues.in_process\nprint({'procrastinate', 'psycopg', 'psycopg_pool'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_its_name_in_the_database_is_what_older_and_newer_versions_use() -> None:
    assert QUEUE == "runs"
