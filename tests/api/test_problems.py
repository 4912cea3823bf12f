"""Every error is an RFC 9457 problem document with a stable code."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

import app.errors
from app.api.errors import STATUS, TITLES, status_of
from app.api.models import MAX_BODY_BYTES
from app.api.strict import parse_json
from app.config import Settings
from app.errors import AgentCoreError, MalformedBodyError, NestingTooDeepError
from app.jsonvalue import MAX_DEPTH
from app.main import create_app
from app.runs.service import RunService

RUN = "/api/v1/run-task"
JSON = {"content-type": "application/json"}


def body(**fields: Any) -> bytes:
    return json.dumps({"goal": "Calculate 1+1", **fields}).encode()


def nested(levels: int) -> bytes:
    return b'{"goal":"x","context":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


CASES: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "malformed JSON": (b'{"goal": ', JSON, 400, "malformed_json"),
    "nothing at all": (b"", JSON, 400, "malformed_json"),
    "two documents": (body() + body(), JSON, 400, "malformed_json"),
    "NaN": (b'{"goal": NaN}', JSON, 400, "malformed_json"),
    "infinity": (b'{"goal": -Infinity}', JSON, 400, "malformed_json"),
    "not UTF-8": (b'{"goal": "\xff"}', JSON, 400, "malformed_json"),
    "UTF-16": (body().decode().encode("utf-16"), JSON, 400, "malformed_json"),
    "a byte order mark": (b"\xef\xbb\xbf" + body(), JSON, 400, "malformed_json"),
    "a number of 5000 digits": (b'{"goal": ' + b"1" * 5000 + b"}", JSON, 400, "malformed_json"),
    "a form": (b"goal=x", {"content-type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
    "a compressed body": (body(), {**JSON, "content-encoding": "gzip"}, 415, "unsupported_media_type"),
    "XML": (b"<goal/>", {"content-type": "text/xml"}, 415, "unsupported_media_type"),
    "text/plain of a page": (
        body(),
        {"content-type": "text/plain", "origin": "http://testserver"},
        415,
        "unsupported_media_type",
    ),
    "no type from a page": (body(), {"origin": "http://testserver"}, 415, "unsupported_media_type"),
    "a page from elsewhere": (body(), {**JSON, "origin": "https://x.example"}, 403, "permission_denied"),
    "not an object": (b"[1]", JSON, 422, "invalid_request"),
    "null": (b"null", JSON, 422, "invalid_request"),
    "no goal": (b"{}", JSON, 422, "invalid_request"),
    "unknown field": (body(modell="x"), JSON, 422, "invalid_request"),
    "unknown model": (body(model="openai:gpt-5"), JSON, 422, "unknown_model"),
    "no model": (body(model="\ud800"), JSON, 422, "unknown_model"),
    "no tokens": (body(max_tokens=0), JSON, 422, "invalid_request"),
    "no money": (body(max_cost_usd=0), JSON, 422, "invalid_request"),
    "too little money": (body(max_cost_usd=1e-10), JSON, 422, "invalid_request"),
    "money of the wrong type": (body(max_cost_usd="1"), JSON, 422, "invalid_request"),
    "no output schema": (body(output_schema={"type": 7}), JSON, 422, "invalid_output_schema"),
    "output schema of the wrong type": (body(output_schema=True), JSON, 422, "invalid_request"),
    "too large an output schema": (
        body(output_schema={"description": "x" * 40_000}),
        JSON,
        422,
        "invalid_output_schema",
    ),
    "NUL in the output schema": (body(output_schema={"a": "\0"}), JSON, 422, "invalid_output_schema"),
    "empty goal": (body(goal=""), JSON, 422, "invalid_request"),
    "blank goal": (body(goal=" \n\t\u3000\u200b"), JSON, 422, "invalid_request"),
    "goal of the wrong type": (body(goal=7), JSON, 422, "invalid_request"),
    "goal too long": (body(goal="x" * 10_001), JSON, 422, "invalid_request"),
    "context too long": (body(context="x" * 100_001), JSON, 422, "invalid_request"),
    "NUL in the goal": (body(goal="a\0b"), JSON, 422, "invalid_request"),
    "NUL in the context": (body(context="a\0b"), JSON, 422, "invalid_request"),
    "lone surrogate in the goal": (b'{"goal": "\\ud800"}', JSON, 422, "invalid_request"),
    "lone surrogate in the context": (b'{"goal": "x", "context": "\\udfff"}', JSON, 422, "invalid_request"),
    "lone surrogate in a tool": (b'{"goal": "x", "tools": ["\\udfff"]}', JSON, 422, "unknown_tool"),
    "lone surrogate in a key": (b'{"goal": "x", "\\udfff": 1}', JSON, 422, "invalid_request"),
    "tools of the wrong type": (body(tools="math"), JSON, 422, "invalid_request"),
    "unknown tool": (body(tools=["nope"]), JSON, 422, "unknown_tool"),
    "nested too deeply": (nested(MAX_DEPTH + 1), JSON, 422, "nesting_too_deep"),
    "nested absurdly": (b"[" * 100_000, JSON, 422, "nesting_too_deep"),
    "too large": (body(context="x" * MAX_BODY_BYTES), JSON, 413, "body_too_large"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_request_is_a_problem_document(client: TestClient, case: str) -> None:
    content, headers, status, code = CASES[case]
    response = client.post(RUN, content=content, headers=headers)
    assert_problem(response, status, code)


def assert_problem(response: Any, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["title"] == TITLES[status]
    assert problem["type"] == f"urn:llm-agent-core:problem:{code}"
    assert problem["detail"]
    assert set(problem) <= {"type", "title", "status", "detail", "code", "errors"}


def test_the_field_that_is_wrong_is_named(client: TestClient) -> None:
    problem = client.post(RUN, json={"goal": "", "extra": 1}).json()
    assert {field["field"] for field in problem["errors"]} == {"goal", "extra"}


@pytest.mark.parametrize(
    ("goal", "message"),
    [(" ", "It is blank, or holds a NUL character."), ("x" * 10_001, "at most 10000 characters")],
)
def test_the_reason_is_for_a_person(client: TestClient, goal: str, message: str) -> None:
    problem = client.post(RUN, json={"goal": goal}).json()
    assert message in problem["errors"][0]["message"]
    assert "\\u" not in problem["detail"]


def test_a_body_that_lies_about_its_size_is_cut_off_while_it_is_read(client: TestClient) -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield b"x" * 65_536

    assert_problem(client.post(RUN, content=endless(), headers=JSON), 413, "body_too_large")


def test_a_body_in_pieces_is_put_together(client: TestClient) -> None:
    response = client.post(RUN, content=iter([b'{"goal": "Calculate ', b'6*7"}']), headers=JSON)
    assert response.json()["output"] == "Calculation result: 42 (from 6*7)"


def post_scope(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": RUN,
        "raw_path": RUN.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "scheme": "http",
        "root_path": "",
    }


async def test_a_body_without_a_declared_size_is_not_read_to_its_end() -> None:
    """Straight over ASGI: the test client would gather the body first."""
    application = create_app(Settings(_env_file=None))
    received, sent = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    await application(post_scope((b"transfer-encoding", b"chunked")), receive, send)
    assert sent[0]["status"] == 413
    assert received == MAX_BODY_BYTES // 65_536 + 1


async def test_two_content_types_are_one_too_many() -> None:
    sent = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await create_app(Settings(_env_file=None))(post_scope((b"content-type", b"text/html")), receive, send)
    assert sent[0]["status"] == 415


async def test_a_client_that_hangs_up_is_no_fault_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    sent = []
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    await create_app(Settings(_env_file=None))(post_scope((b"content-length", b"100")), receive, send)
    assert sent[0]["status"] == 400
    assert not caplog.records


def test_a_fault_outside_of_our_routes_is_a_problem_document_too(
    monkeypatch: pytest.MonkeyPatch, client_with: Callable[..., TestClient]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("inside")

    monkeypatch.setattr("app.api.openapi.get_openapi", fail)
    with client_with() as client:
        assert_problem(client.get("/openapi.json"), 500, "internal_error")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "text/plain",
        "text/plain;charset=UTF-8",
        None,
        "application/vnd.x+json",
    ],
)
def test_json_of_a_bare_client_is_accepted(client: TestClient, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    response = client.post(RUN, content=body(), headers=headers)
    assert response.json()["status"] == "success", response.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("GET", RUN, 405, "method_not_allowed"),
        ("DELETE", "/api/v1/health", 405, "method_not_allowed"),
        ("GET", "/api/v1/governance-notes/PROP-2025-1", 422, "invalid_request"),
        ("GET", "/api/v1/governance-notes/PROP-2025-001%0A", 422, "invalid_request"),
        ("GET", "/api/v1/governance-notes/%00", 422, "invalid_request"),
    ],
)
def test_a_wrong_address_is_a_problem_document(
    client: TestClient, method: str, path: str, status: int, code: str
) -> None:
    response = client.request(method, path)
    assert_problem(response, status, code)
    if status == 405:
        assert response.headers["allow"] in response.json()["detail"]


def test_all_methods_of_an_address_are_named(client: TestClient) -> None:
    assert client.put("/api/v1/runs").headers.get_list("allow") == ["GET, POST"]


def test_a_fault_of_ours_tells_nothing_of_the_inside(
    monkeypatch: pytest.MonkeyPatch, client_with: Callable[..., TestClient]
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(RunService, "run_task", fail)
    with client_with(cors_origins=["https://desk.example"]) as client:
        response = client.post(RUN, json={"goal": "x"}, headers={"origin": "https://desk.example"})
    assert_problem(response, 500, "internal_error")
    assert "hunter2" not in response.text
    # the page that called may read the answer, although it is a fault
    assert response.headers["access-control-allow-origin"] == "https://desk.example"


@pytest.mark.parametrize("error", [app.errors.ModelFailedError("secret"), app.errors.ConfigurationError("secret")])
def test_an_error_that_should_have_been_caught_is_a_fault_of_ours(
    monkeypatch: pytest.MonkeyPatch, client_with: Callable[..., TestClient], error: AgentCoreError
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(RunService, "run_task", fail)
    with client_with() as client:
        response = client.post(RUN, json={"goal": "x"})
    assert_problem(response, 500, "internal_error")
    assert "secret" not in response.text


def leaves() -> list[type[AgentCoreError]]:
    classes = [
        kind for _, kind in inspect.getmembers(app.errors, inspect.isclass) if issubclass(kind, AgentCoreError)
    ]
    return [kind for kind in classes if not kind.__subclasses__()]


@pytest.mark.parametrize("leaf", leaves())
def test_every_error_has_a_deliberate_status(leaf: type[AgentCoreError]) -> None:
    assert isinstance(status_of(leaf), HTTPStatus)
    assert any(ancestor in STATUS for ancestor in leaf.__mro__)


def test_every_error_stands_in_the_drawn_tree_with_its_code() -> None:
    drawn = app.errors.__doc__ or ""
    for leaf in leaves():
        line = next(line for line in drawn.splitlines() if leaf.__name__ in line)
        assert (leaf.code in line) or leaf is app.errors.ToolRejected


@given(st.binary(max_size=200))
def test_any_bytes_are_either_json_or_a_clear_error(content: bytes) -> None:
    with suppress(MalformedBodyError):
        parse_json(content)


@given(st.text(max_size=30), st.integers(1, 100))
def test_brackets_inside_texts_do_not_count_as_nesting(text: str, levels: int) -> None:
    content = json.dumps(text + "[{" * 100).encode()
    document = b"[" * levels + content + b"]" * levels
    if levels > MAX_DEPTH:
        with pytest.raises(NestingTooDeepError):
            parse_json(document)
    else:
        parse_json(document)
