"""The yardstick: the agent loop as one would write it by hand with pydantic, in sixty lines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel

TIMEOUT_S = 30.0


class Addition(BaseModel):
    """What the tool takes."""

    a: int
    b: int


class Step(BaseModel):
    """One line of the trace."""

    step: int
    tool: str
    input: dict[str, Any]
    output: dict[str, Any] | None = None
    error: str | None = None
    timestamp: datetime


class Result(BaseModel):
    """What the caller gets."""

    status: Literal["success", "error"]
    output: str
    trace: list[Step]


async def add(given: Addition) -> dict[str, Any]:
    return {"sum": given.a + given.b}


Model = Callable[[list[Step]], Awaitable[str | tuple[str, dict[str, Any]]]]
TOOLS = {"add": (Addition, add)}


async def run(model: Model, max_steps: int = 1000) -> Result:
    """Ask the model, run the tool it names, note the step, until it answers with a text."""
    trace: list[Step] = []
    while len(trace) <= max_steps:
        move = await model(trace)
        if isinstance(move, str):
            return Result.model_construct(status="success", output=move, trace=trace)
        name, arguments = move
        output, error = None, None
        try:
            schema, tool = TOOLS[name]
            given = schema.model_validate(arguments)
            async with asyncio.timeout(TIMEOUT_S):
                output = await tool(given)
        except Exception as caught:
            error = f"{type(caught).__name__}: {caught}"
        now = datetime.now(UTC)
        trace.append(
            Step(step=len(trace) + 1, tool=name, input=arguments, output=output, error=error, timestamp=now)
        )
    return Result(status="error", output="Too many steps.", trace=trace)
