"""The Idempotency-Key: how it is spelt, what it stands for, and what it saves one from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from app.api.idempotency import PARAMETER, key_of
from app.api.strict import StrictRequest
from app.errors import InvalidIdempotencyKeyError
from app.runs.models import IdempotencyKey, RunRequest

RUNS = "/api/v1/runs"
TASK = "/api/v1/run-task"
ASKED = RunRequest("x")


def request_with(*keys: bytes, path: str = RUNS) -> StrictRequest:
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(b"accept", b"*/*"), *((b"idempotency-key", key) for key in keys)],
    }
    request = StrictRequest(scope)
    request.idempotency_key = keys[-1] if keys else None
    return request


def key(value: bytes, asked: RunRequest = ASKED, path: str = RUNS) -> IdempotencyKey:
    found = key_of(request_with(value, path=path), asked)
    assert found is not None
    return found


def test_a_request_without_a_key_has_none() -> None:
    assert key_of(request_with(), ASKED) is None
    assert issubclass(StrictRequest, Request)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'"8e03978e-40d5-43e8-bc93-6894a57f9324"', "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        (b"8e03978e-40d5-43e8-bc93-6894a57f9324", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        (rb'"a\"b\\c"', r'a"b\c'),
        (rb"a\b", r"a\b"),
        (b"\t k ", "k"),
        (b"!", "!"),
        (b"~" * 255, "~" * 255),
        (b'"' + b"~" * 255 + b'"', "~" * 255),
        (b'"' + rb"\"" * 255 + b'"', '"' * 255),
    ],
)
def test_a_key_is_a_structured_string_or_the_bare_text(value: bytes, expected: str) -> None:
    assert key(value).key == expected


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b'""',
        b'"',
        b'"a',
        b'a b"',
        b'"a b"',
        b"a b",
        b'"a"b"',
        rb'"a\b"',
        b'"a", "b"',
        b'"a";p=1',
        b"a, b",
        b"\xc3\xa9",
        b'"\xe9"',
        b"a\x7fb",
        b"a\x00b",
        b"~" * 256,
        b'"' + b"~" * 256 + b'"',
    ],
)
def test_an_ill_formed_key_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidIdempotencyKeyError):
        key(value)


def test_a_repeated_key_is_refused() -> None:
    with pytest.raises(InvalidIdempotencyKeyError):
        key_of(request_with(b"a", b"a"), ASKED)


@pytest.mark.parametrize("path", [RUNS, TASK])
def test_a_refused_key_is_a_problem_document(client: TestClient, path: str) -> None:
    for headers in ([("idempotency-key", "a b")], [("idempotency-key", "a")] * 2, [("Idempotency-Key", "")]):
        response = client.post(path, json={"goal": "Calculate 6*7"}, headers=headers)
        assert (response.status_code, response.json()["code"]) == (400, "invalid_idempotency_key")


def test_a_key_stands_for_method_path_and_what_is_asked() -> None:
    same = key(b"k").fingerprint
    assert len(same) == 32
    assert key(b"other").fingerprint == same
    others = [
        key(b"k", path=TASK),
        key(b"k", RunRequest("y")),
        key(b"k", RunRequest("x", priority=1)),
        key(b"k", RunRequest("x", tools=())),
        key(b"k", RunRequest("x", metadata={"a": 1})),
        key(b"k", RunRequest("x", metadata={"a": "1"})),
        key(b"k", RunRequest("x", metadata={"a": True})),
        key(b"k", RunRequest("x", metadata={"a": 2**64})),
        key(b"k", RunRequest("x", metadata={"a": 2**64 + 1})),
    ]
    assert len({same, *(other.fingerprint for other in others)}) == len(others) + 1
    assert (
        key(b"k", RunRequest("x", metadata={"a": 1, "b": {"c": 2, "d": 3}})).fingerprint
        == key(b"k", RunRequest("x", metadata={"b": {"d": 3, "c": 2}, "a": 1})).fingerprint
    )


SPELLINGS: list[bytes] = [
    b'{"goal":"Calculate 6*7","context":null}',
    b'{ "context" : null,\n "goal" : "Calculate\\u00206*7" }',
    b'{"goal":"Calculate 6*7"}',
]


@pytest.mark.parametrize("path", [RUNS, TASK])
def test_a_request_that_is_sent_again_makes_no_second_run(
    client_with: Callable[..., TestClient], path: str
) -> None:
    headers = {"idempotency-key": '"once"', "content-type": "application/json"}
    with client_with() as client:
        answers = [client.post(path, content=spelling, headers=headers) for spelling in SPELLINGS]
        bare = client.post(path, content=SPELLINGS[0], headers={**headers, "idempotency-key": "once"})
        assert len({answer.json()["run_id"] for answer in [*answers, bare]}) == 1
        assert len(client.get(RUNS).json()["runs"]) == 1
        if path == TASK:
            assert {answer.text for answer in answers} == {bare.text}
        else:
            assert {answer.status_code for answer in answers} == {202}


@pytest.mark.parametrize("path", [RUNS, TASK])
def test_a_key_that_is_used_for_another_request_is_refused(client: TestClient, path: str) -> None:
    headers = {"idempotency-key": f"reused {path}".replace(" ", "-")}
    client.post(path, json={"goal": "Calculate 6*7"}, headers=headers)
    for other, body in (
        (path, {"goal": "Calculate 6*8"}),
        (RUNS if path == TASK else TASK, {"goal": "Calculate 6*7"}),
    ):
        response = client.post(other, json=body, headers=headers)
        assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")


def test_a_request_that_could_not_be_carried_out_takes_no_key(client: TestClient) -> None:
    headers = {"idempotency-key": "refused-first", "content-type": "application/json"}
    for content in (b'{"goal": "x", "tools": ["nope"]}', b'{"goal": "x", "tools": ["\\udfff"]}'):
        assert client.post(RUNS, content=content, headers=headers).json()["code"] == "unknown_tool"
    assert client.post(RUNS, json={"goal": "Calculate 6*7"}, headers=headers).status_code == 202


def test_many_at_once_with_one_key_make_one_run(client: TestClient) -> None:
    def post(number: int) -> Any:
        path = RUNS
        return client.post(path, json={"goal": "Calculate 6*7"}, headers={"idempotency-key": "all-at-once"})

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(post, range(100)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["run_id"] for answer in answers}) == 1


def test_the_documented_pattern_is_the_one_that_is_read() -> None:
    import jsonschema_rs

    for value in (b"k", b'"k"', rb'"\""', b"~" * 255):
        assert jsonschema_rs.is_valid(PARAMETER["schema"], value.decode())
    for value in (b"", b'""', b'"', b"a b", b'"a" "b"', b"~" * 256):
        assert not jsonschema_rs.is_valid(PARAMETER["schema"], value.decode())
