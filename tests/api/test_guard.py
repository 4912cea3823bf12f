"""Who may use which route: every route of the OpenAPI document, by everybody who could try."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from app.api.guard import PUBLIC, Guard, needs
from app.api.strict import StrictRoute
from app.auth.key_service import KeyService
from app.bootstrap import Services
from app.config import Settings
from app.main import create_app
from app.permissions import FIXED_SCOPES, Permissions
from app.telemetry.lines import json_line

T = TypeVar("T")

CODES = {401: "unauthenticated", 403: "permission_denied"}
STREAMS = {"accept": "text/event-stream"}


class House:
    """An application in which every request has to show a key, keys of all sorts, and a run of one tenant."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        app: Any = client.app
        self.services: Services = app.state.services
        self.document: dict[str, Any] = client.get("/openapi.json").json()
        self.right = self.key("right", "*")
        self.run_id = self.submit(self.right)
        self.key_id = self.id_of(self.key("victim", "runs:read"))

    def do(self, call: Callable[[], Awaitable[T]]) -> T:
        assert self.client.portal is not None
        return self.client.portal.call(call)

    @property
    def keys(self) -> KeyService:
        return self.services.access.keys

    def key(self, name: str, *scopes: str, tenant: str = "acme") -> str:
        return self.do(lambda: self.keys.create(name, Permissions.of(scopes), tenant=tenant)).written

    def revoked(self) -> str:
        written = self.key("revoked", "*")
        self.do(lambda: self.keys.revoke(self.id_of(written)))
        return written

    def expired(self) -> str:
        then = datetime.now(UTC) - timedelta(days=2)
        service = KeyService(self.keys._store, self.keys._peppers, clock=(then - timedelta(days=1)).timestamp)
        return self.do(lambda: service.create("old", Permissions(), tenant="acme", expires_at=then)).written

    def rotated_away(self) -> str:
        written = self.key("rotated", "*")
        self.do(lambda: self.keys.rotate(self.id_of(written)))
        return written

    @staticmethod
    def id_of(written: str) -> str:
        return written.split("_")[1]

    def submit(self, key: str) -> str:
        answer = self.client.post("/api/v1/run-task", json={"goal": "Calculate 6*7"}, headers={"x-api-key": key})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["run_id"])

    def ask(self, method: str, path: str, headers: dict[str, str]) -> Any:
        url = path.format(run_id=self.run_id, key_id=self.key_id, step=1, proposal_id="PROP-2025-001")
        operation = self.document["paths"][path][method]
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        body = None if content is None else self.example(content["schema"])
        return self.client.request(method, url, headers=headers, json=body)

    def example(self, schema: dict[str, Any]) -> Any:
        if "$ref" in schema:
            schema = self.document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        if "examples" in schema:
            return schema["examples"][0]
        return self.example((schema.get("oneOf") or schema["anyOf"])[0])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    settings = Settings(
        _env_file=None,
        data_dir=tmp_path_factory.mktemp("guard"),
        authentication="required",
        access_log=True,
        oidc_issuer="https://id.example",
        oidc_audience="agents",
        oidc_jwks_url="http://127.0.0.1:9/jwks",  # nobody listens: a token that gets so far would be a 503
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield House(client)


def operations(house: House) -> list[tuple[str, str, str | None, bool]]:
    """Return each route of the document: method, path, the scope that it takes, and whether it is public."""
    found = []
    for path, methods in house.document["paths"].items():
        for method, operation in methods.items():
            security = operation["security"]  # a route without a decision has none
            is_public = security == [{}]
            assert is_public or {tuple(way) for way in security} == {("bearer",), ("key",)}, path
            scopes = next(iter(security[0].values()), [])
            found.append((method, path, scopes[0] if scopes else None, is_public))
    return found


def is_problem(answer: Any, status: int, code: str) -> bool:
    return (answer.status_code, answer.json()["code"]) == (status, code)


def test_every_route_of_the_application_is_in_the_document(house: House) -> None:
    app: Any = house.client.app
    routes = {
        (method.lower(), route.path_format)
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    assert routes == {(method, path) for method, path, *_ in operations(house)}


def test_public_routes_are_few_and_known(house: House) -> None:
    assert {path for _, path, _, is_public in operations(house) if is_public} == {
        "/api/v1/health",
        "/api/v1/health/live",
        "/api/v1/health/ready",
    }


def test_without_a_key_that_holds_every_route_is_closed(house: House) -> None:
    unknown = f"lac_{'0' * 16}_{'0' * 64}"
    right_id_wrong_secret = house.right[:-64] + "0" * 64
    for method, path, _, is_public in operations(house):
        for credential in (None, unknown, right_id_wrong_secret, house.revoked(), house.expired(), "x.y.z"):
            for headers in (
                {} if credential is None else {"authorization": f"Bearer {credential}"},
                {} if credential is None else {"x-api-key": credential},
            ):
                answer = house.ask(method, path, headers)
                if is_public:
                    assert answer.status_code in (200, 503), path
                else:
                    assert is_problem(answer, 401, "unauthenticated"), (method, path, credential, answer.text)
                    assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_every_reason_why_a_key_does_not_hold_reads_the_same(house: House) -> None:
    keys = [house.revoked(), house.expired(), house.rotated_away(), f"lac_{'0' * 16}_{'0' * 64}", "eyJ.eyJ.x"]
    answers = [house.client.get("/api/v1/runs", headers={"x-api-key": key}) for key in keys]
    assert len({(answer.status_code, answer.content) for answer in answers}) == 1


def test_without_its_scope_every_route_is_closed(house: House) -> None:
    for method, path, scope, is_public in operations(house):
        if is_public or scope is None:
            continue
        others = [name for name in FIXED_SCOPES if name not in ("*", scope)]
        key = house.key(f"all but {scope}", *others)
        answer = house.ask(method, path, {"authorization": f"Bearer {key}"})
        assert is_problem(answer, 403, "permission_denied"), (method, path, answer.text)
        assert f'scope="{scope}"' in answer.headers["www-authenticate"]


def test_with_its_scope_alone_every_route_is_open(house: House) -> None:
    for method, path, scope, _ in operations(house):
        key = house.key(f"only {scope}", "metrics:read" if scope is None else scope)
        answer = house.ask(method, path, {"authorization": f"Bearer {key}"})
        assert answer.status_code not in (401, 403, 500, 503), (method, path, answer.text)


def test_what_is_another_tenants_does_not_exist(house: House) -> None:
    stranger = house.key("stranger", "*", tenant="other")
    for method, path, *_ in operations(house):
        if "{run_id}" not in path and "{key_id}" not in path:
            continue
        for headers in ({}, STREAMS) if path.endswith("/events") else ({},):
            theirs = house.ask(method, path, {"x-api-key": stranger, **headers})
            assert theirs.status_code == 404, (method, path, theirs.text)
            assert theirs.json()["code"] in ("run_not_found", "key_not_found")
    assert house.client.get("/api/v1/runs", headers={"x-api-key": stranger}).json()["runs"] == []
    assert house.run_id not in house.client.get("/api/v1/keys", headers={"x-api-key": stranger}).text


def test_notes_and_idempotency_keys_are_a_tenants_own(house: House) -> None:
    ours, theirs = house.key("ours", "*"), house.key("theirs", "*", tenant="other")
    for key, note in ((ours, "ours"), (theirs, "theirs")):
        goal = {"goal": f"Add a note to PROP-2025-777: {note}"}
        headers = {"x-api-key": key, "idempotency-key": '"same"'}
        answer = house.client.post("/api/v1/run-task", json=goal, headers=headers)
        assert answer.json()["status"] == "success", answer.text
        read = house.client.get("/api/v1/governance-notes/PROP-2025-777", headers={"x-api-key": key})
        assert read.json()["notes"] == [note]


def test_a_route_without_a_decision_is_no_route() -> None:
    app = FastAPI()
    app.router.route_class = StrictRoute.guarded_by(Guard())

    async def endpoint() -> None: ...

    with pytest.raises(TypeError, match="public"):
        app.get("/forgotten")(endpoint)
    with pytest.raises(TypeError, match="public"):
        app.get("/torn", dependencies=[PUBLIC, needs("runs:read")])(endpoint)


def test_a_denied_call_is_a_step_with_its_reason(house: House) -> None:
    key = house.key("math only", "runs:write", "tools:math")
    answer = house.client.post(
        "/api/v1/run-task",
        json={"goal": "Add a note to PROP-2025-001: hello", "tools": ["governance_note"]},
        headers={"x-api-key": key},
    )
    assert answer.status_code == 200
    [step] = answer.json()["trace"]
    assert step["error"] == "permission_denied: The scope tools:governance_note is missing."
    assert step["output"] is None


def test_a_body_is_not_read_before_it_is_known_whose_it_is(house: House) -> None:
    answer = house.client.post("/api/v1/run-task", content=b"{" * 10, headers={"content-type": "text/xml"})
    assert is_problem(answer, 401, "unauthenticated")


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Basic eDp5")],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer")],
        [("x-api-key", "")],
    ],
)
def test_what_is_no_key_or_token_is_refused(house: House, headers: list[tuple[str, str]]) -> None:
    assert is_problem(house.client.get("/api/v1/runs", headers=dict(headers)), 401, "unauthenticated")


def test_two_credentials_are_refused_even_if_both_hold(house: House) -> None:
    both = {"authorization": f"Bearer {house.right}", "x-api-key": house.right}
    assert is_problem(house.client.get("/api/v1/runs", headers=both), 401, "unauthenticated")


async def test_ten_thousand_hostile_headers_are_refused_and_break_no_line(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """No 5xx, and each is a line of the access log, whole and without what was sent."""
    caplog.set_level(logging.INFO, "app.api.observation")
    dice = random.Random(20261122)  # noqa: S311
    app: Any = house.client.app
    pieces = [
        b"Bearer ",
        b"bearer\t",
        b"Basic ",
        b"lac_",
        b"eyJ",
        b".",
        b"\xff\xfe",
        b"\x00",
        b"\x1b[31m",
        b"=",
        b"'--",
    ]
    statuses: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    def ask() -> Awaitable[None]:
        value = b"".join(
            dice.choice(pieces) + dice.randbytes(dice.randrange(12)) for _ in range(dice.randrange(8))
        )
        name = dice.choice([b"authorization", b"x-api-key"])
        repeated = [(name, value)] * dice.choice([1, 1, 1, 2])
        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "path": "/api/v1/runs",
            "raw_path": b"/api/v1/runs",
            "query_string": b"", "root_path": "", "scheme": "http", "headers": repeated,
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "state": {},
        }  # fmt: skip
        answered: Awaitable[None] = app(scope, receive, send)
        return answered

    def all_of_them() -> None:
        async def run() -> None:
            for _ in range(10_000):
                await ask()

        assert house.client.portal is not None
        house.client.portal.call(run)

    await asyncio.to_thread(all_of_them)
    assert len(statuses) == 10_000
    assert set(statuses) == {401}
    logged = [record for record in caplog.records if record.getMessage() == "request"]
    assert len(logged) == 10_000
    assert {str(record.fields["path"]) for record in logged} == {"/api/v1/runs"}  # type: ignore[attr-defined]
    lines = "".join(json_line(0, "INFO", "x", "request", record.fields) for record in logged)  # type: ignore[attr-defined]
    assert lines.isprintable()
    assert "lac_" not in lines


def test_the_first_key_is_made_once_shown_once_and_does_everything(data_dir: Path, capfd: Any) -> None:
    settings = Settings(_env_file=None, data_dir=data_dir, environment="production")
    with TestClient(create_app(settings)) as client:
        lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
        [key] = [line["key"] for line in lines if "key" in line]
        assert client.get("/api/v1/runs").status_code == 401
        assert client.get("/api/v1/runs", headers={"x-api-key": key}).status_code == 200
    with TestClient(create_app(settings)) as client:
        assert "lac_" not in capfd.readouterr().err
        assert client.get("/api/v1/runs", headers={"x-api-key": key}).status_code == 200


def test_where_it_is_asked_for_in_development_the_first_key_is_for_a_person(data_dir: Path, capfd: Any) -> None:
    settings = Settings(_env_file=None, data_dir=data_dir, authentication="required")
    with TestClient(create_app(settings)) as client:
        [key] = [line.strip() for line in capfd.readouterr().err.splitlines() if line.strip().startswith("lac_")]
        assert client.get("/api/v1/runs", headers={"x-api-key": key}).status_code == 200


def test_in_development_who_shows_nothing_may_do_everything_and_who_shows_a_key_is_held_to_it(
    data_dir: Path,
) -> None:
    with TestClient(create_app(Settings(_env_file=None, data_dir=data_dir))) as client:
        assert client.get("/api/v1/runs").status_code == 200
        made = client.post("/api/v1/keys", json={"name": "reader", "scopes": ["runs:read"]})
        assert made.status_code == 201, made.text
        key = made.json()["key"]
        assert client.get("/api/v1/runs", headers={"x-api-key": key}).status_code == 200
        assert client.post("/api/v1/keys", json={}, headers={"x-api-key": key}).status_code == 403
        assert client.get("/api/v1/runs", headers={"x-api-key": key + "0"}).status_code == 401


def test_authentication_can_be_off(data_dir: Path) -> None:
    settings = Settings(_env_file=None, data_dir=data_dir, environment="production", authentication="off")
    with TestClient(create_app(settings)) as client:
        assert client.get("/api/v1/runs", headers={"authorization": "Basic x"}).status_code == 200


def test_answers_carry_what_keeps_browsers_from_making_more_of_them(house: House) -> None:
    for answer in (house.client.get("/api/v1/health"), house.client.get("/api/v1/runs")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "set-cookie" not in answer.headers
        assert "strict-transport-security" not in answer.headers
    assert "content-security-policy" not in house.client.get("/docs").headers


def test_behind_tls_browsers_are_told_to_use_no_other(client_with: Callable[..., TestClient]) -> None:
    with client_with(tls_terminated=True) as client:
        assert "max-age" in client.get("/api/v1/health").headers["strict-transport-security"]


def test_only_known_hosts_are_answered(client_with: Callable[..., TestClient]) -> None:
    with client_with(allowed_hosts=("agents.example", "*.agents.example")) as client:
        statuses = {
            host: client.get("/api/v1/health", headers={"host": host}).status_code
            for host in ("agents.example", "a.agents.example", "evil.example", "agents.example.evil.example")
        }
    assert statuses == {
        "agents.example": 200,
        "a.agents.example": 200,
        "evil.example": 400,
        "agents.example.evil.example": 400,
    }


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("localhost", 200),
        ("api:8000", 200),
        ("agents.localhost:80", 200),
        ("evil.example", 403),
        ("evil.example:8000", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:8000", 403),
        ("localhost:evil.example", 403),
        ("a:b.evil.example:80", 403),
        ("", 200),
    ],
)
def test_without_a_key_no_page_reaches_the_service_by_a_name_of_its_own(
    client: TestClient, host: str, status: int
) -> None:
    """DNS rebinding: a page whose name is given our address is of the same origin, as far as its browser knows."""
    assert client.get("/api/v1/runs", headers={"host": host}).status_code == status


def test_without_a_key_a_page_of_another_origin_changes_nothing(
    client: TestClient, client_with: Callable[..., TestClient]
) -> None:
    path = f"/api/v1/runs/{'0' * 8}-0000-0000-0000-{'0' * 12}/cancel"
    assert client.post(path, headers={"origin": "https://evil.example"}).status_code == 403
    assert client.post(path, headers={"origin": "null"}).status_code == 403
    assert client.post(path, headers={"origin": "http://testserver"}).status_code == 404
    with client_with(cors_origins=("https://desk.example",)) as known:
        assert known.post(path, headers={"origin": "https://desk.example"}).status_code == 404
        assert known.post(path, headers={"origin": "https://evil.example"}).status_code == 403


def test_with_a_key_or_a_named_host_any_name_will_do(client_with: Callable[..., TestClient]) -> None:
    with client_with(allowed_hosts=("agents.example",)) as client:
        assert client.get("/api/v1/runs", headers={"host": "agents.example"}).status_code == 200
        made = client.post("/api/v1/keys", json={"name": "k", "scopes": ["*"]}, headers={"host": "agents.example"})
    with client_with() as client:
        shown = {"host": "agents.example", "x-api-key": made.json()["key"]}
        assert client.get("/api/v1/runs", headers=shown).status_code == 200
