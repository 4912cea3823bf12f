from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

import app.blocking as blocking
from app.blocking import _Turns, call_in_thread

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
    monkeypatch.setattr(blocking, "_turns", _Turns(1))
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
    monkeypatch.setattr(blocking, "_turns", _Turns(1))
    with monkeypatch.context() as broken:
        broken.setattr(blocking.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("no more")))
        with pytest.raises(RuntimeError, match="no more"):
            await call_in_thread(str, 1)
    assert await call_in_thread(str, 1) == "1"


async def test_a_turn_goes_past_those_that_no_longer_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "_turns", _Turns(1))
    release = threading.Event()
    first = asyncio.create_task(call_in_thread(lambda _: release.wait(10), None))
    await asyncio.sleep(0)
    gone, late, last = (asyncio.create_task(call_in_thread(str, number)) for number in range(3))
    await asyncio.sleep(0)
    gone.cancel()  # before a turn is handed to it
    release.set()
    assert await first
    assert await late == "1"
    assert await last == "2"
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert await call_in_thread(str, 3) == "3"


async def test_a_turn_handed_to_a_task_that_is_cancelled_then_is_not_lost() -> None:
    turns = _Turns(0)
    waiting = asyncio.create_task(turns.take())
    await asyncio.sleep(0)
    turns.give_back()
    await asyncio.sleep(0)  # the turn is granted, the task has not run yet
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(turns.take(), 5)


def test_a_turn_is_not_given_to_a_loop_that_has_closed() -> None:
    turns = _Turns(0)

    async def give_up() -> None:
        waiting = asyncio.ensure_future(turns.take())
        await asyncio.sleep(0)
        turns._waiting.append(turns._waiting[0])  # as if it still stood in line when its loop is gone
        waiting.cancel()

    asyncio.run(give_up())
    turns.give_back()
    asyncio.run(turns.take())
