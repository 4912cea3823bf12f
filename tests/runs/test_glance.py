"""What is read on demand: once for many, not too often, and waited for no longer than is said."""

from __future__ import annotations

import asyncio

import pytest

from app.runs.glance import Glance


class Read:
    """Counts how often it is read, and answers when a test says so."""

    def __init__(self) -> None:
        self.times = 0
        self.now = 0.0
        self.error: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def __call__(self) -> int:
        self.times += 1
        times = self.times
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return times

    def glance(self, patience_s: float = 5.0) -> Glance[int]:
        return Glance(self, fresh_s=1.0, patience_s=patience_s, clock=lambda: self.now)


async def test_what_was_read_is_handed_out_for_a_second() -> None:
    read = Read()
    glance = read.glance()
    assert [await glance.look() for _ in range(3)] == [1, 1, 1]
    read.now = 0.99
    assert await glance.look() == 1
    read.now = 1.0
    assert await glance.look() == 2


async def test_a_failure_is_not_tried_again_sooner() -> None:
    read = Read()
    read.error = LookupError()
    glance = read.glance()
    for _ in range(3):
        with pytest.raises(LookupError):
            await glance.look()
    assert read.times == 1
    read.error, read.now = None, 1.0
    assert await glance.look() == 2


async def test_many_wait_for_one_reading_and_none_for_too_long() -> None:
    read = Read()
    read.answers.clear()
    glance = read.glance(patience_s=0.01)
    async with asyncio.timeout(5):
        for _ in range(2):  # the second time it has been under way for longer than a second
            found = await asyncio.gather(*(glance.look() for _ in range(5)), return_exceptions=True)
            assert [type(error) for error in found] == [TimeoutError] * 5
            read.now += 10
    assert read.times == 1
    read.answers.set()
    await asyncio.sleep(0)
    assert await read.glance().look() == 2


async def test_whoever_gives_up_does_not_stop_the_reading() -> None:
    read = Read()
    read.answers.clear()
    glance = read.glance()
    first = asyncio.ensure_future(glance.look())
    second = asyncio.ensure_future(glance.look())
    await asyncio.sleep(0)
    first.cancel()
    read.answers.set()
    assert await second == 1
