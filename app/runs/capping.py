"""What an event may hold: secrets are masked before it exists, larger texts and outputs cut to their digest."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Final

import msgspec
from msgspec.structs import replace

from ..agent.events import Event, ModelDecided, ModelRejected, RunFinished, RunStarted, Step, ToolCompleted
from ..jsonvalue import JsonObject
from ..redaction import PLAIN_REDACTOR, Redactor
from .codec import store
from .models import StoredEvent
from .redacting import may_hold_secrets, redacted

MAX_EVENT_BYTES: Final = 256 * 1024
"""How long the stored text of an event may be."""

ROOM_BYTES: Final = 96 * 1024
"""How long a text is that was cut. Whatever else stands in its event (a goal, a tool's input) fits beside it: the
planner and the edge hold those below 160 KiB."""

HEAD_CHARS: Final = 2_000


def seal(
    run_id: str, seq: int, prev_hash: bytes, at: datetime, event: Event, redactor: Redactor = PLAIN_REDACTOR
) -> tuple[Event, StoredEvent]:
    """Return the event as it is from now on, without secrets and cut if it is too large, and its stored form."""
    stored = store(run_id, seq, prev_hash, at, event)
    if redactor.suspects(stored.body) or may_hold_secrets(event):
        event = redacted(event, redactor)
        stored = store(run_id, seq, prev_hash, at, event)
    # in UTF-8 a character is at most four bytes
    if len(stored.body) * 4 > MAX_EVENT_BYTES and len(stored.body.encode()) > MAX_EVENT_BYTES:
        event = cut(event)
        stored = store(run_id, seq, prev_hash, at, event)
    return event, stored


def cut(event: Event) -> Event:
    """Return the event with its one unbounded part cut; the others have bounds of their own."""
    if isinstance(event, RunStarted):
        return replace(event, context=None if event.context is None else _cut_text(event.context))
    if isinstance(event, ModelDecided):
        return replace(event, content=_cut_text(event.content))
    if isinstance(event, ModelRejected):
        return replace(event, problem=_cut_text(event.problem))
    if isinstance(event, ToolCompleted):
        return replace(event, step=_cut_step(event.step))
    if isinstance(event, RunFinished):
        return replace(event, output=_cut_text(event.output))
    return event


def _cut_step(step: Step) -> Step:
    if step.output is None:
        return step
    text = msgspec.json.encode(step.output)
    output: JsonObject = {
        "truncated": True,
        "bytes": len(text),
        "sha256": sha256(text).hexdigest(),
        "head": text.decode()[:HEAD_CHARS],
    }
    return replace(step, output=output)


def _cut_text(text: str) -> str:
    """Return as much of the text as has room, escaped as JSON, and what was cut of it."""
    whole = text.encode()
    if len(msgspec.json.encode(text)) <= ROOM_BYTES:
        return text
    mark = f"\n[cut: {len(whole)} bytes in all, sha256 {sha256(whole).hexdigest()}]"
    kept = text[:ROOM_BYTES]
    while len(msgspec.json.encode(kept)) > ROOM_BYTES - len(mark):
        kept = kept[: len(kept) * 7 // 8]
    return kept + mark
