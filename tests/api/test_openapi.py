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
                assert set(stated["example"]) == {"type", "title", "status", "detail", "code"}
                assert answer["description"] == stated["example"]["detail"]
    assert {"400", "413", "415", "422"} <= set(document["paths"]["/api/v1/run-task"]["post"]["responses"])


def test_examples_are_examples_of_what_they_stand_in(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    with_examples = [name for name, schema in schemas.items() if schema.get("examples")]
    assert {"RunTaskRequest", "RunTaskResponse", "GovernanceNotes", "Health", "Problem"} <= set(with_examples)
    for name in with_examples:
        stated = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        for example in schemas[name]["examples"]:
            jsonschema_rs.validate(stated, example)
