"""What runs let be heard while they are driven: of a model that streams, of tools on threads, after a restart."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

import pytest
from durable_runs import House, nothing_is_held, until
from fakes import FakeTool, ScriptedModel, answer, call, calls
from streaming import Listener, Speaker, agent_of

from app.agent.core import Agent
from app.llm.interface import LLMResponse
from app.runs.live import MAX_CHARS, Delta, Progress
from app.storage.database import Database
from app.tools.call import MAX_PROGRESS_CHARS, report_progress


async def test_words_of_a_model_are_heard_and_not_kept(database: Database) -> None:
    model = Speaker(answer("It is 42."))
    async with House(database, agent_of(model), consumes=True) as house:
        key = await house.submit()
        listener = Listener(house, key)
        await until(lambda: model.asked and listener.seqs == [1, 2])
        model.say("It ", "is ")
        await until(lambda: listener.text == "It is ")
        joining = Listener(house, key, 2)
        await until(lambda: joining.heard == [Delta(1, 0, "It is ")])
        model.say("42.")
        await until(lambda: listener.text == joining.text == "It is 42.")
        model.say(None)
        await asyncio.gather(listener.task, joining.task)
        assert listener.seqs == [1, 2, 3, 4]
        assert joining.seqs == [3, 4]
        assert len(await house.events(key)) == 4
        assert not house.feed.followed
        assert nothing_is_held(house)


@pytest.mark.parametrize("follows", [True, False])
async def test_a_model_waits_for_no_listener_and_speaks_to_none_if_there_is_none(
    database: Database, follows: bool
) -> None:
    model = Speaker(answer("end"))
    model.say(*("word " for _ in range(20_000)), None)
    async with House(database, agent_of(model)) as house:
        key = await house.submit()
        slow = house.service.follow(key.run_id, 0, key.tenant)
        if follows:
            await anext(slow)
        lengths: list[int] = []
        house.feed.heard = lambda key, live: lengths.append(live.length)  # type: ignore[method-assign]
        async with asyncio.timeout(10):
            await house.execute(key)
        assert len(lengths) == (20_000 if follows else 0)
        assert max(lengths, default=MAX_CHARS) == MAX_CHARS
        await slow.aclose()


async def test_each_turn_has_a_text_of_its_own(database: Database) -> None:
    model = Speaker(call("probe"), answer("end"))
    async with House(database, agent_of(model, FakeTool(effect="pure")), consumes=True) as house:
        key = await house.submit()
        listener = Listener(house, key)
        await until(lambda: model.asked == 1)
        model.say("Let me see.")
        await until(listener.hears(Delta(1, 0, "Let me see.")))
        model.say(None)
        await until(lambda: model.asked == 2)
        model.say("I see.")
        await until(listener.hears(Delta(2, 0, "I see.")))
        model.say(None)
        await listener.task
        assert [piece.turn for piece in listener.heard if isinstance(piece, Delta)] == [1, 2]


async def test_a_run_that_goes_on_after_a_restart_says_its_text_from_the_beginning(database: Database) -> None:
    model = Speaker(answer("never said"), answer("the answer"))
    async with House(database, agent_of(model), owner="first", consumes=True) as first:
        key = await first.submit()
        before = Listener(first, key)
        await until(lambda: model.asked == 1)
        model.say("half of what")
        await until(before.hears(Delta(1, 0, "half of what")))
        last = before.seqs[-1]
        before.task.cancel()
        await asyncio.wait([before.task])
    async with House(database, agent_of(model), owner="second") as second:
        after = Listener(second, key, last)
        driving = asyncio.ensure_future(second.execute(key))
        await until(lambda: model.asked == 2)
        model.say("the ")
        await until(lambda: after.text == "the ")
        model.say("answer", None)
        await asyncio.gather(driving, after.task)
        assert after.seqs == list(range(last + 1, after.seqs[-1] + 1))
        assert (await second.run(key)).output == "the answer"


# the progress of tools


async def heard_of(
    database: Database, tool: FakeTool, go_on: Callable[[Listener], Any], *, turn: LLMResponse | None = None
) -> Listener:
    model = Speaker(turn or call(tool.name), answer("end"))
    model.say(None, None)
    async with House(database, agent_of(model, tool)) as house:
        key = await house.submit()
        listener = Listener(house, key)
        await until(lambda: listener.seqs)
        driving = asyncio.ensure_future(house.execute(key))
        await go_on(listener)
        await asyncio.gather(driving, listener.task)
        return listener


async def test_a_tool_on_the_loop_tells_how_it_gets_on(database: Database) -> None:
    told, done = asyncio.Event(), asyncio.Event()

    async def run(given: dict[str, Any]) -> dict[str, Any]:
        report_progress("half\nof it", 0.5)
        told.set()
        await done.wait()
        report_progress("almost", 7)
        return {}

    async def go_on(listener: Listener) -> None:
        await told.wait()
        await until(listener.hears(Progress(1, "probe", "half\nof it", 0.5)))
        done.set()

    listener = await heard_of(database, FakeTool(run, effect="unsafe"), go_on)
    assert listener.heard == [Progress(1, "probe", "half\nof it", 0.5)], "what comes too late is not heard"


async def test_a_tool_on_a_thread_may_report_as_often_as_it_likes(database: Database) -> None:
    enough = threading.Event()
    counts = [0]

    def run(given: dict[str, Any]) -> dict[str, Any]:
        ends_at = time.monotonic() + 10
        while not enough.is_set() and time.monotonic() < ends_at:
            counts[0] += 1
            report_progress(str(counts[0]) + "x" * 2000)
        return {}

    async def go_on(listener: Listener) -> None:
        await until(lambda: len(listener.heard) >= 3)
        enough.set()

    listener = await heard_of(database, FakeTool(run, effect="read"), go_on)
    assert counts[0] > len(listener.heard) * 10
    reports = [piece for piece in listener.heard if isinstance(piece, Progress)]
    assert {len(report.text) for report in reports} == {MAX_PROGRESS_CHARS}
    assert {(report.step, report.tool, report.fraction) for report in reports} == {(1, "probe", None)}
    numbers = [int(report.text.rstrip("x")) for report in reports]
    assert numbers == sorted(numbers)


async def test_calls_side_by_side_each_tell_of_their_own_step(database: Database) -> None:
    done = asyncio.Event()

    async def run(given: dict[str, Any]) -> dict[str, Any]:
        report_progress(f"call {given['n']}")
        await done.wait()
        return {}

    async def go_on(listener: Listener) -> None:
        expected = {Progress(1, "probe", "call 1"), Progress(2, "probe", "call 2")}
        await until(lambda: expected <= set(listener.heard))
        done.set()

    turn = calls(("probe", {"n": 1}), ("probe", {"n": 2}))
    await heard_of(database, FakeTool(run, effect="read"), go_on, turn=turn)


async def test_a_thread_that_was_left_behind_says_nothing_of_another_step(database: Database) -> None:
    left_behind: list[Context] = []
    enough = threading.Event()

    def run(given: dict[str, Any]) -> dict[str, Any]:
        if not left_behind:
            left_behind.append(copy_context())
            return {}
        left_behind[0].run(report_progress, "still there")
        report_progress("the second")
        enough.wait(10)
        return {}

    async def go_on(listener: Listener) -> None:
        await until(lambda: listener.heard)
        enough.set()

    turn = calls(("probe", {}), ("probe", {}))
    listener = await heard_of(database, FakeTool(run, effect="unsafe"), go_on, turn=turn)
    assert listener.heard == [Progress(2, "probe", "the second")]


@pytest.mark.parametrize("fraction", [float("nan"), -1.0, 2, None])
def test_progress_that_nobody_can_hear_is_no_error(fraction: float | None) -> None:
    report_progress("outside of any call", fraction)


@pytest.mark.parametrize(("text", "fraction"), [(7, None), ("text", "half"), ("text", [])])
def test_progress_that_is_no_text_or_no_number_is_an_error_of_the_tool(text: Any, fraction: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        report_progress(text, fraction)


def test_a_tool_may_report_in_a_run_that_is_not_kept() -> None:
    async def run(given: dict[str, Any]) -> dict[str, Any]:
        report_progress("nobody is there")
        return {}

    agent = Agent(ScriptedModel(call("probe"), answer("end")), tools=[FakeTool(run)])
    result = agent.run("go")
    assert (result.status, result.trace[0].error) == ("success", None)
