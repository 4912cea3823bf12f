from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from typing import Any

import pytest
from fakes import FakeTool, ScriptedModel, answer, call

from app.agent.core import MAX_CONTEXT_CHARS, MAX_GOAL_CHARS, MAX_KEPT_TOOLBOXES, Agent
from app.agent.events import RunFinished, ToolCompleted
from app.errors import (
    DuplicateToolError,
    InvalidContextError,
    InvalidGoalError,
    InvalidToolError,
    RunningLoopError,
    UnknownToolError,
)
from app.llm.interface import LLMResponse
from app.tools.base import tool_registry


def test_the_library_works_without_a_server() -> None:
    dumped = Agent().run(goal="Calculate 2+2").model_dump()
    timestamp = dumped["trace"][0].pop("timestamp")
    assert dumped == {
        "status": "success",
        "output": "Calculation result: 4 (from 2+2)",
        "trace": [
            {
                "step": 1,
                "tool": "math",
                "input": {"expression": "2+2"},
                "output": {"result": 4, "expression": "2+2"},
                "error": None,
            }
        ],
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", timestamp)


def test_run_takes_its_arguments_by_position_too() -> None:
    model = ScriptedModel(answer())
    Agent(model, [FakeTool(name="a"), FakeTool(name="b")]).run("go", "background", ["b"])
    request = model.requests[0]
    assert (request.messages[0].goal, request.messages[0].context) == ("go", "background")  # type: ignore[union-attr]
    assert [spec.name for spec in request.tools] == ["b"]


@pytest.mark.parametrize(
    ("tools", "seen"), [(None, ["a", "b"]), ([], []), (["b"], ["b"]), (["b", "a", "b"], ["b", "a"])]
)
def test_tools_of_a_run_narrow_those_of_the_agent(tools: list[str] | None, seen: list[str]) -> None:
    model = ScriptedModel(answer())
    Agent(model, [FakeTool(name="a"), FakeTool(name="b")]).run("go", tools=tools)
    assert [spec.name for spec in model.requests[0].tools] == seen


def test_ever_new_selections_of_tools_are_not_kept_for_ever() -> None:
    agent = Agent(ScriptedModel(answer()), [FakeTool(name=f"t{number}") for number in range(100)])
    for number in range(100):
        agent.run("go", tools=[f"t{number}"])
    assert len(agent._toolboxes[1]) == MAX_KEPT_TOOLBOXES


def test_an_unknown_tool_is_named_and_the_known_ones_are_listed() -> None:
    with pytest.raises(UnknownToolError, match=r"Unknown tool 'c', 'd'. Available tools: a, b.") as caught:
        Agent(tools=[FakeTool(name="a"), FakeTool(name="b")]).run("go", tools=["c", "a", "d"])
    assert (caught.value.unknown, caught.value.available) == (["c", "d"], ["a", "b"])
    with pytest.raises(UnknownToolError, match="Available tools: none"):
        Agent(tools=[]).run("go", tools=["c"])


def test_tools_given_as_one_text_are_a_mistake() -> None:
    with pytest.raises(TypeError, match="list of names"):
        Agent().run("go", tools="math")


@pytest.mark.parametrize("goal", ["", "  \n\t\u3000\u200b", "x" * (MAX_GOAL_CHARS + 1), "a\0b", "\ud800", None, 7])
def test_a_goal_that_cannot_be_carried_out_is_refused(goal: Any) -> None:
    with pytest.raises(InvalidGoalError):
        Agent(ScriptedModel(answer())).run(goal)


@pytest.mark.parametrize("context", ["x" * (MAX_CONTEXT_CHARS + 1), "a\0b", "\ud800", 7])
def test_a_context_that_cannot_be_stored_is_refused(context: Any) -> None:
    with pytest.raises(InvalidContextError):
        Agent(ScriptedModel(answer())).run("go", context)


def test_the_longest_goal_and_context_are_accepted() -> None:
    assert Agent(ScriptedModel(answer())).run("x" * MAX_GOAL_CHARS, "y" * MAX_CONTEXT_CHARS).status == "success"


async def test_run_inside_a_running_loop_names_arun() -> None:
    with pytest.raises(RunningLoopError, match="arun"):
        Agent().run("Calculate 2+2")


async def test_stream_checks_its_arguments_at_once() -> None:
    with pytest.raises(InvalidGoalError):
        Agent().stream(" ")


async def test_stream_yields_events_as_they_happen() -> None:
    ran: list[str] = []
    model = ScriptedModel(call("probe"), answer("end"))
    seen = []
    async for event in Agent(model, [FakeTool(lambda given: ran.append("ran") or {}, quick=True)]).stream("go"):
        if isinstance(event, ToolCompleted):
            assert ran == ["ran"]
        seen.append(event)
    assert seen[-1] == RunFinished("success", "end")


async def test_a_stream_that_is_left_early_stops_the_run() -> None:
    ran: list[int] = []
    tool = FakeTool(lambda given: ran.append(1) or {}, quick=True)
    stream = Agent(ScriptedModel(call("probe")), [tool]).stream("go")
    async for event in stream:
        if isinstance(event, ToolCompleted):
            break
    await stream.aclose()
    assert ran == [1]


async def test_one_agent_carries_out_many_goals_at_once() -> None:
    class Echo:
        async def complete(self, request: Any) -> LLMResponse:
            await asyncio.sleep(0)
            return answer(request.messages[0].goal)

    agent = Agent(Echo(), [])
    results = await asyncio.gather(*(agent.arun(f"goal {n}") for n in range(100)))
    assert [result.output for result in results] == [f"goal {n}" for n in range(100)]


def test_agents_run_on_several_threads_at_once() -> None:
    agent, outputs = Agent(), []
    threads = [
        threading.Thread(target=lambda: outputs.append(agent.run("Calculate 6*7").output)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == ["Calculation result: 42 (from 6*7)"] * 8


def test_a_tool_registered_later_is_seen_by_the_next_run() -> None:
    model = ScriptedModel(answer())
    agent = Agent(model)
    agent.run("go")
    tool_registry.register(FakeTool(name="late"))
    agent.run("go")
    first, second = ([spec.name for spec in request.tools] for request in model.requests)
    assert first == ["math", "web_search", "governance_note"]
    assert second == [*first, "late"]


def test_a_registered_tool_replaces_the_built_in_of_its_name() -> None:
    tool_registry.register(FakeTool(lambda given: {"result": "mine", "expression": ""}, name="math"))
    assert Agent().run("Calculate 2+2").trace[0].output == {"result": "mine", "expression": ""}


async def test_a_tool_registered_during_a_run_does_not_slip_into_it() -> None:
    def register(given: dict[str, Any]) -> dict[str, Any]:
        tool_registry.register(FakeTool(name="sneaky"))
        return {}

    tool_registry.register(FakeTool(register, name="opener", quick=True))
    model = ScriptedModel(call("opener"), call("sneaky"), answer())
    result = await Agent(model).arun("go")
    assert (result.trace[1].error or "").startswith("unknown_tool: ")


def test_two_registrations_of_one_name_raise() -> None:
    tool_registry.register(FakeTool(name="once"))
    with pytest.raises(DuplicateToolError, match="once"):
        tool_registry.register(FakeTool(name="once"))


def test_what_is_no_tool_or_no_model_is_refused_when_the_agent_is_made() -> None:
    with pytest.raises(InvalidToolError):
        Agent(tools=[object()])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="not one FakeTool"):
        Agent(tools=FakeTool())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="list of names here"):
        Agent().run("go", tools=[FakeTool()])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="no LLM client"):
        Agent(object())  # type: ignore[arg-type]
    for limits in ({"max_steps": 0}, {"max_seconds": 0}):
        with pytest.raises(ValueError, match="positive"):
            Agent(**limits)  # type: ignore[arg-type]


def test_results_keep_exact_integers_in_python_and_protect_them_in_json() -> None:
    huge = 2**64 + 1
    result = Agent(ScriptedModel(call("probe"), answer()), [FakeTool(lambda given: {"n": huge})]).run("go")
    assert result.model_dump()["trace"][0]["output"] == {"n": huge}
    assert f'"output":{{"n":"{huge}"}}' in result.model_dump_json()


def test_importing_the_library_loads_no_web_or_settings_package() -> None:
    """DESIGN section 3: the library stays light."""
    heavy = ["fastapi", "starlette", "uvicorn", "pydantic", "pydantic_settings", "sqlalchemy", "mpmath", "sqlite3"]
    code = (
        "import sys; from app.agent.core import Agent; Agent(); "
        f"print(sorted(name for name in {heavy!r} if name in sys.modules))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert printed.stdout.strip() == "[]"
