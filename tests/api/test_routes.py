from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from fakes import FakeTool
from starlette.testclient import TestClient

from app import __version__
from app.tools.base import tool_registry
from app.tools.governance import GovernanceNoteTool


def test_health_says_who_answers(client: TestClient) -> None:
    assert client.get("/api/v1/health").json() == {
        "status": "healthy",
        "service": "llm-agent-core",
        "version": __version__,
    }


def test_tools_are_listed_with_schema_and_effect(client: TestClient) -> None:
    tools = {tool["name"]: tool for tool in client.get("/api/v1/tools").json()["tools"]}
    assert {name: tool["effect"] for name, tool in tools.items()} == {
        "math": "pure",
        "web_search": "read",
        "governance_note": "transactional",
    }
    assert all(tool["description"] and tool["input_schema"]["type"] == "object" for tool in tools.values())


def test_a_proposal_without_notes_has_an_empty_list_and_a_canonical_id(client: TestClient) -> None:
    assert client.get("/api/v1/governance-notes/prop-2030-123456").json() == {
        "proposal_id": "PROP-2030-123456",
        "notes": [],
    }


class Store:
    """A user's own store."""

    def add_note(self, proposal_id: str, note: str) -> int:
        return 1

    def get_notes(self, proposal_id: str) -> Any:
        return [f"from my store: {proposal_id}"]


class AsyncStore(Store):
    async def get_notes(self, proposal_id: str) -> Any:
        return super().get_notes(proposal_id)


@pytest.mark.parametrize("store", [Store(), AsyncStore()])
def test_notes_come_from_the_active_tools_store(client: TestClient, store: Any) -> None:
    tool_registry.register(GovernanceNoteTool(store=store))
    assert client.get("/api/v1/governance-notes/PROP-2025-001").json()["notes"] == ["from my store: PROP-2025-001"]


def test_details_say_who_wrote_a_note_and_when(client: TestClient) -> None:
    goal = "Add note to PROP-2026-042: Budget approved"
    run_id = client.post("/api/v1/run-task", json={"goal": goal}).json()["run_id"]
    plain = {"proposal_id": "PROP-2026-042", "notes": ["Budget approved"]}
    assert client.get("/api/v1/governance-notes/prop-2026-042").json() == plain
    assert client.get("/api/v1/governance-notes/prop-2026-042?detail=false").json() == plain
    detailed = client.get("/api/v1/governance-notes/prop-2026-042?detail=true").json()
    created_at = datetime.fromisoformat(detailed["details"][0].pop("created_at"))
    assert abs((datetime.now(UTC) - created_at).total_seconds()) < 60
    assert detailed == {**plain, "details": [{"note": "Budget approved", "run_id": run_id, "step": 1}]}


def test_a_store_that_keeps_only_texts_has_nulls_for_details(client: TestClient) -> None:
    tool_registry.register(GovernanceNoteTool(store=Store()))
    assert client.get("/api/v1/governance-notes/PROP-2025-001?detail=true").json()["details"] == [
        {"note": "from my store: PROP-2025-001", "run_id": None, "step": None, "created_at": None}
    ]


@pytest.mark.parametrize("detail", ["yes", "1", "", "True", "true&detail=x"])
def test_detail_is_true_or_false(client: TestClient, detail: str) -> None:
    response = client.get(f"/api/v1/governance-notes/PROP-2025-001?detail={detail}")
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_a_note_tool_without_a_readable_store_is_said_plainly(client: TestClient) -> None:
    tool_registry.register(FakeTool(name="governance_note"))
    response = client.get("/api/v1/governance-notes/PROP-2025-001")
    assert (response.status_code, response.json()["code"]) == (503, "notes_unavailable")


def test_a_store_that_hangs_is_given_up(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.runs.notes.READ_TIMEOUT_S", 0.02)
    release = threading.Event()

    class Hanging(Store):
        def get_notes(self, proposal_id: str) -> Any:
            release.wait(10)
            return []

    tool_registry.register(GovernanceNoteTool(store=Hanging()))
    response = client.get("/api/v1/governance-notes/PROP-2025-001")
    release.set()
    assert (response.status_code, response.json()["code"]) == (503, "notes_unavailable")


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_the_api_documents_itself(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200


def test_no_page_may_call_unless_settings_allow_its_origin(
    client: TestClient, client_with: Callable[..., TestClient]
) -> None:
    headers = {"origin": "https://desk.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in client.options("/api/v1/run-task", headers=headers).headers
    with client_with(cors_origins="https://desk.example") as allowed:
        response = allowed.options("/api/v1/run-task", headers=headers)
        assert response.headers["access-control-allow-origin"] == "https://desk.example"
        assert (
            "access-control-allow-origin"
            not in allowed.options(
                "/api/v1/run-task", headers={**headers, "origin": "https://other.example"}
            ).headers
        )
