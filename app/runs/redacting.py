"""Masking the secrets in events: in all that people, models and tools have said, and in nothing else."""

from __future__ import annotations

from msgspec.structs import replace

from ..agent.events import (
    Event,
    ModelDecided,
    ModelFailed,
    ModelRejected,
    RunFinished,
    RunStarted,
    Step,
    ToolCompleted,
    ToolIntended,
    ToolInterrupted,
    ToolResolved,
)
from ..jsonvalue import JsonObject
from ..llm.interface import ToolCall
from ..redaction import Redactor, names_a_secret


def may_hold_secrets(event: Event) -> bool:
    """Say whether something in the event stands under the name of a secret."""
    kind = type(event)
    if kind is ToolCompleted:
        return names_a_secret(event.step.input) or names_a_secret(event.step.output)  # type: ignore[union-attr]
    if kind is ToolIntended:
        return names_a_secret(event.input)  # type: ignore[union-attr]
    if kind is ModelDecided:
        return any(names_a_secret(call.arguments) for call in event.tool_calls)  # type: ignore[union-attr]
    if kind is ToolResolved:
        return names_a_secret(event.output)  # type: ignore[union-attr]
    return False


def redacted(event: Event, redactor: Redactor) -> Event:
    """Return the event with masks; ids, names of models, hashes and permissions stay as they are."""
    text = redactor.text
    if isinstance(event, RunStarted):
        return _opening(event, redactor)
    if isinstance(event, ModelDecided):
        calls = tuple(_call(call, redactor) for call in event.tool_calls)
        return replace(event, content=text(event.content), tool_calls=calls)
    if isinstance(event, ModelRejected):
        return replace(event, problem=text(event.problem))
    if isinstance(event, ModelFailed | ToolInterrupted):
        return replace(event, reason=text(event.reason))
    if isinstance(event, ToolIntended):
        return replace(event, input=redactor.object(event.input))
    if isinstance(event, ToolCompleted):
        return replace(event, step=_step(event.step, redactor))
    if isinstance(event, ToolResolved):
        return replace(event, output=_output(event.output, redactor))
    if isinstance(event, RunFinished):
        return replace(event, output=text(event.output))
    return event


def _opening(event: RunStarted, redactor: Redactor) -> RunStarted:
    schema = event.output_schema
    return replace(
        event,
        goal=redactor.text(event.goal),
        context=None if event.context is None else redactor.text(event.context),
        output_schema=None if schema is None else redactor.object(schema, by_name=False),
    )


def _step(step: Step, redactor: Redactor) -> Step:
    return replace(
        step,
        tool=redactor.text(step.tool),
        input=redactor.object(step.input),
        output=_output(step.output, redactor),
        error=None if step.error is None else redactor.text(step.error),
    )


def _call(call: ToolCall, redactor: Redactor) -> ToolCall:
    # a name that is none of the run's tools may be anything that the model was told
    return replace(call, name=redactor.text(call.name), arguments=redactor.object(call.arguments))


def _output(output: JsonObject | None, redactor: Redactor) -> JsonObject | None:
    return None if output is None else redactor.object(output)
