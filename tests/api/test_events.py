"""The events of a run: as pages, and as a stream that loses nothing, repeats nothing and costs little."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest
from fake_runs import AT, FakeRunService, step
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from routes_alone import application
from starlette.testclient import TestClient
from streams import Connection, Frame, ids, parse, read_all, serving

from app.agent.events import RunFinished, RunStarted
from app.api.sse import EventStream, frame, frames
from app.errors import StorageUnavailableError, UnauthenticatedError
from app.runs.chain import GENESIS
from app.runs.codec import store
from app.runs.models import StoredEvent
from app.runs.window import Page

RUNS = "/api/v1/runs"
END = RunFinished("success", "done")
ROOT = Path(__file__).parent.parent.parent


def path_of(run_id: str) -> str:
    return f"{RUNS}/{run_id}/events"


# pages


def test_a_page_of_events_can_be_verified_with_nothing_but_hashlib(
    alone: TestClient, service: FakeRunService
) -> None:
    run_id = service.started()
    service.append(run_id, step(1, {"n": 2**53 + 1, "text": "é\u2028🙂"}), END)
    response = alone.get(path_of(run_id))
    page = response.json()
    assert list(page) == ["run_id", "status", "head_seq", "head_hash", "events", "next_after"]
    assert (page["run_id"], page["status"], page["head_seq"]) == (run_id, "success", 3)
    assert [event["type"] for event in page["events"]] == ["run.started", "tool.completed", "run.finished"]
    head = bytes(32)
    for number, event in enumerate(page["events"], 1):
        assert list(event) == ["seq", "type", "prev_hash", "hash", "body"]
        assert (event["seq"], event["prev_hash"]) == (number, head.hex())
        head = hashlib.sha256(head + event["body"].encode()).digest()
        assert event["hash"] == head.hex()
    assert page["head_hash"] == head.hex()
    assert str(2**53 + 1) in page["events"][1]["body"], "bodies are verbatim"
    assert response.headers["vary"] == "Accept"


def test_pages_go_on_where_the_one_before_ended(alone: TestClient, service: FakeRunService) -> None:
    run_id = service.started()
    service.append(run_id, *map(step, range(1, 6)))
    seen, after = [], 0
    while after is not None:
        page = alone.get(path_of(run_id), params={"after": after, "limit": 4}).json()
        seen += [event["seq"] for event in page["events"]]
        after = page["next_after"]
    assert seen == [1, 2, 3, 4, 5, 6]
    empty = alone.get(path_of(run_id) + "?after=6").json()
    assert (empty["events"], empty["next_after"]) == ([], None)


@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", "after=1e3", "limit=0", "limit=1001", "after=" + "9" * 20]
)
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_bad_position_is_refused(alone: TestClient, service: FakeRunService, query: str, accept: str) -> None:
    response = alone.get(f"{path_of(service.started())}?{query}", headers={"accept": accept})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; charset=utf-8", True),
        ("application/json, text/event-stream", True),
        ("text/event-stream;q=0.9, */*;q=0.1", True),
        ("text/event-stream;q=0.5, application/json", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=nonsense", False),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_whoever_asks_for_a_stream_gets_one(
    alone: TestClient, service: FakeRunService, accept: str, streams: bool
) -> None:
    run_id = service.started()
    service.append(run_id, END)
    response = alone.get(path_of(run_id), headers={"accept": accept})
    assert response.headers["content-type"].startswith("text/event-stream" if streams else "application/json")


# the stream of a run that has ended


def stream(client: TestClient, run_id: str, query: str = "", **headers: str) -> Any:
    given = {"accept": "text/event-stream", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return client.get(path_of(run_id) + query, headers=given)


def test_a_stream_is_frames_of_number_type_and_stored_text(alone: TestClient, service: FakeRunService) -> None:
    run_id = service.started()
    service.append(run_id, END)
    response = stream(alone, run_id)
    first, last = service.store.stored[run_id]
    assert response.text == (
        "retry: 2000\n\n"
        f"id: 1\nevent: run.started\ndata: {first.body}\n\n"
        f"id: 2\nevent: run.finished\ndata: {last.body}\n\n"
        'event: end\ndata: {"status":"success"}\n\n'
    )
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize("status", ["success", "error", "cancelled"])
def test_the_end_says_how_the_run_ended(alone: TestClient, service: FakeRunService, status: Any) -> None:
    run_id = service.started()
    service.append(run_id, RunFinished(status, "done"))
    assert parse(stream(alone, run_id).text)[-1] == Frame("2", "end", f'{{"status":"{status}"}}')


def test_the_end_is_said_even_if_no_event_tells_it(alone: TestClient, service: FakeRunService) -> None:
    run_id = service.started()
    service.append(run_id, step(1), status="error")
    assert parse(stream(alone, run_id).text)[-1].data == '{"status":"error"}'


@pytest.mark.parametrize("position", range(6))
def test_a_stream_is_resumed_behind_any_event(alone: TestClient, service: FakeRunService, position: int) -> None:
    run_id = service.started()
    service.append(run_id, *map(step, range(1, 5)), END)
    rest = list(range(position + 1, 7))
    by_query = parse(stream(alone, run_id, f"?after={position}").text)
    by_header = parse(stream(alone, run_id, "?after=3", last_event_id=str(position)).text)
    assert ids(by_query) == ids(by_header) == rest
    assert by_query[-1].event == by_header[-1].event == "end"


def test_whoever_resumes_behind_the_end_is_told_to_stop(alone: TestClient, service: FakeRunService) -> None:
    run_id = service.started()
    service.append(run_id, END)
    for position in ("2", "3"):
        response = stream(alone, run_id, last_event_id=position)
        assert (response.status_code, response.content) == (204, b"")
    assert [item.event for item in parse(stream(alone, run_id, "?after=2").text)] == ["end"]


@pytest.mark.parametrize("position", ["x", "-1", "1.0", " ", "", "1,2", "9" * 20, "²"])
def test_an_ill_formed_position_is_refused(alone: TestClient, service: FakeRunService, position: str) -> None:
    headers = [(b"accept", b"text/event-stream"), (b"last-event-id", position.encode())]
    response = alone.get(path_of(service.started()), headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_a_stream_that_cannot_be_is_a_problem_document(alone: TestClient, service: FakeRunService) -> None:
    run_id = service.started()
    service.append(run_id, END)
    service.store.runs[run_id] = replace(service.store.runs[run_id], pruned_at=AT)
    assert stream(alone, "019aab7e-5c1b-7e07-9d5c-3f0a9a1b2c3d").json()["code"] == "run_not_found"
    assert stream(alone, run_id).json()["code"] == "run_pruned"
    assert stream(alone, run_id, last_event_id="2").status_code == 204
    service.failure = StorageUnavailableError("away")
    response = stream(alone, run_id)
    assert (response.status_code, response.json()["code"]) == (503, "storage_unavailable")
    assert response.headers["retry-after"]


# frames


@given(st.text(max_size=50), st.integers(1, 2**53))
def test_one_event_is_one_frame_whatever_text_is_in_it(text: str, number: int) -> None:
    text = text.encode("utf-8", "replace").decode()
    event = store("run", number, GENESIS, AT, RunStarted(text, text, ()))
    assert parse(frame(event)) == [Frame(str(number), "run.started", event.body)]


@pytest.mark.parametrize(
    "body", ["a\nb", "a\rb", "a\r\nb", "\n", "a\n\nid: 9\ndata: forged\n\n", '{"event":{"type":"a\nb"}}']
)
def test_line_ends_do_not_forge_frames(body: str) -> None:
    expected = re.sub("\r\n|\r", "\n", body)
    assert parse(frame(StoredEvent(7, body, GENESIS, GENESIS))) == [Frame("7", "message", expected)]


def test_frames_are_made_once_for_all_who_are_handed_the_same_page() -> None:
    page = Page([StoredEvent(1, "{}", GENESIS, GENESIS)])
    assert frames(page) is frames(page)
    assert frames(list(page)) == frames(page)


# the stream of a run under way


async def test_events_come_as_they_become_durable() -> None:
    service = FakeRunService()
    run_id = service.started()
    connection = Connection(application(service), path_of(run_id))
    await connection.until(lambda: ids(connection.frames) == [1])
    for number in range(1, 4):
        service.append(run_id, step(number))
        await connection.until(lambda number=number: ids(connection.frames)[-1] == number + 1)  # type: ignore[misc]
    assert not connection.task.done()
    service.append(run_id, END)
    await connection.end()
    assert ids(connection.frames) == [1, 2, 3, 4, 5]
    assert connection.frames[-1].event == "end"
    assert connection.is_complete
    assert len(service.feed) == 0


async def test_a_run_that_waits_for_a_person_keeps_its_listeners() -> None:
    service = FakeRunService()
    run_id = service.started()
    connection = Connection(application(service), path_of(run_id))
    service.append(run_id, step(1), status="waiting")
    await connection.until(lambda: ids(connection.frames) == [1, 2])
    assert not connection.task.done()
    await connection.hang_up()


async def test_a_quiet_stream_has_heartbeats() -> None:
    service = FakeRunService()
    run_id = service.started()
    connection = Connection(application(service, heartbeat_s=0.01), path_of(run_id))
    await connection.until(lambda: connection.body.endswith(b"\n\n:\n\n:\n\n:\n\n"))
    assert ids(connection.frames) == [1]
    service.append(run_id, END)
    await connection.end()
    assert ids(connection.frames) == [1, 2]


async def test_a_client_that_hangs_up_leaves_nothing_behind() -> None:
    service = FakeRunService()
    run_id = service.started()
    app = application(service)
    connections = [Connection(app, path_of(run_id)) for _ in range(20)]
    for connection in connections:
        await connection.until(lambda connection=connection: connection.frames)  # type: ignore[misc]
    connections[0].reads.clear()
    service.append(run_id, step(1))
    for connection in connections:
        await connection.hang_up()
    assert len(service.feed) == 0
    assert len(asyncio.all_tasks()) == 1


async def test_a_server_that_stops_ends_its_streams_and_they_are_resumed() -> None:
    service = FakeRunService()
    run_id = service.started()
    stopping = asyncio.Event()
    connection = Connection(application(service, stopping), path_of(run_id))
    await connection.until(lambda: connection.frames)
    stopping.set()
    await connection.end()
    assert connection.is_complete
    assert [item.event for item in connection.frames] == ["run.started"]
    assert len(service.feed) == 0
    service.append(run_id, step(1), END)
    again = Connection(application(service), path_of(run_id), last_event_id="1")
    await again.end()
    assert ids(again.frames) == [2, 3]


async def test_a_server_that_stops_does_not_wait_for_a_client_that_takes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.api.sse.LAST_PART_S", 0.01)
    service = FakeRunService()
    run_id = service.started()
    stopping = asyncio.Event()
    connection = Connection(application(service, stopping), path_of(run_id))
    await connection.until(lambda: connection.frames)
    connection.reads.clear()
    service.append(run_id, step(1))
    stopping.set()
    await connection.end()
    assert not connection.is_complete
    assert len(service.feed) == 0


async def test_a_journal_that_fails_breaks_the_stream_off_without_an_end(caplog: pytest.LogCaptureFixture) -> None:
    service = FakeRunService()
    run_id = service.started()
    connection = Connection(application(service), path_of(run_id))
    await connection.until(lambda: connection.frames)
    service.store.failure = StorageUnavailableError("away")
    service.store.append(run_id, step(1))
    service.append(run_id, step(2))
    await connection.end()
    assert connection.is_complete
    assert [item.event for item in connection.frames] == ["run.started"]
    assert "broken off" in caplog.text
    assert len(service.feed) == 0


async def test_pages_are_read_only_as_fast_as_they_are_sent() -> None:
    service = FakeRunService()
    run_id = service.started()
    service.append(run_id, *(step(number, {"text": "x" * 10_000}) for number in range(1, 500)), END)
    connection = Connection(application(service), path_of(run_id))
    await connection.until(lambda: connection.frames)
    connection.reads.clear()
    await asyncio.sleep(0.1)
    read = len(service.store.reads)
    await asyncio.sleep(0.1)
    assert len(service.store.reads) == read < 100
    connection.reads.set()
    await connection.end()
    assert ids(connection.frames) == list(range(1, 502))


async def test_a_stream_is_closed_when_it_was_never_begun() -> None:
    closed = False

    async def pages() -> AsyncGenerator[list[StoredEvent], None]:
        nonlocal closed
        try:
            yield [StoredEvent(1, "{}", GENESIS, GENESIS)]
            await asyncio.Event().wait()
        finally:
            closed = True

    async def look() -> Any:
        raise AssertionError

    async def recheck() -> None:
        raise AssertionError

    answer = EventStream(pages(), look, recheck, asyncio.Event(), 15.0)
    connection = Connection(answer, "/")
    await connection.until(lambda: connection.frames)
    await connection.hang_up()
    assert closed


async def test_a_stream_ends_when_its_client_may_no_longer_be_told() -> None:
    """A key that is revoked ends its streams, within a heartbeat and as long as it is remembered."""
    asked = 0

    async def pages() -> AsyncGenerator[list[StoredEvent], None]:
        yield [StoredEvent(1, "{}", GENESIS, GENESIS)]
        await asyncio.Event().wait()

    async def look() -> Any:
        raise AssertionError

    async def recheck() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise UnauthenticatedError("revoked")

    connection = Connection(EventStream(pages(), look, recheck, asyncio.Event(), 0.001), "/")
    await connection.end()
    assert asked == 3
    assert connection.is_complete
    assert "end" not in [frame.event for frame in connection.frames]


# over real sockets


def test_a_real_client_gets_every_event_and_the_end() -> None:
    service = FakeRunService()
    with serving(application(service)) as server:
        run_id = server.call(service.started)
        with server.open(path_of(run_id)) as connection:
            for number in range(1, 50):
                server.call(service.append, run_id, step(number))
            server.call(service.append, run_id, END)
            received = parse(read_all(connection).decode())
        assert ids(received) == list(range(1, 52))
        assert received[-1] == Frame("51", "end", '{"status":"success"}')


def test_a_slow_reader_costs_little_and_slows_nobody() -> None:
    service = FakeRunService()
    with serving(application(service)) as server:
        run_id = server.call(service.started)
        slow = server.open(path_of(run_id), receive_buffer=4096)
        with server.open(path_of(run_id)) as quick:
            for number in range(1, 400):
                server.call(service.append, run_id, step(number, {"text": "x" * 50_000}))
            server.call(service.append, run_id, END)
            assert ids(parse(read_all(quick).decode())) == list(range(1, 402))
        held = server.unsent()
        assert max(held) < 256 * 1024, "of 20 MB"
        read = len(service.store.reads)
        time.sleep(0.1)
        assert len(service.store.reads) == read, "it reads ahead of a client that does not take anything"
        assert ids(parse(read_all(slow).decode())) == list(range(1, 402))
        slow.close()
        assert server.call(lambda: len(service.feed)) == 0


def test_a_socket_that_is_closed_ends_its_stream() -> None:
    service = FakeRunService()
    with serving(application(service)) as server:
        run_id = server.call(service.started)
        with server.open(path_of(run_id)) as connection:
            read_all(connection, until=b"run.started")
            assert server.call(lambda: len(service.feed)) == 1
        deadline = time.monotonic() + 5
        while server.call(lambda: len(service.feed)):
            assert time.monotonic() < deadline
        assert server.call(lambda: len(server.server.server_state.tasks)) == 0


def test_a_server_that_stops_does_not_wait_for_its_listeners() -> None:
    service = FakeRunService()
    stopping = asyncio.Event()
    with serving(application(service, stopping)) as server:
        run_id = server.call(service.started)
        connections = [server.open(path_of(run_id)) for _ in range(10)]
        for connection in connections:
            read_all(connection, until=b"run.started")
        started = time.monotonic()
        server.call(stopping.set)
        server.stop()
        assert time.monotonic() - started < 2
        for connection in connections:
            assert connection.recv(65_536).endswith(b"0\r\n\r\n")
            connection.close()


SLOW_MATH = """
import asyncio
from app.tools.base import tool_registry
from app.tools.call import report_progress

class SlowMath:
    name, description, effect = "math", "Takes its time.", "pure"
    input_schema = {"type": "object"}

    async def run(self, input):
        report_progress(input["expression"])
        await asyncio.sleep(0.1)
        return {"result": 1, "expression": input["expression"]}

tool_registry.register(SlowMath())
"""


@contextmanager
def served(directory: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server as its user starts it, in a directory with its data and a tool of its own."""
    environment = {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{directory}",
        "TOOL_MODULES": "slow_math",
        "LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port)]
    process = subprocess.Popen(command, cwd=directory, env=environment, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        assert b"http://" in process.stderr.readline()
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def listen(port: int, run_id: str, last_id: int) -> Iterator[Frame]:
    """Yield the frames of a stream until it ends or breaks."""
    headers = {"accept": "text/event-stream", **({"last-event-id": str(last_id)} if last_id else {})}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path_of(run_id)}", headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer, suppress(OSError, IncompleteRead):
        text = ""
        for line in answer:
            text += line.decode()
            if line == b"\n":
                yield from parse(text)
                text = ""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_stream_is_resumed_across_a_restart_without_loss_or_repetition(
    tmp_path: Path, how: signal.Signals
) -> None:
    (tmp_path / "slow_math.py").write_text(SLOW_MATH)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    goal = ", then ".join(f"calculate {number}+{number}" for number in range(1, 13))
    received: list[Frame] = []
    with served(tmp_path, port) as process:
        body = json.dumps({"goal": goal}).encode()
        address = f"http://127.0.0.1:{port}{RUNS}"
        submission = urllib.request.Request(address, body, {"content-type": "application/json"})
        with urllib.request.urlopen(submission, timeout=10) as answer:
            run_id = json.loads(answer.read())["run_id"]
        for item in listen(port, run_id, 0):
            received.append(item)
            if item.event == "tool.completed" and len(received) > 12 and process.poll() is None:
                process.send_signal(how)
                if how is signal.SIGKILL:
                    break
        process.wait(20)
    assert received[-1].event != "end"
    with served(tmp_path, port):
        received += listen(port, run_id, ids(received)[-1])
    events = ids(received)
    assert events == list(range(1, len(events) + 1))
    assert sum(item.event == "tool.progress" for item in received) > 3
    assert (received[-1].event, received[-1].data) == ("end", '{"status":"success"}')
    assert sum(item.event == "tool.completed" for item in received) == 12
