from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import pytest

import app.timelimit as timelimit
from app.timelimit import TimeLimitError, within


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_what_answers_at_once_is_returned() -> None:
    async def work() -> int:
        return 7

    assert await within(1, work()) == 7


async def test_what_suspends_is_waited_for() -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "later"

    assert await within(5, work()) == "later"


async def test_what_takes_too_long_is_cancelled() -> None:
    cleaned_up = False

    async def work() -> None:
        nonlocal cleaned_up
        try:
            await forever()
        finally:
            cleaned_up = True

    with pytest.raises(TimeLimitError):
        await within(0.01, work())
    assert cleaned_up


async def test_a_result_that_comes_during_the_grace_is_taken() -> None:
    async def work() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return "just in time"
        return "never"

    assert await within(0.01, work()) == "just in time"


async def test_what_refuses_to_stop_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timelimit, "GRACE_S", 0.01)
    refusals = 0

    async def work() -> None:
        nonlocal refusals
        while refusals < 3:  # the third, when it is garbage, it obeys
            try:
                await forever()
            except BaseException:
                refusals += 1

    with pytest.raises(TimeLimitError):
        await within(0.01, work())
    assert refusals >= 2  # asked once, closed once, and not driven on


@pytest.mark.parametrize("suspends", [False, True])
async def test_errors_of_the_work_are_its_own(suspends: bool) -> None:
    async def work() -> None:
        if suspends:
            await asyncio.sleep(0)
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await within(5, work())


async def test_cancelling_the_caller_cancels_the_work_and_is_no_time_limit() -> None:
    entered = asyncio.Event()
    stopped = asyncio.Event()

    async def work() -> None:
        try:
            entered.set()
            await forever()
        finally:
            stopped.set()

    task = asyncio.create_task(within(60, work()))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.is_set()


async def test_work_is_closed_with_its_caller() -> None:
    closed = []

    async def work() -> None:
        try:
            await forever()
        finally:
            closed.append(True)

    caller = within(5, work())
    caller.send(None)
    caller.close()
    assert closed == [True]


async def _timeout() -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(0):
            await forever()


async def _wait_for() -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(forever(), 0)


async def _task_group() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError

    with suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await forever()


async def _anyio() -> None:
    with anyio.move_on_after(0):
        await forever()


@pytest.mark.parametrize("scope", [_timeout, _wait_for, _task_group, _anyio])
async def test_cancel_scopes_inside_the_work_keep_working_however_many(
    scope: Callable[[], Awaitable[None]],
) -> None:
    async def work() -> str:
        for _ in range(3):
            await scope()
        return "went on"

    assert await within(5, work()) == "went on"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_scope_that_ended_takes_no_time_off_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timelimit, "GRACE_S", 0)

    async def work() -> str:
        await _timeout()
        for _ in range(5):
            await asyncio.sleep(0)
        return "went on"

    assert await within(5, work()) == "went on"


async def test_a_cancelled_caller_ends_whatever_the_work_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timelimit, "GRACE_S", 0.01)
    entered = asyncio.Event()

    async def stubborn() -> None:
        while True:
            try:
                entered.set()
                await forever()
            except asyncio.CancelledError:
                continue

    async def swallowing() -> str:
        with suppress(asyncio.CancelledError):
            entered.set()
            await forever()
        return "as if nothing had happened"

    async def failing() -> None:
        try:
            entered.set()
            await forever()
        except asyncio.CancelledError:
            raise ValueError("instead") from None

    for work in (stubborn, swallowing, failing):
        entered.clear()
        task = asyncio.create_task(within(60, work()))  # type: ignore[arg-type]
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_an_outer_timeout_is_the_callers_and_not_the_limit() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await within(60, forever())
