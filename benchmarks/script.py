"""The scripted model and the trivial tool, in the two shapes that our loop and the hand-made one take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from app.agent.core import Agent
from app.jsonvalue import JsonObject
from app.llm.interface import LLMRequest, LLMResponse, ToolCall
from benchmarks import handmade

GOAL = "Add the numbers."

Pause = Callable[[], Awaitable[object]]


class AddTool:
    """Adds two integers, at once."""

    name = "add"
    description = "Add two integers."
    input_schema: JsonObject = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    }
    effect = "pure"
    timeout_s = handmade.TIMEOUT_S

    async def run(self, input: Any) -> JsonObject:
        return {"sum": input["a"] + input["b"]}


class ScriptedModel:
    """Asks for `steps` additions, one a turn, then answers; `pause` is awaited before each reply."""

    def __init__(self, steps: int, pause: Pause | None = None) -> None:
        self._steps = steps
        self._pause = pause

    async def complete(self, request: LLMRequest) -> LLMResponse:
        if self._pause is not None:
            await self._pause()
        done = len(request.messages) // 2  # the goal, then a decision and a result for each step
        if done < self._steps:
            return LLMResponse(tool_calls=(ToolCall("add", {"a": done, "b": 1}),))
        return LLMResponse(content="done")


Runner = Callable[[], Awaitable[object]]


def our_runner(steps: int, pause: Pause | None = None) -> Runner:
    """Return what carries out one run of `steps` steps on an `Agent`."""
    agent = Agent(ScriptedModel(steps, pause), [AddTool()], max_steps=1000)

    async def run() -> None:
        result = await agent.arun(GOAL)
        assert result.status == "success", result.output
        assert len(result.trace) == steps
        assert result.trace[-1].output == {"sum": steps}

    return run


def handmade_runner(steps: int, pause: Pause | None = None) -> Runner:
    """Return what carries out the same run on the hand-made loop."""

    async def model(trace: list[handmade.Step]) -> str | tuple[str, dict[str, Any]]:
        if pause is not None:
            await pause()
        return ("add", {"a": len(trace), "b": 1}) if len(trace) < steps else "done"

    async def run() -> None:
        result = await handmade.run(model)
        assert result.status == "success", result.output
        assert len(result.trace) == steps
        assert result.trace[-1].output == {"sum": steps}

    return run


async def yielding() -> None:
    """Let the other runs go first: a model that answers at the loop's next turn."""
    await asyncio.sleep(0)


async def waiting() -> None:
    """Answer after 20 ms."""
    await asyncio.sleep(0.020)
