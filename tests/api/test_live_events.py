"""What is heard of a run on its stream while a model speaks: words and progress that no position counts."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from fake_runs import FakeRunService, step
from hypothesis import given
from hypothesis import strategies as st
from routes_alone import application
from starlette.testclient import TestClient
from streams import Connection, Frame, ids, parse, read_all, serving

from app.agent.events import ModelDecided, ModelRequested, RunFinished
from app.api.sse import heard_frame
from app.runs.live import Delta, Ear, Live, Progress

RUNS = "/api/v1/runs"
END = RunFinished("success", "done")


def path_of(run_id: str) -> str:
    return f"{RUNS}/{run_id}/events"


def text_of(frames: list[Frame]) -> str:
    """Return the text as a client puts it together."""
    text = ""
    for frame in frames:
        if frame.event == "model.delta":
            delta = json.loads(frame.data)
            assert delta["offset"] in (0, len(text))
            text = delta["text"] if delta["offset"] == 0 else text + delta["text"]
    return text


async def test_words_and_progress_come_between_the_events_and_move_no_position() -> None:
    service = FakeRunService()
    run_id = service.started()
    connection = Connection(application(service), path_of(run_id))
    service.append(run_id, ModelRequested(1))
    await connection.until(lambda: ids(connection.frames) == [1, 2])
    service.say(run_id, "Let me\n\nsee")
    await connection.until(lambda: text_of(connection.frames) == "Let me\n\nsee")
    service.append(run_id, ModelDecided(1, "Let me\n\nsee"))
    await connection.until(lambda: ids(connection.frames) == [1, 2, 3])
    service.report(run_id, Progress(1, "probe", "half", 0.5))
    await connection.until(lambda: connection.frames[-1].event == "tool.progress")
    service.append(run_id, step(1), END)
    await connection.end()
    assert [(frame.id, frame.event) for frame in connection.frames] == [
        ("1", "run.started"),
        ("2", "model.requested"),
        ("2", "model.delta"),
        ("3", "model.decided"),
        ("3", "tool.progress"),
        ("4", "tool.completed"),
        ("5", "run.finished"),
        ("5", "end"),
    ]
    assert json.loads(connection.frames[2].data) == {"turn": 1, "offset": 0, "text": "Let me\n\nsee"}
    progress = {"step": 1, "tool": "probe", "text": "half", "fraction": 0.5}
    assert json.loads(connection.frames[4].data) == progress
    assert connection.body.count(b"id: ") == 5, "what has no id moves no Last-Event-ID"


async def test_a_client_that_reconnects_in_mid_speech_has_the_text_once_and_then_the_decision() -> None:
    service = FakeRunService()
    run_id = service.started()
    app = application(service)
    staying = Connection(app, path_of(run_id))
    leaving = Connection(app, path_of(run_id))
    service.append(run_id, ModelRequested(1))
    await leaving.until(lambda: ids(leaving.frames) == [1, 2])
    service.say(run_id, "half of ")
    await leaving.until(lambda: text_of(leaving.frames) == "half of ")
    last_id = leaving.frames[-1].id
    await leaving.hang_up()
    service.say(run_id, "the text")
    again = Connection(app, path_of(run_id), last_event_id=last_id)
    await again.until(lambda: text_of(again.frames) == "half of the text")
    assert json.loads(again.frames[0].data)["offset"] == 0, "it begins anew, and says so"
    service.append(run_id, ModelDecided(1, "half of the text"), END)
    await again.end()
    await staying.end()
    assert text_of(leaving.frames + again.frames) == text_of(staying.frames) == "half of the text"
    assert ids(again.frames) == [3, 4]
    assert ids(staying.frames) == [1, 2, 3, 4]


async def test_a_client_that_reconnects_after_a_restart_sees_the_decision() -> None:
    service = FakeRunService()
    run_id = service.started()
    stopping = asyncio.Event()
    before = Connection(application(service, stopping), path_of(run_id))
    service.append(run_id, ModelRequested(1))
    await before.until(lambda: ids(before.frames) == [1, 2])
    service.say(run_id, "half of ")
    await before.until(lambda: text_of(before.frames))
    stopping.set()
    await before.end()
    restarted = FakeRunService()
    restarted.store = service.store
    restarted.feed._store = service.feed._store
    after = Connection(application(restarted), path_of(run_id), last_event_id=before.frames[-1].id)
    restarted.append(run_id, ModelDecided(1, "half of the text"), END)
    await after.end()
    assert [frame.event for frame in after.frames] == ["model.decided", "run.finished", "end"]
    assert ids(before.frames + after.frames) == [1, 2, 3, 4]


def test_pages_know_of_nothing_that_is_not_kept(alone: TestClient, service: FakeRunService) -> None:
    run_id = service.started()
    service.say(run_id, "not kept")
    page = alone.get(path_of(run_id)).json()
    assert [event["type"] for event in page["events"]] == ["run.started"]


@given(st.text(max_size=50), st.text(max_size=50))
def test_whatever_is_said_is_one_frame(text: str, tool: str) -> None:
    text, tool = (item.encode("utf-8", "replace").decode() for item in (text, tool))
    for heard in (Delta(1, 2, text), Progress(3, tool, text, None)):
        (frame,) = parse(heard_frame(heard).decode())
        assert (frame.id, frame.event) == ("", "model.delta" if isinstance(heard, Delta) else "tool.progress")
        assert json.loads(frame.data)["text"] == text


def test_any_text_of_a_model_can_be_sent() -> None:
    live, ear = Live((1, 1), 1), Ear()
    live.say("".join(map(chr, [0, 10, 13, 0x2028, 0xD800, 0xDFFF, 0x10FFFF])))
    (heard,) = live.hear(ear)
    (frame,) = parse(heard_frame(heard).decode())
    assert json.loads(frame.data)["text"] == "\0\n\r\u2028??\U0010ffff"


def test_a_slow_reader_costs_little_and_misses_words_but_no_event() -> None:
    service = FakeRunService()
    turns = 60

    def speak(run_id: str, turn: int) -> None:
        service.append(run_id, ModelRequested(turn))
        for _ in range(60):
            service.say(run_id, "\x01" * 1000, turn)

    with serving(application(service)) as server:
        run_id = server.call(service.started)
        slow = server.open(path_of(run_id), receive_buffer=4096)
        with server.open(path_of(run_id)) as quick:
            read_all(quick, until=b"run.started")
            held: list[int] = []
            for turn in range(1, turns + 1):
                started = time.monotonic()
                server.call(speak, run_id, turn)
                assert time.monotonic() - started < 1, "it waits for a reader"
                if turn % 20 == 0:  # a turn that is long enough to be heard
                    read_all(quick, until=b'"offset":49152')
                    held += server.unsent()
                server.call(service.append, run_id, ModelDecided(turn, "x"))
            server.call(service.append, run_id, END)
            assert max(held) < 512 * 1024, "of 20 MB"
            received: list[Any] = parse(read_all(slow).decode())
        slow.close()
        assert ids(received) == list(range(1, 2 * turns + 3))
        assert received[-1].event == "end"
        assert sum(len(frame.data) for frame in received if frame.event == "model.delta") < 4_000_000
