"""The queue inside one process: clocks that jump, what it keeps, and runs that it does not know."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from datetime import UTC, datetime, timedelta

import pytest
from queue_fixtures import Deliveries, Unclaimed, consuming, job, until

from app.errors import StorageUnavailableError
from app.queues.in_process import AT_ONCE, InProcessQueue, redeliver_forever

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAYS = 86_400.0


class Clock:
    """A wall clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = NOON.timestamp()
        self.looked_at = 0

    def __call__(self) -> float:
        self.looked_at += 1
        return self.now


async def test_a_key_that_waits_is_not_taken_twice() -> None:
    queue, execute = InProcessQueue(), Deliveries()
    for _ in range(3):
        queue.wake(job("r1"))
        queue.wake(job("r2", not_before=datetime.now(UTC) + timedelta(seconds=0.1)))
    async with consuming(queue, execute):
        await until(lambda: execute.ended == 2)
        queue.wake(job("r3"))
        await until(lambda: execute.ended == 3)
    assert execute.ids == ["r1", "r2", "r3"]


async def test_the_most_urgent_of_those_woken_together_gets_the_free_place() -> None:
    queue, execute = InProcessQueue(), Deliveries()
    async with consuming(queue, execute):
        queue.wake(job("first"))
        await until(lambda: execute.ended == 1)
        queue.wake(job("low"))
        queue.wake(job("high", 1))
        await until(lambda: execute.ended == 3)
    assert execute.ids == ["first", "high", "low"]


async def test_a_clock_that_jumps_ahead_brings_what_is_due_by_it() -> None:
    clock, execute = Clock(), Deliveries()
    queue = InProcessQueue(clock=clock, look_at_clock_s=0.01)
    queue.wake(job("in 3 days", not_before=NOON + timedelta(days=3)))
    queue.wake(job("in 4 days", not_before=NOON + timedelta(days=4)))
    async with consuming(queue, execute):
        looked_at = clock.looked_at
        await until(lambda: clock.looked_at > looked_at + 3)
        assert not execute.ids
        clock.now += 3 * DAYS
        await until(lambda: execute.ids == ["in 3 days"])
        clock.now += DAYS
        await until(lambda: execute.ids == ["in 3 days", "in 4 days"])


async def test_a_clock_that_jumps_back_loses_nothing_and_delays_no_retry() -> None:
    clock, execute = Clock(), Deliveries(0.05)
    queue = InProcessQueue(clock=clock, look_at_clock_s=0.01)
    queue.wake(job("soon", not_before=NOON + timedelta(seconds=1)))
    queue.wake(job("retried"))
    async with consuming(queue, execute):
        clock.now -= 3 * DAYS
        await until(lambda: execute.ids == ["retried", "retried"])
        clock.now += 3 * DAYS + 1
        await until(lambda: execute.ids == ["retried", "retried", "soon"])


async def test_a_job_that_is_almost_due_is_not_waited_for_in_a_spin() -> None:
    clock = Clock()
    queue = InProcessQueue(clock=clock)
    queue.wake(job("r1", not_before=NOON + timedelta(microseconds=1)))
    async with consuming(queue, Deliveries()):
        started, looked_at = asyncio.get_running_loop().time(), clock.looked_at
        await until(lambda: clock.looked_at > looked_at + 20)
        assert asyncio.get_running_loop().time() - started >= 0.005


async def test_nothing_is_kept_of_jobs_that_are_done() -> None:
    queue, execute = InProcessQueue(), Deliveries()

    async def deliver(many: int) -> None:
        execute.ended = 0
        for number in range(many):
            queue.wake(job(f"r{number}"))
        await until(lambda: execute.ended == many)
        execute.jobs.clear()
        gc.collect()

    async with consuming(queue, execute, concurrency=8):
        await deliver(1_000)
        blocks = sys.getallocatedblocks()
        await deliver(10_000)
        assert sys.getallocatedblocks() - blocks < 1_000


async def test_only_runs_that_it_does_not_know_are_taken_from_an_offer() -> None:
    queue, execute = InProcessQueue(), Deliveries()
    execute.may_end.clear()
    queue.wake(job("under way"))
    async with consuming(queue, execute):
        await until(lambda: execute.under_way)
        queue.wake(job("waiting"))
        assert queue.offer([job("under way"), job("waiting"), job("lost")]) == 1
        execute.may_end.set()
        await until(lambda: execute.ended == 3)
    assert execute.ids == ["under way", "waiting", "lost"]


async def test_unfinished_runs_are_delivered_at_the_start_and_whenever_one_was_lost() -> None:
    queue, execute = InProcessQueue(), Deliveries()
    store = Unclaimed(queued=[job("r1"), job("r2")])
    redelivery = asyncio.create_task(redeliver_forever(store, queue, 0.02))  # type: ignore[arg-type]
    async with consuming(queue, execute):
        await until(lambda: execute.ids[:2] == ["r1", "r2"])
        store.queued = [job("lost")]
        await until(lambda: "lost" in execute.ids)
    redelivery.cancel()


async def test_a_backlog_longer_than_a_page_is_not_waited_for_page_by_page() -> None:
    queue = InProcessQueue()
    store = Unclaimed(queued=[job(f"r{number}") for number in range(AT_ONCE)])
    redelivery = asyncio.create_task(redeliver_forever(store, queue, 0.5))  # type: ignore[arg-type]
    await until(lambda: store.asked == 4, within_s=0.45)
    redelivery.cancel()


async def test_looking_for_lost_runs_outlives_the_database_and_tells_of_it_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue, execute = InProcessQueue(), Deliveries()
    store = Unclaimed(queued=[job("r1")])
    store.error = StorageUnavailableError("disk full")
    with caplog.at_level(logging.INFO, "app.patience"):
        redelivery = asyncio.create_task(redeliver_forever(store, queue, 0.02))  # type: ignore[arg-type]
        async with consuming(queue, execute):
            await until(lambda: store.asked == 2)
            store.error = None
            await until(lambda: execute.ids)
        redelivery.cancel()
    (told,) = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert told.endswith("tried again and again: StorageUnavailableError: disk full")
    assert "looking for runs that wait succeeds again" in caplog.text
