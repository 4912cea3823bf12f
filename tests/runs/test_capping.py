"""Whatever the edge, the planner and the tools let through fits into an event once it is cut."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from fake_runs import AT
from hypothesis import given
from hypothesis import strategies as st

from app.agent.core import MAX_CONTEXT_CHARS, MAX_GOAL_CHARS
from app.agent.events import (
    Event,
    ModelDecided,
    ModelRejected,
    RunFinished,
    RunStarted,
    Step,
    ToolCompleted,
    ToolIntended,
    ToolInterrupted,
    ToolResolved,
)
from app.agent.planner import MAX_ANSWER_CHARS, MAX_ARGUMENT_BYTES, MAX_NAME_CHARS
from app.agent.toolbox import MAX_OUTPUT_BYTES, MAX_REASON_CHARS
from app.jsonvalue import JsonObject
from app.llm.interface import ToolCall
from app.runs import service
from app.runs.capping import MAX_EVENT_BYTES, ROOM_BYTES, _cut_text, cut, seal
from app.runs.chain import GENESIS
from app.runs.codec import read

RUN_ID = "019aab7e-5c1b-7e07-9d5c-3f0a9a1b2c3d"
WORST = ["\x01", "😀", "é", '"', "x"]
"""A control character is six bytes as JSON, and an emoji four in one character."""


def stored(event: Event) -> tuple[Event, int]:
    recorded, kept = seal(RUN_ID, 2**40, GENESIS, AT, event)
    assert read(kept).event == recorded
    return recorded, len(kept.body.encode())


def arguments(character: str, max_bytes: int = MAX_ARGUMENT_BYTES) -> JsonObject:
    """Return an object of just so many bytes of JSON."""
    room = max_bytes - len('{"x":""}')
    text = character * (room // (len(msgspec.json.encode(character)) - 2))
    return {"x": text}


def largest(character: str) -> list[Event]:
    """Return the largest events that can come about, with texts of this character."""
    name = "n" * 64
    calls = (ToolCall(name, arguments(character, MAX_ARGUMENT_BYTES - 400), character[0] * (MAX_NAME_CHARS // 6)),)
    step = Step(
        1000,
        name,
        arguments(character),
        {"x": character * (MAX_OUTPUT_BYTES // len(character.encode()))},
        None,
        AT,
    )
    error = f"tool_failed: {character * MAX_REASON_CHARS}"
    return [
        RunStarted(character * MAX_GOAL_CHARS, character * MAX_CONTEXT_CHARS, (name,) * 500, 1000),
        ModelDecided(1, character * MAX_ANSWER_CHARS, calls, model="m" * MAX_NAME_CHARS),
        ModelRejected(1, character * MAX_ANSWER_CHARS),
        ToolIntended(1000, name, arguments(character)),
        ToolCompleted(step, 1e9, character * MAX_NAME_CHARS),
        ToolCompleted(Step(1000, name, arguments(character), None, error, AT), 1e9, character * MAX_NAME_CHARS),
        ToolInterrupted(1000, name, 3, error, in_doubt=True),
        ToolResolved(1000, happened=True, output=arguments(character, service.MAX_OUTPUT_BYTES)),
        RunFinished("success", character * MAX_ANSWER_CHARS),
    ]


@pytest.mark.parametrize("character", WORST)
@pytest.mark.parametrize("at", range(9))
def test_the_largest_events_that_can_come_about_fit(at: int, character: str) -> None:
    event = largest(character)[at]
    recorded, size = stored(event)
    assert size <= MAX_EVENT_BYTES
    if isinstance(event, ToolIntended | ToolInterrupted | ToolResolved):
        assert recorded == event  # what says what was done is never cut
    if isinstance(event, ModelDecided):
        assert recorded.tool_calls == event.tool_calls  # type: ignore[union-attr]
    if isinstance(event, RunStarted):
        assert (recorded.goal, recorded.tools) == (event.goal, event.tools)  # type: ignore[union-attr]


def test_what_is_cut_once_is_not_cut_again() -> None:
    for event in largest("\x01"):
        once = cut(event)
        assert stored(once)[0] == once


@given(st.text(max_size=200), st.integers(1, 3000))
def test_a_text_that_was_cut_begins_like_the_whole_and_has_room(text: str, times: int) -> None:
    whole = text * times
    try:
        whole.encode()
    except UnicodeEncodeError:
        return
    kept = _cut_text(whole)
    assert len(msgspec.json.encode(kept)) <= ROOM_BYTES
    if kept != whole:
        beginning, _, mark = kept.rpartition("\n[cut: ")
        assert whole.startswith(beginning)
        assert mark.startswith(f"{len(whole.encode())} bytes in all, sha256 ")
    else:
        assert len(msgspec.json.encode(whole)) <= ROOM_BYTES


def test_small_events_are_as_they_were() -> None:
    events: list[Any] = [RunStarted("go", None, ()), RunFinished("success", "é" * 1000)]
    for event in events:
        assert stored(event)[0] is event
