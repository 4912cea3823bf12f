"""What can happen in a run: the events that the loop proposes and the journal records."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

from msgspec import Struct

from ..jsonvalue import JsonObject
from ..llm.interface import ToolCall, Usage
from ..permissions import Permissions

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
    """The run's goal, its context, the names of the tools in its snapshot, and what it asks for itself.

    `model` is the name of the one it wants; `max_tokens` and `max_cost` (nano-dollars) are its budget;
    `output_schema` is what its output has to satisfy as JSON. `submitted_by` is who asked for it and `permissions`
    what they may do, None for everything; `traceparent` is its place in the caller's trace (W3C Trace Context).
    What it takes also counts for those in `charged_to`: the keys that theirs descends from, its parent first.
    """

    goal: str
    context: str | None
    tools: tuple[str, ...]
    max_steps: int | None = None
    model: str | None = None
    max_tokens: int | None = None
    max_cost: int | None = None
    output_schema: JsonObject | None = None
    submitted_by: str | None = None
    permissions: Permissions | None = None
    traceparent: str | None = None
    charged_to: tuple[str, ...] = ()

    @property
    def subjects(self) -> tuple[str, ...]:
        """Everybody for whom it counts what the run takes; none if nobody is counted for."""
        return () if self.submitted_by is None else (self.submitted_by, *self.charged_to)


class Reserved(Struct, frozen=True):
    """What a call of a model may take at most, of a run's budget: tokens, and nano-dollars if they are counted."""

    tokens: int
    cost: int | None = None


class ModelRequested(Struct, frozen=True, tag="model.requested", omit_defaults=True):
    """A model is about to be asked for the `turn`-th decision; from here on the call may have been paid.

    `model` is its name, as settings have it; `reserved` is taken out of the budget until it is known what it took.
    """

    turn: int
    model: str | None = None
    reserved: Reserved | None = None


class ModelFailed(Struct, frozen=True, tag="model.failed"):
    """Asking the model came to nothing. What was reserved for it stays spent if it may have been paid."""

    turn: int
    model: str | None
    code: str
    reason: str
    may_be_paid: bool
    retry_after_s: float | None = None


class ModelDecided(Struct, frozen=True, tag="model.decided"):
    """The model's checked decision: calls to make, or the answer in `content`.

    `model` is the one that answered, as the provider names it; `cost` is in nano-dollars, None if unknown.
    """

    turn: int
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    declined: bool = False
    model: str | None = None
    usage: Usage | None = None
    cost: int | None = None
    finish_reason: str | None = None


class ModelRejected(Struct, frozen=True, tag="model.rejected"):
    """The model's response was not a decision; `problem` is what it is told."""

    turn: int
    problem: str
    usage: Usage | None = None
    cost: int | None = None


class ContextCompacted(Struct, frozen=True, tag="context.compacted"):
    """The run has outgrown the model's window: from now on that is shown only digests of these steps' results."""

    steps: tuple[int, ...]


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
    | ModelFailed
    | ModelDecided
    | ModelRejected
    | ContextCompacted
    | ToolIntended
    | ToolCompleted
    | ToolInterrupted
    | ToolResolved
    | RunFinished
)
