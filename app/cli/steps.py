"""How the steps of a run look on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..agent.events import (
    Event,
    RunFinished,
    RunStarted,
    Step,
    ToolCompleted,
    ToolInterrupted,
    ToolResolved,
)
from ..jsonvalue import JsonObject, wire_form
from ..runs.codec import read
from ..runs.models import StoredEvent
from .terminal import printable


def line_of(step: Step) -> str:
    """Return the step as one line: its number, tool and input, and what came of it."""
    return printable(
        f"step {step.step}  {step.tool} {_text(step.input)} -> {step.error or _text(step.output or {})}"
    )


def lines_of(stored: StoredEvent) -> Iterator[str]:
    """Yield what an event adds to the steps that are shown; most add nothing."""
    try:
        event = read(stored).event
    except (msgspec.MsgspecError, UnicodeError) as error:
        yield printable(f"event {stored.seq}  cannot be read by this version: {error}")
    else:
        line = _line(event)
        if line is not None:
            yield printable(line)


def _line(event: Event) -> str | None:
    match event:
        case RunStarted():
            return f"goal: {event.goal}"
        case ToolCompleted():
            return line_of(event.step)
        case ToolInterrupted():
            outcome = "in doubt" if event.in_doubt else "interrupted"
            return f"step {event.step}  {event.tool} attempt {event.attempt} {outcome}: {event.reason}"
        case ToolResolved():
            return f"step {event.step}  resolved: it {'happened' if event.happened else 'did not happen'}"
        case RunFinished():
            return f"{event.status}: {event.output}"
        case _:
            return None


def _text(value: JsonObject) -> str:
    return msgspec.json.encode(wire_form(value)).decode()
