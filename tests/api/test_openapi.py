"""The OpenAPI document states everything that can refuse a request, and every answer."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from starlette.testclient import TestClient


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def test_every_limit_of_a_task_is_stated(document: dict[str, Any]) -> None:
    task = document["components"]["schemas"]["RunTaskRequest"]
    assert task["additionalProperties"] is False
    assert task["required"] == ["goal"]
    goal = task["properties"]["goal"]
    assert (goal["minLength"], goal["maxLength"]) == (1, 10_000)
    context = next(branch for branch in task["properties"]["context"]["anyOf"] if branch["type"] == "string")
    assert context["maxLength"] == 100_000
    tools = next(branch for branch in task["properties"]["tools"]["anyOf"] if branch["type"] == "array")
    assert tools["items"] == {"type": "string", "enum": ["math", "web_search", "governance_note"]}


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        ({"goal": "x"}, True),
        ({"goal": "\u200b x"}, True),
        ({"goal": " \n\u3000\u200b"}, False),
        ({"goal": "a\0"}, False),
        ({"goal": "x", "context": "a\0"}, False),
        ({"goal": "x", "tools": ["nope"]}, False),
        ({"goal": "x", "tools": []}, True),
    ],
)
def test_the_stated_schema_agrees_with_the_service(
    client: TestClient, document: dict[str, Any], body: dict[str, Any], valid: bool
) -> None:
    stated = {"$ref": "#/components/schemas/RunTaskRequest", "components": document["components"]}
    assert jsonschema_rs.is_valid(stated, body) is valid
    assert (client.post("/api/v1/run-task", json=body).status_code == 200) is valid


def test_every_error_answer_is_documented_as_a_problem(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            errors = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
            assert {"405", "500"} <= set(errors), path
            for answer in errors.values():
                stated = answer["content"]["application/problem+json"]
                assert stated["schema"] == {"$ref": "#/components/schemas/Problem"}
                for code, example in stated["examples"].items():
                    assert set(example["value"]) == {"type", "title", "status", "detail", "code"}
                    assert example["value"]["code"] == code
                    assert example["value"]["detail"] in answer["description"]
    assert {"400", "413", "415", "422"} <= set(document["paths"]["/api/v1/run-task"]["post"]["responses"])


def test_every_operation_stands_in_one_of_the_groups(document: dict[str, Any]) -> None:
    groups = [tag["name"] for tag in document["tags"]]
    used = [operation["tags"] for operations in document["paths"].values() for operation in operations.values()]
    assert all(len(tags) == 1 for tags in used)
    assert {*groups} == {tag for tags in used for tag in tags}


def test_examples_are_examples_of_what_they_stand_in(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    with_examples = [name for name, schema in schemas.items() if schema.get("examples")]
    assert {"RunTaskRequest", "RunTaskResponse", "GovernanceNotes", "Health", "Problem"} <= set(with_examples)
    assert {"RunSubmission", "RunModel", "RunList", "TraceModel", "EventPage", "Happened"} <= set(with_examples)
    for name in with_examples:
        stated = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        for example in schemas[name]["examples"]:
            jsonschema_rs.validate(stated, example)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/run-task", "202"), ("/runs", "202"), ("/runs/{run_id}/cancel", "202")],
)
def test_where_a_run_is_stands_in_a_header_that_is_documented(
    document: dict[str, Any], path: str, status: str
) -> None:
    assert "Location" in document["paths"]["/api/v1" + path]["post"]["responses"][status]["headers"]


def test_whoever_finds_the_database_away_is_told_when_to_come_back(document: dict[str, Any]) -> None:
    unavailable = [
        operation["responses"]["503"]
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if "run" in path
    ]
    assert len(unavailable) == 8
    assert all("Retry-After" in answer["headers"] for answer in unavailable)


@pytest.mark.parametrize("path", ["/run-task", "/runs"])
def test_the_key_of_a_request_is_documented(document: dict[str, Any], path: str) -> None:
    assert "`Idempotency-Key`" in document["paths"]["/api/v1" + path]["post"]["description"]
    stated = document["components"]["parameters"]["IdempotencyKey"]
    assert (stated["name"], stated["in"], stated["required"]) == ("Idempotency-Key", "header", False)


def test_the_stream_is_documented(document: dict[str, Any]) -> None:
    operation = document["paths"]["/api/v1/runs/{run_id}/events"]["get"]
    assert set(operation["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert "204" in operation["responses"]
    assert {item["name"] for item in operation["parameters"]} == {"run_id", "after", "limit"}
    assert document["components"]["parameters"]["LastEventID"]["name"] == "Last-Event-ID"


@pytest.mark.parametrize(
    ("fields", "valid"),
    [
        ({}, True),
        ({"priority": 100, "deadline_s": 2_592_000, "max_steps": 1000}, True),
        ({"priority": -100, "deadline_s": 0.001, "max_steps": 1}, True),
        ({"context": None, "tools": None, "deadline_s": None, "max_steps": None, "metadata": None}, True),
        ({"priority": 7.0, "max_steps": 7.0}, True),
        ({"priority": 7.5}, False),
        ({"max_steps": 1e300}, False),
        ({"priority": 101}, False),
        ({"priority": -101}, False),
        ({"priority": "1"}, False),
        ({"priority": True}, False),
        ({"priority": None}, False),
        ({"deadline_s": 0}, False),
        ({"deadline_s": 2_592_001}, False),
        ({"max_steps": 0}, False),
        ({"max_steps": 1001}, False),
        ({"metadata": {"a": [1, {"b": None}], "": 2**70}}, True),
        ({"metadata": []}, False),
        ({"metadata": {"a": "\0"}}, False),
        ({"metadata": {"\0": 1}}, False),
        ({"metadata": {"a": [{"b": "\0"}]}}, False),
        ({"not_before": "2026-11-22T09:30:00+01:00"}, True),
        ({"not_before": 1764}, False),
        ({"tools": ["nope"]}, False),
        ({"model": "x"}, False),
    ],
)
def test_the_stated_schema_of_a_submission_agrees_with_the_service(
    client: TestClient, document: dict[str, Any], fields: dict[str, Any], valid: bool
) -> None:
    body = {"goal": "x", **fields}
    stated = {"$ref": "#/components/schemas/RunSubmission", "components": document["components"]}
    assert jsonschema_rs.is_valid(stated, body) is valid
    assert (client.post("/api/v1/runs", json=body).status_code == 202) is valid
