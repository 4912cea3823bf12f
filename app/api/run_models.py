"""Wire shapes of runs as resources: what is submitted and resolved, and what answers look like."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

from msgspec.structs import replace
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)
from pydantic.config import JsonDict

from ..runs.models import MAX_PRIORITY, MIN_PRIORITY, RunRequest, RunStatus
from ..runs.requests import MAX_DEADLINE_S, MAX_METADATA_BYTES, MAX_STEPS
from .models import EXAMPLE_STEP, EXAMPLE_TASK, RunTaskRequest, StepModel, integral
from .usage_models import EXAMPLE_USAGE, DecisionModel, UsageModel

EXAMPLE_ID = "019aab7e-5c1b-7e07-9d5c-3f0a9a1b2c3d"
EXAMPLE_HASH = "5f8a3c0d9b1e4a7f2c6d8e0b3a5f7c9d1e2b4a6c8d0f1e3a5b7c9d2e4f6a8b0c"
EXAMPLE_TIME = "2026-11-22T09:30:00.123456Z"

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _moment(value: object) -> object:
    """Return an RFC 3339 text as the moment it names, in UTC; strict validation takes no text for a time."""
    if not isinstance(value, str):
        return value
    if RFC_3339.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise ValueError("It is no time like 2026-11-22T09:30:00Z, with an offset from UTC.")


Moment: TypeAlias = Annotated[
    datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})
]


class RunSubmission(RunTaskRequest):
    """A goal to carry out in the background."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{**EXAMPLE_TASK, "priority": 10, "metadata": {"ticket": "OPS-7"}}]},
    )

    priority: Annotated[int, Field(ge=MIN_PRIORITY, le=MAX_PRIORITY), BeforeValidator(integral)] = Field(
        0, description="Queued runs of a higher priority start sooner."
    )
    deadline_s: float | None = Field(
        None,
        gt=0,
        le=MAX_DEADLINE_S,
        description="Seconds from now after which the run ends as an error, waiting time included.",
    )
    max_steps: Annotated[int, Field(ge=1, le=MAX_STEPS), BeforeValidator(integral)] | None = Field(
        None, description="Tool calls the run may make."
    )
    metadata: dict[str, Any] | None = Field(
        None, description=f"Your own labels, given back with the run; at most {MAX_METADATA_BYTES} bytes."
    )
    not_before: Moment | None = Field(None, description="The run does not start before this moment.")

    def to_request(self) -> RunRequest:
        """Return what is asked of the service."""
        return replace(
            super().to_request(),
            max_steps=self.max_steps,
            priority=self.priority,
            deadline_s=self.deadline_s,
            not_before=self.not_before,
            metadata=self.metadata,
        )


class Happened(BaseModel):
    """The step had its effect, and this is what it gave."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"outcome": "happened", "output": {"delivered": True}}]},
    )

    outcome: Literal["happened"]
    output: dict[str, Any] | None = Field(None, description="What the tool would have returned.")


class DidNotHappen(BaseModel):
    """The step had no effect; it is carried out again."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"outcome": "did_not_happen"}]}
    )

    outcome: Literal["did_not_happen"]


Resolution: TypeAlias = Annotated[Happened | DidNotHappen, Field(discriminator="outcome")]

Hash: TypeAlias = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

EXAMPLE_RUN: JsonDict = {
    "run_id": EXAMPLE_ID,
    "status": "success",
    "goal": "Calculate the result of (100 + 50) * 2",
    "context": None,
    "output": "Calculation result: 300 (from (100 + 50) * 2)",
    "reason": None,
    "steps": 1,
    "events": 8,
    "head_hash": EXAMPLE_HASH,
    "priority": 10,
    "max_steps": None,
    "model": "openai:gpt-5-mini",
    "max_tokens": None,
    "max_cost_usd": 0.05,
    "usage": EXAMPLE_USAGE,
    "cost_usd": 0.000651,
    "metadata": {"ticket": "OPS-7"},
    "created_at": EXAMPLE_TIME,
    "started_at": EXAMPLE_TIME,
    "finished_at": EXAMPLE_TIME,
    "not_before": None,
    "deadline_at": None,
    "cancel_requested": False,
    "pruned_at": None,
}


class RunModel(BaseModel):
    """A run as it is now. `events` is the number of its last event, `head_hash` that one's hash.

    `output` and `reason` (the stable code of an error) are there once it has ended. `model`, `max_steps`,
    `max_tokens` and `max_cost_usd` are what it asked for itself. `usage` and `cost_usd` are what its models took,
    exact to 1e-9; the cost is null if part of it is unknown. A run that was pruned has lost its events, and with
    them `goal`, `context`, `output`, `reason` and what it asked for.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_RUN]})

    run_id: str
    status: RunStatus
    goal: str | None
    context: str | None
    output: str | None
    reason: str | None
    steps: int
    events: int
    head_hash: Hash
    priority: int
    max_steps: int | None
    model: str | None
    max_tokens: int | None
    max_cost_usd: float | None
    usage: UsageModel
    cost_usd: float | None
    metadata: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    not_before: datetime | None
    deadline_at: datetime | None
    cancel_requested: bool
    pruned_at: datetime | None


class RunList(BaseModel):
    """Some runs, newest first; `next_cursor` asks for the next page and is null on the last."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"runs": [EXAMPLE_RUN], "next_cursor": None}]})

    runs: list[RunModel]
    next_cursor: str | None


class TraceModel(BaseModel):
    """Some steps of a run, in order; `next_after` asks for the next page and is null when there is none now.

    `decisions` are those that led to these steps, and on the last page the one that is the answer. `usage` and
    `cost_usd` are those of the whole run, with what came to nothing; the cost is null if part of it is unknown.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run_id": EXAMPLE_ID,
                    "status": "success",
                    "output": "Calculation result: 300 (from (100 + 50) * 2)",
                    "model": "openai:gpt-5-mini",
                    "usage": EXAMPLE_USAGE,
                    "cost_usd": 0.000651,
                    "trace": [EXAMPLE_STEP],
                    "decisions": [
                        {
                            "turn": 1,
                            "model": "gpt-5-mini-2025-08-07",
                            "steps": [1],
                            "usage": EXAMPLE_USAGE,
                            "cost_usd": 0.000651,
                        }
                    ],
                    "next_after": None,
                }
            ]
        }
    )

    run_id: str
    status: RunStatus
    output: str | None
    model: str | None
    usage: UsageModel
    cost_usd: float | None
    trace: list[StepModel]
    decisions: list[DecisionModel]
    next_after: int | None


class EventModel(BaseModel):
    """One event. `hash` is the SHA-256 of the 32 bytes of `prev_hash` and the text `body` in UTF-8, verbatim."""

    seq: int
    type: str | None
    prev_hash: Hash
    hash: Hash
    body: str


class EventPage(BaseModel):
    """Some events of a run, in order; `next_after` asks for the next page and is null when there is none now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run_id": EXAMPLE_ID,
                    "status": "running",
                    "head_seq": 1,
                    "head_hash": EXAMPLE_HASH,
                    "events": [
                        {
                            "seq": 1,
                            "type": "run.started",
                            "prev_hash": "0" * 64,
                            "hash": EXAMPLE_HASH,
                            "body": f'{{"v":1,"run":"{EXAMPLE_ID}","seq":1,"at":"{EXAMPLE_TIME}","event":'
                            '{"type":"run.started","goal":"Calculate 6*7","context":null,"tools":["math"]}}',
                        }
                    ],
                    "next_after": None,
                }
            ]
        }
    )

    run_id: str
    status: RunStatus
    head_seq: int
    head_hash: Hash
    events: list[EventModel]
    next_after: int | None
