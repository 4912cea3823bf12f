from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest
from fake_models import NamedModel, end_of, events_of, resumed
from fakes import FakeTool, ScriptedModel, answer, calls, kinds

from app.agent.core import Agent
from app.agent.events import Event, ToolCompleted, ToolIntended
from app.agent.journal import ListJournal
from app.agent.state import AgentState
from app.errors import ToolRejected
from app.tools.call import ToolCallContext, current_call

SOON_S = 5.0


class Meeting:
    """A place where so many calls have to be at once before any of them goes on."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.there = 0
        self.most = 0
        self.everybody = asyncio.Event()

    async def attend(self) -> None:
        self.there += 1
        self.most = max(self.most, self.there)
        if self.there >= self.size:
            self.everybody.set()
        try:
            await asyncio.wait_for(self.everybody.wait(), 0.2)
        except TimeoutError:
            pass
        finally:
            self.there -= 1


def meeting_tool(meeting: Meeting, name: str = "probe", effect: str = "read", **attributes: Any) -> FakeTool:
    async def run(given: dict[str, Any]) -> dict[str, Any]:
        await meeting.attend()
        return {"n": given.get("n")}

    return FakeTool(run, name=name, effect=effect, **attributes)


def turn(count: int, name: str = "probe") -> ScriptedModel:
    return ScriptedModel(calls(*[(name, {"n": n}) for n in range(1, count + 1)]), answer())


async def until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + SOON_S
    while not condition():
        assert monotonic() < deadline
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _nothing_is_left_unlooked_at(caplog: pytest.LogCaptureFixture) -> Any:
    """asyncio logs an exception that nobody has retrieved when its task is collected."""
    with caplog.at_level(logging.ERROR, logger="asyncio"):
        yield
        gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]


def only_ourselves() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("effect", ["pure", "read"])
async def test_calls_that_may_be_made_again_are_made_side_by_side(effect: str) -> None:
    meeting = Meeting(5)
    result = await Agent(turn(5), [meeting_tool(meeting, effect=effect)]).arun("go")
    assert meeting.most == 5
    assert [step.output for step in result.trace] == [{"n": n} for n in range(1, 6)]
    assert only_ourselves()


async def test_tools_that_run_in_threads_are_side_by_side_too() -> None:
    barrier = threading.Barrier(3)
    tool = FakeTool(lambda given: {"place": barrier.wait(SOON_S) >= 0}, effect="read")
    result = await Agent(turn(3), [tool]).arun("go")
    assert [step.error for step in result.trace] == [None] * 3


@pytest.mark.parametrize("effect", ["keyed", "unsafe", "transactional"])
async def test_calls_with_an_effect_are_made_one_after_the_other(effect: str) -> None:
    meeting = Meeting(2)
    result = await Agent(turn(3), [meeting_tool(meeting, effect=effect)]).arun("go")
    assert meeting.most == 1
    assert [step.output for step in result.trace] == [{"n": 1}, {"n": 2}, {"n": 3}]


async def test_nothing_is_begun_beyond_a_call_with_an_effect() -> None:
    """What comes after it may depend on it."""
    order: list[str] = []

    def noting(name: str, effect: str) -> FakeTool:
        async def run(given: dict[str, Any]) -> dict[str, Any]:
            order.append(f"{name}{given['n']} begins")
            await asyncio.sleep(0.01)
            order.append(f"{name}{given['n']} ends")
            return {}

        return FakeTool(run, name=name, effect=effect)

    model = ScriptedModel(calls(*[(name, {"n": n}) for n, name in enumerate("rrwrr")]), answer())
    result = await Agent(model, [noting("r", "read"), noting("w", "unsafe")]).arun("go")
    assert order[:2] == ["r0 begins", "r1 begins"]
    assert order[4:6] == ["w2 begins", "w2 ends"]
    assert order[6:8] == ["r3 begins", "r4 begins"]
    assert [step.tool for step in result.trace] == list("rrwrr")


async def test_the_trace_has_the_models_order_whoever_is_first() -> None:
    ended: list[int] = []
    doors = [asyncio.Event() for _ in range(4)]

    async def run(given: dict[str, Any]) -> dict[str, Any]:
        n = given["n"]
        if n < 4:
            await doors[n].wait()
        ended.append(n)
        doors[n - 1].set()
        return {"n": n}

    events = await events_of(Agent(turn(4), [FakeTool(run, effect="read")]))
    assert ended == [4, 3, 2, 1]
    completed = [event.step for event in events if isinstance(event, ToolCompleted)]
    assert [(step.step, step.output) for step in completed] == [(n, {"n": n}) for n in range(1, 5)]
    assert kinds(events)[3:-3] == ["ToolIntended", "ToolCompleted"] * 4


async def test_each_call_knows_its_own_step_and_key() -> None:
    seen: dict[int, ToolCallContext] = {}
    meeting = Meeting(3)

    async def run(given: dict[str, Any]) -> dict[str, Any]:
        await meeting.attend()
        seen[given["n"]] = current_call()
        return {}

    await Agent(turn(3), [FakeTool(run, effect="read")]).arun("go")
    assert meeting.most == 3
    assert {n: (call.step, call.attempt) for n, call in seen.items()} == {1: (1, 1), 2: (2, 1), 3: (3, 1)}
    assert len({call.run_id for call in seen.values()}) == 1
    assert len({call.idempotency_key for call in seen.values()}) == 3
    with pytest.raises(RuntimeError):
        current_call()


async def test_an_error_stays_with_its_own_step() -> None:
    errors: dict[int, BaseException] = {
        2: ValueError("two"),
        3: ToolRejected("three", "odd"),
        4: SystemExit(4),
        5: asyncio.CancelledError(),
    }

    async def run(given: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        if given["n"] in errors:
            raise errors[given["n"]]
        return {}

    result = await Agent(turn(6), [FakeTool(run, effect="read")]).arun("go")
    assert result.status == "success"
    assert [step.error for step in result.trace] == [
        None,
        "tool_failed: ValueError: two",
        "odd: three",
        "tool_failed: SystemExit: 4",
        "tool_failed: probe cancelled itself.",
        None,
    ]


async def test_calls_that_cannot_be_made_do_not_keep_the_others_apart() -> None:
    meeting = Meeting(3)
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    model = ScriptedModel(
        calls(
            ("probe", {"n": 1}), ("probe", {"n": "two"}), ("gone", {}), ("probe", {"n": 4}), ("probe", {"n": 5})
        ),
        answer(),
    )
    result = await Agent(model, [meeting_tool(meeting, input_schema=schema)]).arun("go")
    assert meeting.most == 3
    assert [(step.error or "fine").partition(":")[0] for step in result.trace] == [
        "fine",
        "invalid_input",
        "unknown_tool",
        "fine",
        "fine",
    ]


async def test_quick_tools_are_not_worth_it_and_do_not_stop_the_others() -> None:
    meeting = Meeting(2)
    threads: list[threading.Thread] = []
    quick = FakeTool(
        lambda given: threads.append(threading.current_thread()) or {}, name="quick", effect="pure", quick=True
    )
    model = ScriptedModel(calls(("quick", {}), ("slow", {}), ("quick", {}), ("slow", {})), answer())
    result = await Agent(model, [quick, meeting_tool(meeting, name="slow")]).arun("go")
    assert meeting.most == 2
    assert threads == [threading.main_thread()] * 2
    assert [step.tool for step in result.trace] == ["quick", "slow", "quick", "slow"]


async def test_no_more_is_begun_than_the_run_may_make() -> None:
    begun: list[int] = []

    async def run(given: dict[str, Any]) -> dict[str, Any]:
        begun.append(given["n"])
        await asyncio.sleep(0)
        return {}

    events = await events_of(Agent(turn(5), [FakeTool(run, effect="read")], max_steps=3))
    assert begun == [1, 2, 3]
    assert end_of(events).reason == "step_limit"
    assert len(AgentState.fold(events).steps) == 3
    assert only_ourselves()


class Stuck:
    """A tool that never answers, and notes what becomes of its calls."""

    def __init__(self, *, answers: frozenset[int] = frozenset()) -> None:
        self.begun: list[int] = []
        self.broken_off: list[int] = []
        self.answers = answers

    async def run(self, given: dict[str, Any]) -> dict[str, Any]:
        self.begun.append(given["n"])
        if given["n"] in self.answers:
            return {}
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.broken_off.append(given["n"])
            raise
        return {}


async def test_a_cancellation_breaks_all_of_them_off() -> None:
    stuck = Stuck()
    task = asyncio.create_task(Agent(turn(4), [FakeTool(stuck.run, effect="read")]).arun("go"))
    await until(lambda: len(stuck.begun) == 4)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(only_ourselves)
    assert sorted(stuck.broken_off) == [1, 2, 3, 4]


async def test_the_end_of_the_runs_time_breaks_all_of_them_off() -> None:
    stuck = Stuck()
    agent = Agent(turn(4), [FakeTool(stuck.run, effect="read")], max_seconds=0.1)
    events = await events_of(agent)
    assert end_of(events).reason == "time_limit"
    await until(only_ourselves)
    assert sorted(stuck.broken_off) == [1, 2, 3, 4]


async def test_time_outs_run_side_by_side_too() -> None:
    stuck = Stuck(answers=frozenset({3}))
    started = monotonic()
    result = await Agent(turn(8), [FakeTool(stuck.run, effect="read", timeout_s=0.5)]).arun("go")
    assert monotonic() - started < 2.5  # 3.5 one after the other
    assert [(step.error or "fine").partition(":")[0] for step in result.trace] == [
        *["timeout"] * 2,
        "fine",
        *["timeout"] * 5,
    ]
    assert only_ourselves()


async def test_who_stops_listening_leaves_nothing_running() -> None:
    stuck = Stuck(answers=frozenset({1}))
    stream = Agent(turn(4), [FakeTool(stuck.run, effect="read")]).stream("go")
    async for event in stream:
        if isinstance(event, ToolCompleted):
            break
    await stream.aclose()
    await until(only_ourselves)
    assert sorted(stuck.broken_off) == [2, 3, 4]


async def test_calls_that_failed_and_that_nobody_asks_for_are_not_complained_of() -> None:
    failed = asyncio.Event()

    async def run(given: dict[str, Any]) -> dict[str, Any]:
        if given["n"] > 1:
            failed.set()
            raise ValueError(given["n"])
        await failed.wait()
        await asyncio.sleep(0.01)
        return {}

    stream = Agent(turn(4), [FakeTool(run, effect="read")]).stream("go")
    async for event in stream:
        if isinstance(event, ToolCompleted):
            break
    await stream.aclose()
    await until(only_ourselves)


@pytest.mark.parametrize("kept", [3, 4, 5, 6, 7, 8, 9])
async def test_a_run_resumes_from_any_event_of_such_a_turn(kept: int) -> None:
    async def run(given: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"n": given["n"]}

    def agent(model: ScriptedModel) -> Agent:
        return Agent(model, [FakeTool(run, effect="read")])

    events = await events_of(agent(turn(3)))
    again = await resumed(agent(ScriptedModel(answer())), events[:kept])

    def without_times(all_of_them: list[Event]) -> list[tuple[int, Any]]:
        return [(event.step.step, event.step.output) for event in all_of_them if isinstance(event, ToolCompleted)]

    assert without_times(again) == without_times(events)
    assert [event.step for event in again if isinstance(event, ToolIntended)] == [1, 2, 3]
    assert end_of(again) == end_of(events)


async def test_a_kept_run_breaks_them_off_when_it_is_let_go() -> None:
    stuck = Stuck(answers=frozenset({1}))
    agent = Agent(
        NamedModel("a", calls(*[("probe", {"n": n}) for n in range(1, 5)])), [FakeTool(stuck.run, effect="read")]
    )
    state = AgentState.fold([agent.opening("go")])
    loop = agent.loop(state, ListJournal(), "run-1")
    while not state.steps:
        await loop.next_event()
    loop.close()
    await until(only_ourselves)
    assert sorted(stuck.broken_off) == [2, 3, 4]
