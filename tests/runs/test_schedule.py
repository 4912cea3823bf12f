"""Runs by the calendar, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from typing import Any

import pytest

from app.errors import ConfigurationError, InvalidGoalError, StorageUnavailableError
from app.runs.models import IdempotencyKey, RunRequest
from app.runs.schedule import Schedule, Scheduler

START = datetime(2026, 11, 22, 9, 28, 30, tzinfo=UTC)
REQUEST = RunRequest("Calculate 2+2")


class World:
    """A wall clock, and sleepers that wake when as many seconds have gone by as they wanted, whatever it shows."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._passed = self.jumped = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._numbers = count()
        self.longest_sleep = 0.0
        self.sleeps = 0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed + self.jumped)

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.sleeps += 1
        self.longest_sleep = max(self.longest_sleep, seconds)
        event = asyncio.Event()
        heappush(self._sleepers, (self._passed + seconds, next(self._numbers), event))
        await event.wait()

    async def pass_by(self, seconds: float) -> None:
        end = self._passed + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self._passed, _, event = heappop(self._sleepers)
            event.set()
            await self._settle()
        self._passed = end

    async def _settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


class Submissions:
    def __init__(self, world: World) -> None:
        self._world = world
        self.keys: list[str] = []
        self.times: list[datetime] = []
        self.calls: list[tuple[RunRequest, IdempotencyKey, str]] = []
        self.error: Callable[[], Exception] | None = None

    async def __call__(self, request: RunRequest, key: IdempotencyKey, tenant: str) -> None:
        self.calls.append((request, key, tenant))
        self.keys.append(key.key)
        self.times.append(self._world.now())
        if self.error is not None:
            raise self.error()


@asynccontextmanager
async def running(world: World, *schedules: Schedule) -> Any:
    submit = Submissions(world)
    task = asyncio.create_task(Scheduler(schedules, world.now, world.sleep).run_forever(submit))
    await world.pass_by(0)
    yield submit
    assert not task.done(), "it has ended by itself"
    task.cancel()
    await asyncio.wait([task])


def schedule(cron: str = "30 9 * * *", name: str = "daily", tenant: str = "default") -> Schedule:
    return Schedule(name, cron, REQUEST, tenant)


async def test_a_run_is_submitted_at_each_time_under_a_key_that_every_process_gives_it() -> None:
    world = World()
    async with running(world, schedule("*/30 * * * *", tenant="acme")) as submit:
        await world.pass_by(3600)
    assert submit.keys == ["schedule daily 2026-11-22T09:30Z", "schedule daily 2026-11-22T10:00Z"]
    assert submit.times == [datetime(2026, 11, 22, 9, 30, tzinfo=UTC), datetime(2026, 11, 22, 10, 0, tzinfo=UTC)]
    request, key, tenant = submit.calls[0]
    assert (request, tenant) == (REQUEST, "acme")
    other_world = World(START - timedelta(hours=3))
    async with running(other_world, Schedule("daily", "30 9 * * *", RunRequest("changed"), "acme")) as other:
        await other_world.pass_by(4 * 3600)
    assert other.calls[0][1] == key


async def test_schedules_that_are_due_together_are_all_submitted() -> None:
    world = World()
    async with running(world, schedule(name="a"), schedule(name="b"), schedule("31 9 * * *", "c")) as submit:
        await world.pass_by(600)
    assert submit.keys == [
        "schedule a 2026-11-22T09:30Z",
        "schedule b 2026-11-22T09:30Z",
        "schedule c 2026-11-22T09:31Z",
    ]


async def test_times_before_it_was_there_are_not_made_up_for() -> None:
    world = World(START.replace(minute=30, second=1))
    async with running(world, schedule()) as submit:
        await world.pass_by(3600)
    assert submit.keys == []


async def test_without_schedules_it_waits_in_peace() -> None:
    world = World()
    async with running(world) as submit:
        await world.pass_by(3600)
    assert submit.keys == []
    assert world.sleeps < 150


async def test_it_never_trusts_the_clock_for_long_and_never_spins() -> None:
    world = World()
    async with running(world, schedule("0 0 1 1 *")):
        await world.pass_by(86_400)
    assert world.longest_sleep <= 30
    assert world.sleeps < 3_000


async def test_a_clock_that_jumps_ahead_by_days_brings_one_run_at_most() -> None:
    world = World()
    async with running(world, schedule("* * * * *")) as submit:
        await world.pass_by(10)
        world.jumped = 3 * 86_400.0
        await world.pass_by(60)
        assert len(submit.keys) <= 2
        assert all(key.startswith("schedule daily 2026-11-25T09:") for key in submit.keys)
        await world.pass_by(120)
        assert submit.keys[-1] == "schedule daily 2026-11-25T09:31Z"


async def test_a_clock_that_is_set_a_little_ahead_skips_no_time() -> None:
    world = World()
    async with running(world, schedule()) as submit:
        world.jumped = 100.0
        await world.pass_by(30)
    assert submit.keys == ["schedule daily 2026-11-22T09:30Z"]


async def test_after_a_clock_has_jumped_back_times_come_again_under_their_old_keys() -> None:
    world = World()
    async with running(world, schedule()) as submit:
        await world.pass_by(120)
        world.jumped = -86_400.0
        await world.pass_by(86_400)
    assert submit.keys == ["schedule daily 2026-11-22T09:30Z"] * 2
    assert len({call[1] for call in submit.calls}) == 1


async def test_a_submission_that_fails_is_tried_again_within_the_minute() -> None:
    world = World()
    async with running(world, schedule(), schedule("31 9 * * *", "next")) as submit:
        submit.error = lambda: StorageUnavailableError("away")
        await world.pass_by(92)
        assert submit.keys == ["schedule daily 2026-11-22T09:30Z"] * 2
        submit.error = None
        await world.pass_by(600)
    assert submit.keys == ["schedule daily 2026-11-22T09:30Z"] * 3 + ["schedule next 2026-11-22T09:31Z"]


async def test_a_submission_that_goes_on_failing_is_given_up_within_the_minute_and_the_next_one_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    async with running(world, schedule("*/30 * * * *")) as submit:
        submit.error = lambda: StorageUnavailableError("away")
        await world.pass_by(600)
        assert len(submit.keys) == 5
        assert submit.times[-1] - submit.times[0] < timedelta(minutes=1)
        assert "given up" in caplog.text
        submit.error = None
        await world.pass_by(1800)
        assert submit.keys[5:] == ["schedule daily 2026-11-22T10:00Z"]


async def test_a_run_that_cannot_be_carried_out_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    with caplog.at_level(logging.ERROR):
        async with running(world, schedule()) as submit:
            submit.error = lambda: InvalidGoalError("The goal is blank.")
            await world.pass_by(600)
    assert len(submit.keys) == 1
    assert "schedule daily: its run cannot be carried out: The goal is blank." in caplog.text


async def test_a_submission_that_hangs_holds_up_nobody() -> None:
    world = World()
    keys = []

    async def submit(_request: RunRequest, key: IdempotencyKey, _tenant: str) -> None:
        keys.append(key.key)
        if ":a:" in key.key:
            await asyncio.Event().wait()

    schedules = [schedule(name="a"), schedule(name="b"), schedule("31 9 * * *", "c")]
    task = asyncio.create_task(Scheduler(schedules, world.now, world.sleep).run_forever(submit))
    await world.pass_by(600)
    task.cancel()
    await asyncio.wait([task])
    assert [key.split()[1] for key in keys] == ["a", "b", "c"]


async def test_a_submission_that_hangs_is_given_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.runs.schedule.FRESH_S", 0.05)  # that is real time, and a minute is long
    world = World()
    given_up = asyncio.Event()

    async def submit(_request: RunRequest, _key: IdempotencyKey, _tenant: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    task = asyncio.create_task(Scheduler([schedule()], world.now, world.sleep).run_forever(submit))
    await world.pass_by(600)
    await asyncio.wait_for(given_up.wait(), 5)
    await world.pass_by(1)
    task.cancel()
    await asyncio.wait([task])
    assert "given up" in caplog.text


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "* * * *",
        "* * * * * *",  # seconds
        "@daily",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "5-1 * * * *",
        "*/0 * * * *",
        "x * * * *",
        "* * * * MON#6",
        "0 0 30 2 *",
        "٣ * * * *",
        f"{'9' * 5000} * * * *",
        "*-* * * * *",
        "1,,2 * * * *",
        "* * L/L * *",
        "* * * * MON#1/2",
        "* * * * L",
    ],
)
def test_times_that_are_none_are_refused_by_name(cron: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^SCHEDULES, 'daily': its times "):
        Scheduler([schedule(cron)])


@pytest.mark.parametrize(
    "cron", ["* * * * *", "0 9-17/2 * JAN,JUL MON-FRI", "0 0 L * *", "0 0 29 2 *", "5 4 LW * *"]
)
def test_times_that_cron_knows_are_taken(cron: str) -> None:
    Scheduler([schedule(cron)])


@pytest.mark.parametrize("name", ["", "a b", "a:b", "-a", "ä", "a" * 65, "a\n"])
def test_a_name_that_no_key_could_hold_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="its name has to match"):
        Scheduler([schedule(name=name)])


def test_two_schedules_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="'daily': there are two"):
        Scheduler([schedule(), schedule("0 0 * * *")])
