"""What is said of steps that were taken: sentences for the caller, and short forms for a note."""

from __future__ import annotations

from collections.abc import Sequence

from ...jsonvalue import JsonObject, JsonValue
from .program import Calculation, NoteAddition, Search, Step

MAX_DIGEST_CHARS = 2_000


def sentence(step: Step, output: JsonObject) -> str:
    """Say what a step has brought."""
    if isinstance(step, Calculation):
        return f"Calculation result: {output.get('result')} (from {output.get('expression')})"
    if isinstance(step, Search):
        return f"Found {_counted(output, 'search result')} for '{_query(step, output)}'"
    if isinstance(step, NoteAddition):
        return f"Note {output.get('count')} added to {step.proposal_id}: {output.get('note')}"
    notes = _texts(output.get("notes"))
    if not notes:
        return f"There are no notes on {step.proposal_id} yet."
    return f"Notes on {step.proposal_id}:\n" + "\n".join(f"{i}. {note}" for i, note in enumerate(notes, 1))


def short_form(step: Step, output: JsonObject) -> str:
    """Return a result as it stands in a note or in the next expression."""
    if isinstance(step, Calculation):
        return str(output.get("result"))
    if isinstance(step, Search):
        titles = [str(item.get("title")) for item in _items(output.get("results")) if isinstance(item, dict)]
        digest = f"Search for '{_query(step, output)}' found {_counted(output, 'result')}" + (
            ": " if titles else ""
        )
        return (digest + "; ".join(titles))[:MAX_DIGEST_CHARS]
    notes = _texts(output.get("notes"))
    return ("; ".join(notes) or f"No notes on {step.proposal_id}")[:MAX_DIGEST_CHARS]


def _query(step: Search, output: JsonObject) -> JsonValue:
    """Return what was searched for; one that an earlier result is part of is known from the output only."""
    return "".join(map(str, step.query)) if isinstance(step.query[0], str) else output.get("query")


def _counted(output: JsonObject, noun: str) -> str:
    count = output.get("count")
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _items(value: JsonValue) -> Sequence[JsonValue]:
    return value if isinstance(value, list) else []


def _texts(value: JsonValue) -> list[str]:
    return [str(item) for item in _items(value)]
