"""What is noted of a request, and that noting it changes nothing of its answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.testclient import TestClient

from app.api.observation import UNMATCHED, Observation
from app.auth.principal import Principal

Noted = tuple[str, str, int, float, bool]


class Notes:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.taken: list[Noted] = []

    def answered(self, *told: Any) -> None:
        self.taken.append(told)  # type: ignore[arg-type]


@pytest.fixture
def notes() -> Notes:
    return Notes()


def application(notes: Notes | None, *, logs: bool = False) -> TestClient:
    app = FastAPI()

    @app.get("/things/{name}")
    async def thing(name: str) -> str:
        if name == "broken":
            raise RuntimeError(name)
        return name

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            yield b"data: 2\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    app.add_middleware(Observation, observer=notes, logs=logs)
    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/things/one", "/things/{name}", 200),
        ("GET", "/things/broken", "/things/{name}", 500),
        ("DELETE", "/things/one", "/things/{name}", 405),
        ("GET", "/nothing/here", UNMATCHED, 404),
        ("GET", "/openapi.json", UNMATCHED, 200),
    ],
)
def test_a_request_is_noted_with_its_route_and_status(
    notes: Notes, method: str, path: str, route: str, status: int
) -> None:
    assert application(notes).request(method, path).status_code == status
    (noted,) = notes.taken
    assert noted[:3] == (method, route, status)
    assert 0 < noted[3] < 5
    assert not noted[4]


def test_a_stream_is_known_by_what_it_sends(notes: Notes) -> None:
    assert application(notes).get("/stream").text == "data: 1\n\ndata: 2\n\n"
    assert notes.taken[0][1:3] == ("/stream", 200)
    assert notes.taken[0][4]


async def test_a_stream_is_not_held_back_and_noted_when_it_ends(notes: Notes) -> None:
    more, sent = asyncio.Event(), asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await more.wait()
        await send({"type": "http.response.body", "body": b"two"})

    got: list[bytes] = []

    async def send(message: Any) -> None:
        got.append(message.get("body", b""))
        if message.get("body"):
            sent.set()

    scope = {"type": "http", "method": "GET", "path": "/"}
    task = asyncio.create_task(Observation(app, notes)(scope, None, send))  # type: ignore[arg-type]
    await asyncio.wait_for(sent.wait(), 5)
    assert got == [b"", b"one"]
    assert not notes.taken
    more.set()
    await task
    assert got == [b"", b"one", b"two"]
    assert len(notes.taken) == 1


async def test_a_request_that_is_broken_off_is_noted_too(notes: Notes) -> None:
    async def app(*_: Any) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Observation(app, notes)({"type": "http", "method": "GET", "path": "/"}, None, None)  # type: ignore[arg-type]
    assert len(notes.taken) == 1


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record)["fields"] for record in caplog.records if record.name == "app.api.observation"]


def test_the_access_log_has_a_line_a_request_which_nothing_in_it_can_break(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    application(None, logs=True).get("/things/a%0Ab%1B[31m%22%20status=200%E2%80%A8" + "x" * 999)
    (fields,) = logged(caplog)
    assert fields["path"].startswith("/things/a%0Ab%1B%5B31m%22%20status=200%E2%80%A8xxx")
    assert fields["path"].isascii()
    assert len(fields["path"]) < 999
    assert (fields["method"], fields["route"], fields["status"]) == ("GET", "/things/{name}", 200)
    assert fields["ms"] > 0
    assert "principal" not in fields


async def test_the_access_log_names_who_asked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        scope["principal"] = Principal("token:somebody\n2026 fake line", "acme")
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def send(_: Any) -> None: ...

    scope = {"type": "http", "method": "G\nET", "path": "/\ud800"}
    await Observation(app, logs=True)(scope, None, send)  # type: ignore[arg-type]
    (fields,) = logged(caplog)
    assert (fields["tenant"], fields["principal"]) == ("acme", "token:somebody%0A2026%20fake%20line")
    assert (fields["method"], fields["path"]) == ("G%0AET", "/%3F")


def test_nothing_is_logged_unless_it_is_wanted(notes: Notes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    application(notes).get("/things/one")
    assert not logged(caplog)
