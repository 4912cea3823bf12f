"""Runs as resources: submit, list, read, trace, cancel, resolve."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fake_runs import AT, FakeRunService, step
from msgspec.structs import replace
from starlette.testclient import TestClient

from app.agent.events import RunFinished
from app.errors import FencedError, StorageUnavailableError
from app.runs.ids import new_run_id
from app.runs.models import FinishedRun, RunRequest

RUNS = "/api/v1/runs"
ID = "019aab7e-5c1b-7e07-9d5c-3f0a9a1b2c3d"
FIELDS = [
    *("run_id", "status", "goal", "context", "output", "reason", "steps", "events", "head_hash", "priority"),
    *(
        "max_steps",
        "model",
        "max_tokens",
        "max_cost_usd",
        "usage",
        "cost_usd",
        "metadata",
        "created_at",
        "started_at",
        "finished_at",
        "not_before",
        "deadline_at",
    ),
    *("cancel_requested", "pruned_at"),
]


def assert_problem(response: Any, status: int, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_a_submitted_run_is_accepted_and_says_where_it_is(client: TestClient) -> None:
    response = client.post(RUNS, json={"goal": "Calculate 6*7", "metadata": {"ticket": "OPS-7"}})
    assert response.status_code == 202
    run = response.json()
    assert response.headers["location"] == f"{RUNS}/{run['run_id']}"
    assert list(run) == FIELDS
    assert uuid.UUID(run["run_id"]).version == 7
    assert run["goal"] == "Calculate 6*7"
    assert run["metadata"] == {"ticket": "OPS-7"}
    assert datetime.fromisoformat(run["created_at"]).tzinfo is not None
    ended = wait_until_ended(client, run["run_id"])
    assert (ended["status"], ended["output"]) == ("success", "Calculation result: 42 (from 6*7)")
    assert (ended["steps"], ended["reason"]) == (1, None)
    assert ended["finished_at"] >= ended["started_at"] >= ended["created_at"]


def wait_until_ended(client: TestClient, run_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        run: dict[str, Any] = client.get(f"{RUNS}/{run_id}").json()
        if run["status"] in ("success", "error", "cancelled"):
            return run
    raise AssertionError(run)


def test_everything_that_is_asked_reaches_the_service(alone: TestClient, service: FakeRunService) -> None:
    asked = {
        "goal": "x",
        "context": "y",
        "tools": ["math"],
        "max_steps": 7,
        "priority": -5,
        "deadline_s": 60,
        "not_before": "2026-11-22T10:30:00+01:00",
        "metadata": {"n": 2**70},
    }
    response = alone.post(RUNS, json=asked)
    assert service.requests == [
        RunRequest(
            goal="x",
            context="y",
            tools=("math",),
            max_steps=7,
            priority=-5,
            deadline_s=60.0,
            not_before=datetime(2026, 11, 22, 9, 30, tzinfo=UTC),
            metadata={"n": 2**70},
        )
    ]
    run = response.json()
    assert run["metadata"] == {"n": str(2**70)}, "no reader may round it"
    assert run["not_before"] == "2026-11-22T09:30:00Z"
    assert (run["priority"], run["max_steps"]) == (-5, 7)


def test_what_is_left_out_has_its_default(alone: TestClient, service: FakeRunService) -> None:
    alone.post(RUNS, json={"goal": "x"})
    assert service.requests == [RunRequest("x")]


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("2026-11-22T09:30:00Z", True),
        ("2026-11-22t09:30:00.123456789z", True),
        ("2026-11-22T09:30:00-00:00", True),
        ("2026-11-22T09:30:00", False),
        ("2026-11-22 09:30:00Z", False),
        ("2026-11-22", False),
        ("20261122T093000Z", False),
        ("2026-13-22T09:30:00Z", False),
        ("2026-11-22T25:30:00Z", False),
        ("2026-W47-1T09:30:00Z", False),
        ("0001-01-01T00:00:00+14:00", False),
        ("9999-12-31T23:59:59-14:00", False),
        ("٢٠٢٦-11-22T09:30:00Z", False),
        ("", False),
    ],
)
def test_a_start_is_a_moment_of_rfc_3339_with_an_offset(alone: TestClient, text: str, valid: bool) -> None:
    response = alone.post(RUNS, json={"goal": "x", "not_before": text})
    if valid:
        assert response.status_code == 202
    else:
        assert_problem(response, 422, "invalid_request")
        assert "no time like" in response.json()["detail"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"goal": " "}, "invalid_request"),
        ({"goal": "x", "unknown": 1}, "invalid_request"),
        ({"goal": "x", "priority": 101}, "invalid_request"),
        ({"goal": "x", "deadline_s": -1}, "invalid_request"),
        ({"goal": "x", "max_steps": 0}, "invalid_request"),
        ({"goal": "x", "tools": ["nope"]}, "unknown_tool"),
        ({"goal": "x", "metadata": {"text": "x" * 17_000}}, "invalid_run"),
        ({"goal": "x", "metadata": {"text": "\0"}}, "invalid_run"),
        ({"goal": "x", "metadata": {"text": "\ud800"}}, "invalid_run"),
    ],
)
def test_a_submission_out_of_bounds_is_refused(client: TestClient, body: dict[str, Any], code: str) -> None:
    content = json.dumps(body)  # which can write a lone surrogate
    assert_problem(client.post(RUNS, content=content, headers={"content-type": "application/json"}), 422, code)


def test_runs_are_listed_newest_first_page_by_page(alone: TestClient, service: FakeRunService) -> None:
    ids = [service.started(f"goal {number}") for number in range(5)]
    seen, cursor = [], None
    while True:
        page = alone.get(RUNS, params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [run["run_id"] for run in page["runs"]]
        assert len(page["runs"]) <= 2
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ids[::-1]


def test_runs_are_listed_by_status(alone: TestClient, service: FakeRunService) -> None:
    first, second = service.started(), service.started()
    service.append(first, RunFinished("success", "done"))
    listed = alone.get(RUNS, params={"status": "success"}).json()["runs"]
    assert [run["run_id"] for run in listed] == [first]
    assert [run["run_id"] for run in alone.get(RUNS + "?status=queued").json()["runs"]] == [second]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "limit=1.0", "limit=%2B1", "limit=", "limit=²", "status=done"]
)
def test_a_bad_question_is_refused(alone: TestClient, query: str) -> None:
    assert_problem(alone.get(f"{RUNS}?{query}"), 422, "invalid_request")


@pytest.mark.parametrize(
    ("path", "bounds"),
    [
        ("?limit=101", "from 1 to 100."),
        ("?limit=0", "from 1 to 100."),
        ("?limit=-1", "from 1 to 100."),
        ("?limit=ten", "from 1 to 100."),
        (f"/{ID}/trace?limit=1001", "from 1 to 1000."),
        (f"/{ID}/events?after=-1", "from 0 to 9007199254740991."),
        (f"/{ID}/events?after=" + "9" * 20, "from 0 to 9007199254740991."),
    ],
)
def test_a_number_out_of_range_is_told_its_range(alone: TestClient, path: str, bounds: str) -> None:
    response = alone.get(RUNS + path)
    assert_problem(response, 422, "invalid_request")
    assert response.json()["errors"][0]["message"] == f"It is not a whole number {bounds}"


@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("GET", "", "status, limit, cursor"),
        ("POST", "", "none"),
        ("GET", f"/{ID}", "none"),
        ("GET", f"/{ID}/trace", "after, limit"),
        ("GET", f"/{ID}/events", "after, limit"),
        ("POST", f"/{ID}/cancel", "none"),
        ("POST", f"/{ID}/steps/1/resolve", "none"),
    ],
)
def test_a_parameter_that_is_not_known_is_refused_with_those_that_are(
    alone: TestClient, service: FakeRunService, method: str, path: str, known: str
) -> None:
    run_id = service.started()
    response = alone.request(method, RUNS + path.replace(ID, run_id) + "?statsu=queued", json={"goal": "x"})
    assert_problem(response, 422, "invalid_request")
    assert response.json()["errors"] == [
        {"field": "statsu", "message": f"There is no such parameter here. Known: {known}."}
    ]
    assert [run.status for run in service.store.runs.values()] == ["queued"]


def test_a_parameter_that_is_given_twice_is_refused(alone: TestClient) -> None:
    response = alone.get(f"{RUNS}?status=queued&status=running&limit=1")
    assert response.json()["errors"] == [{"field": "status", "message": "It is given more than once."}]


@pytest.mark.parametrize("cursor", ["", "x", "1_a%00", "%27 OR 1=1", "1" * 5000])
def test_a_cursor_of_ones_own_making_is_refused(client: TestClient, cursor: str) -> None:
    assert_problem(client.get(f"{RUNS}?cursor={cursor}"), 422, "invalid_cursor")


@pytest.mark.parametrize(
    "run_id",
    [
        "019aab7e-5c1b-7e07-9d5c-3f0a9a1b2c3d",
        "nonsense",
        "%00",
        "019aab7e-5c1b-7e07-9d5c-3f0a9a1b2c3d%0A",
        "%27%20OR%201=1",
        "x" * 5000,
        "019aab7e5c1b7e079d5c3f0a9a1b2c3d",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/trace"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("POST", "/steps/1/resolve"),
    ],
)
def test_a_run_that_is_not_there_is_not_found(client: TestClient, run_id: str, method: str, path: str) -> None:
    body = {"json": {"outcome": "did_not_happen"}} if path.endswith("resolve") else {}
    response = client.request(method, f"{RUNS}/{run_id}{path}", **body)  # type: ignore[arg-type]
    assert_problem(response, 404, "run_not_found")


def test_an_id_may_be_written_in_capitals(alone: TestClient, service: FakeRunService) -> None:
    run_id = service.started()
    assert alone.get(f"{RUNS}/{run_id.upper()}").json()["run_id"] == run_id


def test_a_trace_is_shaped_as_run_task_shapes_it(alone: TestClient, service: FakeRunService) -> None:
    run_id = service.started()
    service.append(run_id, step(1, {"n": 2**60}), step(2), step(3))
    page = alone.get(f"{RUNS}/{run_id}/trace?limit=2").json()
    assert list(page) == [
        *("run_id", "status", "output", "model", "usage", "cost_usd", "trace", "decisions", "next_after")
    ]
    assert (page["run_id"], page["status"], page["output"], page["next_after"]) == (run_id, "running", None, 2)
    assert page["trace"][0] == {
        "step": 1,
        "tool": "probe",
        "input": {"n": 1},
        "output": {"n": str(2**60)},
        "error": None,
        "timestamp": "2026-11-22T09:30:00.123456Z",
    }
    service.append(run_id, RunFinished("error", "why", "declined"))
    rest = alone.get(f"{RUNS}/{run_id}/trace?after=2").json()
    assert ([item["step"] for item in rest["trace"]], rest["next_after"]) == ([3], None)
    assert (rest["status"], rest["output"]) == ("error", "why")


def test_the_trace_of_a_background_run_is_the_trace_of_a_task(client: TestClient) -> None:
    body = {"goal": "Calculate (100 + 50) * 2"}
    direct = client.post("/api/v1/run-task", json=body).json()
    run_id = client.post(RUNS, json=body).json()["run_id"]
    wait_until_ended(client, run_id)
    for found in (
        client.get(f"{RUNS}/{run_id}/trace").json(),
        client.get(f"{RUNS}/{direct['run_id']}/trace").json(),
    ):
        assert found.pop("next_after") is None
        assert (found.pop("model"), found.pop("cost_usd")) == (None, 0)
        assert set(found.pop("usage").values()) == {0}
        decided = found.pop("decisions")
        assert [(item["turn"], item["steps"], item["usage"]) for item in decided] == [
            (1, [1], None),
            (2, [], None),
        ]
        found["run_id"] = direct["run_id"]
        found["trace"][0]["timestamp"] = direct["trace"][0]["timestamp"]
        assert found == direct


def test_a_queued_run_is_cancelled_at_once(client: TestClient) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    run_id = client.post(RUNS, json={"goal": "Calculate 6*7", "not_before": later}).json()["run_id"]
    response = client.post(f"{RUNS}/{run_id}/cancel")
    assert response.status_code == 200
    assert (response.json()["status"], response.json()["cancel_requested"]) == ("cancelled", True)
    assert_problem(client.post(f"{RUNS}/{run_id}/cancel"), 409, "run_ended")


def test_a_run_that_is_still_stopping_is_accepted_for_it(alone: TestClient, service: FakeRunService) -> None:
    run_id = service.started()
    service.append(run_id, step(1))
    response = alone.post(f"{RUNS}/{run_id}/cancel")
    assert (response.status_code, response.headers["location"]) == (202, f"{RUNS}/{run_id}")
    assert (response.json()["status"], response.json()["cancel_requested"]) == ("running", True)


@pytest.mark.parametrize(
    ("body", "happened", "output"),
    [
        ({"outcome": "happened", "output": {"id": 7}}, True, {"id": 7}),
        ({"outcome": "happened", "output": None}, True, None),
        ({"outcome": "happened"}, True, None),
        ({"outcome": "did_not_happen"}, False, None),
    ],
)
def test_a_person_says_what_became_of_a_step(
    alone: TestClient, service: FakeRunService, body: dict[str, Any], happened: bool, output: Any
) -> None:
    run_id = service.started()
    service.append(run_id, step(1), status="waiting")
    response = alone.post(f"{RUNS}/{run_id}/steps/2/resolve", json=body)
    assert (response.status_code, response.json()["status"]) == (200, "queued")
    assert service.resolved == (run_id, 2, happened, output)
    assert_problem(alone.post(f"{RUNS}/{run_id}/steps/2/resolve", json=body), 409, "run_not_waiting")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"outcome": "maybe"},
        {"outcome": True},
        {"outcome": "did_not_happen", "output": {}},
        {"outcome": "did_not_happen", "output": None},
        {"outcome": "happened", "output": []},
        {"outcome": "happened", "output": {}, "more": 1},
        [],
    ],
)
def test_what_nobody_can_mean_resolves_nothing(alone: TestClient, service: FakeRunService, body: Any) -> None:
    run_id = service.started()
    service.append(run_id, status="waiting")
    assert_problem(alone.post(f"{RUNS}/{run_id}/steps/1/resolve", json=body), 422, "invalid_request")


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.0", "99999999999999999999"])
def test_a_step_has_a_number(alone: TestClient, service: FakeRunService, number: str) -> None:
    path = f"{RUNS}/{service.started()}/steps/{number}/resolve"
    assert_problem(alone.post(path, json={"outcome": "did_not_happen"}), 422, "invalid_request")


def test_a_task_that_has_not_ended_is_accepted(alone: TestClient, service: FakeRunService) -> None:
    service.finishes = False
    response = alone.post("/api/v1/run-task", json={"goal": "x"})
    run = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"{RUNS}/{run['run_id']}"
    assert list(run) == FIELDS


def test_a_cancelled_task_is_an_error_in_the_shape_of_run_task(alone: TestClient, service: FakeRunService) -> None:
    key = {"idempotency-key": "k"}
    run_id = alone.post(RUNS, json={"goal": "x"}).json()["run_id"]
    alone.post(f"{RUNS}/{run_id}/cancel")

    async def cancelled(*_: object, **__: object) -> Any:
        return replace(finished, run_id=run_id, status="cancelled")

    finished = FinishedRun("", "success", "Cancelled.", [])
    service.run_task = cancelled  # type: ignore[method-assign]
    response = alone.post("/api/v1/run-task", json={"goal": "x"}, headers=key)
    assert response.json() == {"run_id": run_id, "status": "error", "output": "Cancelled.", "trace": []}


@pytest.mark.parametrize("error", [StorageUnavailableError("The database is away."), FencedError("gone")])
def test_whoever_finds_the_database_away_may_come_back(
    alone: TestClient, service: FakeRunService, error: Exception
) -> None:
    service.failure = error
    for response in (alone.post(RUNS, json={"goal": "x"}), alone.get(f"{RUNS}/{new_run_id()}")):
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert "does not answer" in response.json()["detail"]  # and nothing of what the driver said
        assert str(error) not in response.text


def test_a_pruned_run_is_there_without_its_events(alone: TestClient, service: FakeRunService) -> None:
    run_id = service.started()
    service.append(run_id, RunFinished("success", "done"))
    run = service.store.runs[run_id]
    service.store.runs[run_id] = replace(run, goal=None, output=None, pruned_at=AT)
    found = alone.get(f"{RUNS}/{run_id}").json()
    assert (found["status"], found["goal"], found["output"]) == ("success", None, None)
    assert found["head_hash"] == run.head_hash.hex()
    assert_problem(alone.get(f"{RUNS}/{run_id}/events"), 410, "run_pruned")


def test_a_run_outlives_its_server(client_with: Callable[..., TestClient]) -> None:
    with client_with() as client:
        run_id = client.post("/api/v1/run-task", json={"goal": "Calculate 6*7"}).json()["run_id"]
    with client_with() as client:
        run = client.get(f"{RUNS}/{run_id}").json()
        assert (run["status"], run["output"]) == ("success", "Calculation result: 42 (from 6*7)")
        assert [item["run_id"] for item in client.get(RUNS).json()["runs"]] == [run_id]
