from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest
from fakes import FakeTool
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.tools.base import tool_registry

RUN = "/api/v1/run-task"
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def test_the_documented_calculation(client: TestClient) -> None:
    response = client.post(RUN, json={"goal": "Calculate the result of (100 + 50) * 2", "tools": ["math"]})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert uuid.UUID(body.pop("run_id")).version == 7
    assert TIMESTAMP.fullmatch(body["trace"][0].pop("timestamp"))
    assert body == {
        "status": "success",
        "output": "Calculation result: 300 (from (100 + 50) * 2)",
        "trace": [
            {
                "step": 1,
                "tool": "math",
                "input": {"expression": "(100 + 50) * 2"},
                "output": {"result": 300, "expression": "(100 + 50) * 2"},
                "error": None,
            }
        ],
    }


def test_the_documented_search(client: TestClient) -> None:
    goal = "Search for Python FastAPI best practices"
    body = client.post(
        RUN, json={"goal": goal, "context": "Focus on production deployment", "tools": ["web_search"]}
    ).json()
    assert body["output"] == "Found 3 search results for 'Python FastAPI best practices'"
    assert [step["tool"] for step in body["trace"]] == ["web_search"]


def test_the_documented_note(client: TestClient) -> None:
    before = client.get("/api/v1/governance-notes/PROP-2025-001").json()["notes"]
    goal = "Add note to PROP-2025-001: Legal review completed"
    body = client.post(RUN, json={"goal": goal, "tools": ["governance_note"]}).json()
    assert body["status"] == "success"
    after = client.get("/api/v1/governance-notes/PROP-2025-001").json()
    assert after == {"proposal_id": "PROP-2025-001", "notes": [*before, "Legal review completed"]}


@pytest.mark.parametrize("tools", [None, "omitted"])
def test_null_and_omitted_tools_are_all_tools(client: TestClient, tools: str | None) -> None:
    body: dict[str, Any] = {"goal": "Calculate 6*7"} | ({} if tools else {"tools": None})
    assert client.post(RUN, json=body).json()["status"] == "success"


def test_no_tools_are_no_tools(client: TestClient) -> None:
    body = client.post(RUN, json={"goal": "Calculate 6*7", "tools": []}).json()
    assert (body["status"], body["trace"]) == ("error", [])
    assert body["output"]


def test_an_unknown_tool_is_named_and_the_known_ones_are_listed(client: TestClient) -> None:
    response = client.post(RUN, json={"goal": "Calculate 6*7", "tools": ["nope"]})
    assert response.status_code == 422
    assert response.json()["code"] == "unknown_tool"
    assert response.json()["detail"] == (
        "Unknown tool 'nope'. Available tools: math, web_search, governance_note."
    )


def test_an_agent_that_fails_is_an_answer_and_not_a_server_error(client: TestClient) -> None:
    response = client.post(RUN, json={"goal": "Calculate 1/0"})
    assert response.status_code == 200
    body = response.json()
    assert body["status"] == "error"
    assert body["trace"][0]["error"].startswith("division_by_zero: ")
    assert body["output"]


def test_a_large_integer_is_a_string_of_its_digits(client: TestClient) -> None:
    body = client.post(RUN, json={"goal": "Calculate 2**64 + 1"}).json()
    assert body["trace"][0]["output"]["result"] == str(2**64 + 1)
    assert str(2**64 + 1) in body["output"]


def test_a_registered_tool_may_be_named_at_once(client: TestClient) -> None:
    tool_registry.register(FakeTool(name="late"))
    assert client.post(RUN, json={"goal": "Calculate 6*7", "tools": ["late", "math"]}).status_code == 200
    listed = client.get("/openapi.json").json()["components"]["schemas"]["RunTaskRequest"]["properties"]["tools"]
    assert "late" in json.dumps(listed)


storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200)


@settings(max_examples=100, deadline=None)  # each is made durable, and a disk may be slow
@given(storable.filter(lambda text: any(char.isalnum() for char in text)))
def test_every_unicode_text_round_trips(client: TestClient, text: str) -> None:
    response = client.post(RUN, json={"goal": f"Add note to PROP-2031-777: {text}", "tools": ["governance_note"]})
    assert response.status_code == 200, response.text
    notes = client.get("/api/v1/governance-notes/PROP-2031-777").json()["notes"]
    assert notes[-1].strip() == text.strip()


def test_run_ids_sort_by_time(client: TestClient) -> None:
    ids = [client.post(RUN, json={"goal": "Calculate 1+1"}).json()["run_id"] for _ in range(20)]
    assert len(set(ids)) == 20
    assert [run_id[:8] for run_id in ids] == sorted(run_id[:8] for run_id in ids)
