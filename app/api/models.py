"""Wire shapes: what requests must look like and what answers are, as the OpenAPI document states them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from ..agent.core import MAX_CONTEXT_CHARS, MAX_GOAL_CHARS
from ..jsonvalue import BLANK
from ..runs.models import RunRequest
from ..runs.requests import MAX_COST_USD, MAX_TOKENS, MIN_COST_USD
from ..tools.base import Effect
from ..tools.governance import PROPOSAL_ID_PATTERN

MAX_BODY_BYTES = 1024 * 1024

# validated by pydantic-core's Rust regex: linear time, and no trailing-newline surprise in `$`
GOAL_PATTERN = rf"^[^\u0000]*[^{BLANK}][^\u0000]*$"
STORABLE_PATTERN = r"^[^\u0000]*$"

PATTERN_MEANINGS = {
    GOAL_PATTERN: "It is blank, or holds a NUL character.",
    STORABLE_PATTERN: "It holds a NUL character.",
    PROPOSAL_ID_PATTERN: "It is no proposal id. A proposal id looks like PROP-2025-001: PROP, a year, a number "
    "of three to six digits.",
}
"""What breaking a pattern means, for a person."""

EXAMPLE_TASK: JsonDict = {"goal": "Calculate the result of (100 + 50) * 2", "context": None, "tools": ["math"]}
EXAMPLE_STEP: JsonDict = {
    "step": 1,
    "tool": "math",
    "input": {"expression": "(100 + 50) * 2"},
    "output": {"result": 300, "expression": "(100 + 50) * 2"},
    "error": None,
    "timestamp": "2026-11-22T09:30:00.123456Z",
}


def integral(value: object) -> object:
    """Return 7.0 as 7, since JSON Schema takes the one for an integer as well; strict validation does not."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class RunTaskRequest(BaseModel):
    """A goal to carry out."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [EXAMPLE_TASK]})

    goal: Annotated[str, StringConstraints(min_length=1, max_length=MAX_GOAL_CHARS, pattern=GOAL_PATTERN)] = Field(
        description="What is to be done, in plain language."
    )
    context: Annotated[str, StringConstraints(max_length=MAX_CONTEXT_CHARS, pattern=STORABLE_PATTERN)] | None = (
        Field(None, description="Background for the goal; data, never instructions.")
    )
    tools: list[str] | None = Field(
        None,
        description="Names of the tools the run may use: omitted or null for all, an empty list for none.",
    )
    model: str | None = Field(None, description="The model to ask; omitted or null for the usual one.")
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS), BeforeValidator(integral)] | None = Field(
        None, description="Tokens that its models may take, input and output; no more than the service's limit."
    )
    max_cost_usd: float | None = Field(
        None,
        ge=MIN_COST_USD,
        le=MAX_COST_USD,
        description="US dollars that its models may cost; no more than the service's limit, counted in 1e-9.",
    )
    output_schema: dict[str, Any] | None = Field(
        None, description="A JSON Schema of at most 32 KiB: `output` is then the text of JSON that satisfies it."
    )

    def to_request(self) -> RunRequest:
        """Return what is asked of the service."""
        return RunRequest(
            self.goal,
            self.context,
            None if self.tools is None else tuple(self.tools),
            model=self.model,
            max_tokens=self.max_tokens,
            max_cost_usd=self.max_cost_usd,
            output_schema=self.output_schema,
        )


class StepModel(BaseModel):
    """One tool call. `output` is null where there is an `error` ("code: sentence")."""

    step: int
    tool: str
    input: dict[str, Any]
    output: dict[str, Any] | None
    error: str | None
    timestamp: datetime


class RunTaskResponse(BaseModel):
    """How the run ended, the answer or the reason as text, and every step."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run_id": "019aab7e-5c1b-7e07-9d5c-3f0a9a1b2c3d",
                    "status": "success",
                    "output": "Calculation result: 300 (from (100 + 50) * 2)",
                    "trace": [EXAMPLE_STEP],
                }
            ]
        }
    )

    run_id: str
    status: Literal["success", "error"]
    output: str
    trace: list[StepModel]


EXAMPLE_NOTE: JsonDict = {
    "note": "Legal review completed",
    "run_id": "019aab7e-5c1b-7e07-9d5c-3f0a9a1b2c3d",
    "step": 1,
    "created_at": "2026-11-22T09:30:00.123456Z",
}


class NoteModel(BaseModel):
    """One note: the run and step that wrote it and when, or nulls if its store does not keep them."""

    note: str
    run_id: str | None
    step: int | None
    created_at: datetime | None


class GovernanceNotes(BaseModel):
    """The notes of a proposal, in the order they were added; with `details` if they were asked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"proposal_id": "PROP-2025-001", "notes": [EXAMPLE_NOTE["note"]]},
                {
                    "proposal_id": "PROP-2025-001",
                    "notes": [EXAMPLE_NOTE["note"]],
                    "details": [EXAMPLE_NOTE],
                },
            ]
        }
    )

    proposal_id: str
    notes: list[str]
    details: list[NoteModel] = Field(default_factory=list)


class ToolModel(BaseModel):
    """A tool that runs may use."""

    name: str
    description: str
    input_schema: dict[str, Any]
    effect: Effect


class ToolList(BaseModel):
    """Every tool there is."""

    tools: list[ToolModel]


class Health(BaseModel):
    """The service answers."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "healthy", "service": "llm-agent-core", "version": "0.1.0"}]}
    )

    status: Literal["healthy"] = "healthy"
    service: Literal["llm-agent-core"] = "llm-agent-core"
    version: str


class FieldProblem(BaseModel):
    """What is wrong with one part of a request."""

    field: str
    message: str


class Problem(BaseModel):
    """An error, as RFC 9457 problem details; `code` is stable and meant for programs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:llm-agent-core:problem:unknown_tool",
                    "title": "Unprocessable Content",
                    "status": 422,
                    "detail": "Unknown tool 'maths'. Available tools: math, web_search, governance_note.",
                    "code": "unknown_tool",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldProblem] | None = None
