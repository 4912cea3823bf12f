"""The yardstick over HTTP: what one would write in FastAPI to give the same answer without any agent behind it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from fastapi import FastAPI
from pydantic import BaseModel

from app.api.models import RunTaskRequest


class Step(BaseModel):
    """One tool call."""

    step: int
    tool: str
    input: dict[str, Any]
    output: dict[str, Any] | None
    error: str | None
    timestamp: datetime


class RunTaskResponse(BaseModel):
    """The answer and its trace."""

    run_id: str
    status: Literal["success", "error"]
    output: str
    trace: list[Step]


class Health(BaseModel):
    """The service answers."""

    status: Literal["healthy"] = "healthy"


app = FastAPI()

EXPRESSION = "(100 + 50) * 2"


@app.post("/api/v1/run-task", response_model=RunTaskResponse)
async def run_task(task: RunTaskRequest) -> RunTaskResponse:
    """Answer as if the goal had been carried out."""
    assert task.goal
    step = Step(
        step=1,
        tool="math",
        input={"expression": EXPRESSION},
        output={"result": 300, "expression": EXPRESSION},
        error=None,
        timestamp=datetime.now(UTC),
    )
    output = f"Calculation result: 300 (from {EXPRESSION})"
    return RunTaskResponse(run_id=str(uuid4()), status="success", output=output, trace=[step])


@app.get("/api/v1/health", response_model=Health)
async def health() -> Health:
    """Say that the service answers."""
    return Health()
