"""What can happen in a run: the events that the loop proposes and the journal records."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

from msgspec import Struct

from ..jsonvalue import JsonObject
from ..llm.interface import ToolCall, Usage

Status: TypeAlias = Literal["success", "error", "cancelled"]
"""How a run ends. "cancelled" is for runs that are kept; one that lives in its caller ends with its caller."""


class Step(Struct, frozen=True):
    """One tool call as the caller sees it: exactly these six fields.

    `output` is what the tool returned, or null with an `error` of the form "code: sentence".
    """

    step: int
    tool: str
    input: JsonObject
    output: JsonObject | None
    error: str | None
    timestamp: datetime


class RunStarted(Struct, frozen=True, tag="run.started"):
    """The run's goal, its context, the names of the tools in its snapshot, and its own limit if it has one."""

    goal: str
    context: str | None
    tools: tuple[str, ...]
    max_steps: int | None = None


class ModelRequested(Struct, frozen=True, tag="model.requested"):
    """The model is about to be asked for the `turn`-th time; from here on the call may have been paid."""

    turn: int


class ModelDecided(Struct, frozen=True, tag="model.decided"):
    """The model's checked decision: calls to make, or the answer in `content`."""

    turn: int
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    declined: bool = False
    model: str | None = None
    usage: Usage | None = None


class ModelRejected(Struct, frozen=True, tag="model.rejected"):
    """The model's response was not a decision; `problem` is what it is told."""

    turn: int
    problem: str
    usage: Usage | None = None


class ToolIntended(Struct, frozen=True, tag="tool.intended"):
    """The tool is about to run; from here on it may have had its effect."""

    step: int
    tool: str
    input: JsonObject


class ToolCompleted(Struct, frozen=True, tag="tool.completed"):
    """The tool ran, failed, or was refused. `effect_unknown` marks a failure that may have had an effect."""

    step: Step
    duration_s: float = 0.0
    call_id: str = ""
    effect_unknown: bool = False


class ToolInterrupted(Struct, frozen=True, tag="tool.interrupted"):
    """The `attempt`-th call of an intended step ended without telling whether it had its effect.

    It is made again, under the same idempotency key; or, if it is `in_doubt`, the run goes no further until
    somebody says what became of it.
    """

    step: int
    tool: str
    attempt: int
    reason: str
    in_doubt: bool


class ToolResolved(Struct, frozen=True, tag="tool.resolved"):
    """Somebody knows what became of a step that was in doubt: it happened, with this output, or it did not."""

    step: int
    happened: bool
    output: JsonObject | None = None


class RunFinished(Struct, frozen=True, tag="run.finished"):
    """The run is over. `reason` is the stable code of an error, null for a success."""

    status: Status
    output: str
    reason: str | None = None


Event: TypeAlias = (
    RunStarted
    | ModelRequested
    | ModelDecided
    | ModelRejected
    | ToolIntended
    | ToolCompleted
    | ToolInterrupted
    | ToolResolved
    | RunFinished
)
