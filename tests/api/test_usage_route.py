"""`GET /usage`, and budgets and models on the way in and out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema_rs
import pytest
from fake_runs import FakeRunService
from sqlalchemy import insert
from starlette.testclient import TestClient

from app.runs.usage import Used, day_of
from app.storage.tables import run_usage

USAGE = "/api/v1/usage"
TODAY = datetime.now(UTC).date()


@pytest.fixture
def kept(client_with: Callable[..., TestClient]) -> Iterator[TestClient]:
    """A client of a service whose models took something today, and something a month ago."""
    with client_with() as connected:
        services = connected.app.state.services  # type: ignore[attr-defined]
        database = services._process._database
        names = [column.name for column in run_usage.c]
        written = [
            ("default", "a", day_of(TODAY), "openai:gpt-5", 1, 100, 10, 40, 2, 10**15 + 1, 0),
            ("default", "a", day_of(TODAY) - 31, "ollama:x", 2, 7, 7, 0, 0, 0, 2),
            ("other", "b", day_of(TODAY), "openai:gpt-5", 9, 9, 9, 9, 9, 9, 9),
        ]
        values = [dict(zip(names, row, strict=True)) for row in written]
        database.transact_now(lambda connection: connection.execute(insert(run_usage), values))
        yield connected


def test_usage_is_shown_by_day_with_its_total(kept: TestClient) -> None:
    response = kept.get(USAGE)
    sums = {
        "calls": 1,
        "input_tokens": 100,
        "output_tokens": 10,
        "cache_read_tokens": 40,
        "cache_write_tokens": 2,
        "cost_usd": 1_000_000.000000001,
        "unpriced_calls": 0,
    }
    assert response.status_code == 200
    assert response.json() == {
        "by": "day",
        "from": str(TODAY - timedelta(days=29)),
        "to": str(TODAY),
        "usage": [{"group": str(TODAY), **sums}],
        "total": sums,
    }
    assert '"cost_usd":1000000.000000001,' in response.text  # with all digits


def test_usage_is_shown_by_model_and_tenant(kept: TestClient) -> None:
    first = TODAY - timedelta(days=31)
    by_model = kept.get(USAGE, params={"by": "model", "from": str(first)}).json()
    found = [(item["group"], item["cost_usd"], item["unpriced_calls"]) for item in by_model["usage"]]
    assert found == [("ollama:x", 0, 2), ("openai:gpt-5", 1_000_000.000000001, 0)]
    assert (by_model["total"]["calls"], by_model["total"]["unpriced_calls"]) == (3, 2)
    by_tenant = kept.get(USAGE, params={"by": "tenant", "to": str(TODAY)}).json()
    assert [(item["group"], item["calls"]) for item in by_tenant["usage"]] == [("default", 1)]


def test_the_answer_is_what_the_document_states(kept: TestClient) -> None:
    document = kept.get("/openapi.json").json()
    stated = {"$ref": "#/components/schemas/UsageList", "components": document["components"]}
    for by in ("day", "model", "tenant"):
        jsonschema_rs.validate(stated, kept.get(USAGE, params={"by": by}).json())
    for example in document["components"]["schemas"]["UsageList"]["examples"]:
        jsonschema_rs.validate(stated, example)
    parameters = document["paths"][USAGE]["get"]["parameters"]
    assert {item["name"]: item["schema"].get("format") for item in parameters} == {
        "by": None,
        "from": "date",
        "to": "date",
    }


@pytest.mark.parametrize(
    "query",
    [
        "by=year",
        "from=yesterday",
        "from=2026-02-30",
        "from=20260101",
        "from=1795340000",
        "from=2026-01-01T00:00:00",
        "from=2026-W01-1",
        "to=",
        "form=2026-01-01",
        "from=2026-01-02&from=2026-01-01",
    ],
)
def test_other_queries_are_refused(client: TestClient, query: str) -> None:
    response = client.get(f"{USAGE}?{query}")
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request"), response.text


@pytest.mark.parametrize(
    ("query", "period"),
    [
        ("to=0001-01-01", ("0001-01-01", "0001-01-01")),
        ("from=9999-12-31", ("9999-12-31", "9999-12-31")),
        ("from=2024-01-01&to=2024-12-31", ("2024-01-01", "2024-12-31")),
        ("from=0001-01-01&to=2024-12-31", ("2024-01-01", "2024-12-31")),
        ("from=2024-01-02&to=2024-01-01", ("2024-01-02", "2024-01-01")),
    ],
)
def test_the_answer_says_what_days_it_is_of(client: TestClient, query: str, period: tuple[str, str]) -> None:
    found = client.get(f"{USAGE}?{query}").json()
    assert (found["usage"], found["from"], found["to"]) == ([], *period)


@pytest.mark.parametrize("route", ["/run-task", "/runs"])
def test_model_budget_and_schema_reach_the_service(alone: TestClient, service: FakeRunService, route: str) -> None:
    asked: dict[str, Any] = {
        "model": "openai:gpt-5",
        "max_tokens": 5000.0,
        "max_cost_usd": 0.05,
        "output_schema": {"type": "object"},
    }
    assert alone.post(f"/api/v1{route}", json={"goal": "x", **asked}).status_code in (200, 202)
    (request,) = service.requests
    assert {name: getattr(request, name) for name in asked} == asked


def test_what_is_asked_is_part_of_what_a_key_stands_for(alone: TestClient) -> None:
    key = {"idempotency-key": "k"}
    body = {"goal": "x", "max_cost_usd": 0.05}
    assert alone.post("/api/v1/runs", json=body, headers=key).status_code == 202
    assert alone.post("/api/v1/runs", json=body, headers=key).status_code == 202
    for other in ({"max_cost_usd": 0.06}, {"model": "mock"}, {"max_tokens": 7}, {"output_schema": {}}):
        response = alone.post("/api/v1/runs", json={**body, **other}, headers=key)
        assert response.json()["code"] == "idempotency_key_reused"


def test_a_run_shows_its_model_budget_and_use(alone: TestClient, service: FakeRunService) -> None:
    used = Used(3, 100, 10, 40, 2, 1, 0)
    run_id = service.started(model="openai:gpt-5", max_tokens=5000, max_cost=50_000_000, used=used)
    response = alone.get(f"/api/v1/runs/{run_id}")
    run = response.json()
    assert (run["model"], run["max_tokens"], run["max_cost_usd"]) == ("openai:gpt-5", 5000, 0.05)
    assert list(run["usage"].values()) == [100, 10, 40, 2]
    assert json.loads(response.text, parse_float=str)["cost_usd"] == "0.000000001"


def test_a_cost_that_is_partly_unknown_is_unknown(alone: TestClient, service: FakeRunService) -> None:
    run_id = service.started(used=Used(3, 100, 10, 40, 2, 7, 1))
    assert alone.get(f"/api/v1/runs/{run_id}").json()["cost_usd"] is None
    assert alone.get(f"/api/v1/runs/{run_id}/trace").json()["cost_usd"] is None


def test_a_budget_above_the_services_is_refused(client_with: Callable[..., TestClient]) -> None:
    with client_with(max_tokens=1000, max_cost_usd="0.5") as client:
        for asked in ({"max_tokens": 1001}, {"max_cost_usd": 0.500000001}):
            for route in ("/run-task", "/runs"):
                response = client.post(f"/api/v1{route}", json={"goal": "Calculate 6*7", **asked})
                assert (response.status_code, response.json()["code"]) == (422, "invalid_budget")
        asked = {"max_tokens": 1000, "max_cost_usd": 0.5, "model": "mock"}
        response = client.post("/api/v1/run-task", json={"goal": "Calculate 6*7", **asked})
        assert response.json()["status"] == "success"
