from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

import app.blocking as blocking
from app.blocking import call_in_thread

place: ContextVar[str] = ContextVar("place")


async def test_it_runs_elsewhere_and_returns_the_result() -> None:
    name = await call_in_thread(lambda number: (number + 1, threading.current_thread().name), 41)
    assert name == (42, "agent-blocking-call")


async def test_context_variables_are_seen_on_the_thread() -> None:
    place.set("here")
    assert await call_in_thread(lambda _: place.get(), None) == "here"


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
async def test_whatever_it_raises_reaches_the_caller(error: BaseException) -> None:
    def fail(_: None) -> None:
        raise error

    with pytest.raises(type(error)):
        await call_in_thread(fail, None)


async def test_the_result_of_an_abandoned_call_is_dropped() -> None:
    release = threading.Event()
    finished = threading.Event()

    def hang(_: None) -> None:
        release.wait(10)
        finished.set()

    task = asyncio.create_task(call_in_thread(hang, None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    assert await call_in_thread(finished.wait, 10)
    await asyncio.sleep(0)  # the dropped result arrives at a future that is done


def test_a_call_that_outlives_its_loop_ends_quietly() -> None:
    release = threading.Event()

    async def start() -> None:
        task = asyncio.create_task(call_in_thread(lambda _: release.wait(10), None))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(start())
    workers = [thread for thread in threading.enumerate() if thread.name == "agent-blocking-call"]
    release.set()
    for worker in workers:
        worker.join(10)
        assert not worker.is_alive()


async def test_more_calls_than_threads_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "MAX_THREADS", 1)
    release = threading.Event()
    first = asyncio.create_task(call_in_thread(lambda _: release.wait(10), None))
    await asyncio.sleep(0)
    second = asyncio.create_task(call_in_thread(str, 2))
    await asyncio.sleep(0)
    assert not second.done()
    release.set()
    assert await first
    assert await second == "2"


async def test_a_turn_is_not_lost_when_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "MAX_THREADS", 1)
    with monkeypatch.context() as broken:
        broken.setattr(blocking.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("no more")))
        with pytest.raises(RuntimeError, match="no more"):
            await call_in_thread(str, 1)
    assert await call_in_thread(str, 1) == "1"
