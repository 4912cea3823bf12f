"""What every queue of runs promises, run against every implementation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from queue_fixtures import FAST, Deliveries, consuming, defer, job, until

from app.errors import StorageUnavailableError
from app.queues.in_process import InProcessQueue
from app.queues.procrastinate import ProcrastinateQueue
from app.runs.models import Job
from app.runs.ports import RunQueue


class Door:
    """A queue, and how a run gets into it: deferred in a transaction, then woken."""

    def __init__(self, queue: RunQueue, put: Callable[[Job], None]) -> None:
        self.queue = queue
        self._put = put

    def submit(self, *jobs: Job) -> None:
        for one in jobs:
            self._put(one)
            self.queue.wake(one)


@pytest.fixture(params=["in process", "procrastinate"])
def door(request: pytest.FixtureRequest) -> Door:
    if request.param == "in process":
        return Door(InProcessQueue(retry_s=0.1), lambda _: None)
    url = request.getfixturevalue("postgres_url")
    queue = ProcrastinateQueue(url, FAST)
    return Door(queue, lambda one: defer(url, queue, one))


async def test_a_job_is_delivered_as_it_was_put_in(door: Door) -> None:
    execute = Deliveries()
    door.submit(job("r1", 7, tenant="Zürich"))
    async with consuming(door.queue, execute):
        await until(lambda: execute.ended)
    assert execute.jobs == [job("r1", 7, tenant="Zürich")]


async def test_a_waiting_consumer_is_told_of_new_jobs(door: Door) -> None:
    execute = Deliveries()
    async with consuming(door.queue, execute):
        door.submit(job("r1"))
        await until(lambda: execute.ids == ["r1"])
        door.submit(job("r2"))
        await until(lambda: execute.ids == ["r1", "r2"])


async def test_higher_priorities_come_first_and_older_jobs_before_newer_ones(door: Door) -> None:
    execute = Deliveries()
    door.submit(job("low", -5), job("first"), job("second"), job("high", 5), job("third"))
    async with consuming(door.queue, execute):
        await until(lambda: execute.ended == 5)
    assert execute.ids == ["high", "first", "second", "third", "low"]


async def test_a_job_waits_for_its_time_and_holds_up_no_other(door: Door) -> None:
    execute = Deliveries()
    now = datetime.now(UTC)
    soon, tomorrow = now + timedelta(seconds=0.5), now + timedelta(days=1)
    door.submit(
        job("tomorrow", 100, tomorrow), job("soon", 100, soon), job("due", -1, datetime(2020, 1, 1, tzinfo=UTC))
    )
    async with consuming(door.queue, execute):
        await until(lambda: "soon" in execute.ids)
        assert datetime.now(UTC) >= soon
        await until(lambda: "due" in execute.ids)
    assert "tomorrow" not in execute.ids


async def test_no_more_are_under_way_than_there_is_room_for(door: Door) -> None:
    execute = Deliveries()
    execute.may_end.clear()
    door.submit(*(job(f"r{n}") for n in range(8)))
    async with consuming(door.queue, execute, concurrency=3):
        await until(lambda: execute.under_way == 3)
        execute.may_end.set()
        await until(lambda: execute.ended == 8)
    assert execute.most_under_way == 3
    assert sorted(execute.ids) == [f"r{n}" for n in range(8)]


async def test_a_job_comes_again_after_the_seconds_that_were_asked_for(door: Door) -> None:
    execute = Deliveries(0.3, 0.0)
    started = asyncio.get_running_loop().time()
    door.submit(job("r1", 9))
    async with consuming(door.queue, execute):
        await until(lambda: execute.ended == 3)
        assert asyncio.get_running_loop().time() - started >= 0.3
    assert [(one.key.run_id, one.priority) for one in execute.jobs] == [("r1", 9)] * 3


async def test_a_job_whose_execution_raises_comes_again_and_the_others_go_on(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    execute = Deliveries(ZeroDivisionError("oops"), StorageUnavailableError("disk full"))
    door.submit(job("r1"), job("r2"))
    with caplog.at_level(logging.WARNING):
        async with consuming(door.queue, execute):
            await until(lambda: execute.ended == 4)
    assert execute.ids[:2] == ["r1", "r2"]
    assert sorted(execute.ids[2:]) == ["r1", "r2"]
    assert "run r1 could not be carried out" in caplog.text
    assert "ZeroDivisionError: oops" in caplog.text
    assert "run r2 waits: disk full" in caplog.text


async def test_a_job_whose_execution_was_broken_off_comes_again(door: Door) -> None:
    execute = Deliveries(asyncio.CancelledError())
    door.submit(job("r1"))
    async with consuming(door.queue, execute):
        await until(lambda: execute.ended == 2)
    assert execute.ids == ["r1", "r1"]


async def test_when_stopped_it_takes_nothing_new_and_returns_when_what_is_under_way_has_ended(door: Door) -> None:
    execute = Deliveries()
    execute.may_end.clear()
    door.submit(job("r1"), job("r2"))
    task = asyncio.create_task(door.queue.consume(execute, 1))
    await until(lambda: execute.under_way)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.3)
    assert not done, "it did not wait for r1"
    execute.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert execute.ids == ["r1"]
    assert execute.ended == 1
    async with consuming(door.queue, execute):
        await until(lambda: execute.ids == ["r1", "r2"])


async def test_a_job_that_has_to_come_again_while_it_stops_is_there_for_the_next(door: Door) -> None:
    execute = Deliveries(0.0)
    execute.may_end.clear()
    door.submit(job("r1"))
    async with consuming(door.queue, execute) as consumption:
        await until(lambda: execute.under_way)
        consumption.stop()
        execute.may_end.set()
    assert execute.ids == ["r1"]
    async with consuming(door.queue, execute):
        await until(lambda: execute.ids == ["r1", "r1"])


async def test_a_run_that_is_under_way_can_be_queued_again(door: Door) -> None:
    execute = Deliveries()
    execute.may_end.clear()
    door.submit(job("r1"))
    async with consuming(door.queue, execute, concurrency=2):
        await until(lambda: execute.under_way == 1)
        door.submit(job("r1"))
        await until(lambda: execute.under_way == 2)
        execute.may_end.set()
