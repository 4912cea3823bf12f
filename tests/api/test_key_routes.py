"""API keys over HTTP, in a real application over a real database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema_rs
import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from app.auth.key_service import IssuedKey, KeyService
from app.auth.principal import Limits
from app.permissions import ArgumentRule, Permissions
from app.storage.tables import key_pepper

KEYS = "/api/v1/keys"
RULE = "governance_note:proposal_id=PROP-2025-*"
WANTED = {"name": "ci", "scopes": ["runs:read"]}


class Desk:
    """A service that wants a key of everybody, and the keys that its operator makes."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.service: KeyService = client.app.state.services.access.keys  # type: ignore[attr-defined]

    def issue(
        self, *scopes: str, rules: tuple[str, ...] = (), tenant: str = "default", limits: Limits | None = None
    ) -> IssuedKey:
        permissions = Permissions.of(scopes, [ArgumentRule.parse(rule) for rule in rules])
        assert self.client.portal is not None
        issued: IssuedKey = self.client.portal.call(
            lambda: self.service.create("root", permissions, tenant=tenant, limits=limits)
        )
        return issued

    def get(self, key: IssuedKey | str, path: str = KEYS) -> Any:
        return self.client.get(path, headers=shown(key))

    def post(self, key: IssuedKey | str, path: str = KEYS, body: object = None) -> Any:
        return self.client.post(path, headers=shown(key), json=body)


def shown(key: IssuedKey | str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key if isinstance(key, str) else key.written}"}


@pytest.fixture
def desk(client_with: Callable[..., TestClient]) -> Iterator[Desk]:
    with client_with(authentication="required") as client:
        yield Desk(client)


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_key_that_is_made_is_shown_once_and_admits(desk: Desk) -> None:
    mine = desk.issue("keys:read", "keys:write", "runs:read", rules=(RULE,))
    wanted = {
        "name": "nightly ü",
        "scopes": ["runs:read", "keys:read"],
        "rules": ["math:expression=1*"],
        "limits": {"requests": "600/minute", "runs": 5.0},
        "expires_at": "2126-01-31T00:00:00+02:00",
    }
    answer = desk.post(mine, body=wanted)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    key = made.pop("key")
    assert re.fullmatch(rf"lac_{made['id']}_[0-9a-f]{{64}}", key)
    assert made == {
        "id": made["id"],
        "name": "nightly ü",
        "scopes": ["keys:read", "runs:read"],
        "rules": [RULE, "math:expression=1*"],
        "limits": {"requests": "600/minute", "runs": 5, "steps_per_day": None, "tokens_per_day": None},
        "parent": mine.key.id,
        "state": "holds",
        "created_at": made["created_at"],
        "expires_at": "2126-01-30T22:00:00Z",
        "rotated_at": None,
        "revoked_at": None,
    }
    assert desk.get(key).json() == {"keys": [made]}
    everything = desk.get(mine)
    assert key.rpartition("_")[2] not in everything.text
    assert made in everything.json()["keys"]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"name": ""},
        {"name": " "},
        {"name": "a\nb"},
        {"name": "\x9f"},
        {"name": "n" * 101},
        {"name": 7},
        {"scopes": "runs:read"},
        {"scopes": None},
        {"scopes": ["runs:read"] * 201},
        {"rules": None},
        {"limits": {"requests": "600"}},
        {"limits": {"requests": "0/minute"}},
        {"limits": {"requests": "1/minute\n"}},
        {"limits": {"runs": 0}},
        {"limits": {"runs": 10**12 + 1}},
        {"limits": {"speed": 1}},
        {"expires_at": "tomorrow"},
        {"tenant": "acme"},
    ],
)
def test_what_is_no_key_is_refused_as_the_document_says(desk: Desk, wrong: dict[str, Any]) -> None:
    mine = desk.issue("*")
    body = {**WANTED, **wrong} if wrong else {}
    assert code(desk.post(mine, body=body)) == (422, "invalid_request")
    document = desk.get(mine, "/openapi.json").json()
    stated = {"$ref": "#/components/schemas/KeyRequest", "components": document["components"]}
    if wrong.get("expires_at") is None:  # a format is no more than a remark
        assert not jsonschema_rs.is_valid(stated, body)
    assert jsonschema_rs.is_valid(stated, WANTED)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": ["*"]},
        {"scopes": ["runs:delete"]},
        {"rules": ["math"]},
        {"limits": {"runs": 6}},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "9999-12-31T23:59:59Z"},
    ],
)
def test_what_is_more_than_whoever_asks_has_is_refused(desk: Desk, wrong: dict[str, Any]) -> None:
    mine = desk.post(
        desk.issue("*"), body={**WANTED, "scopes": ["keys:write", "runs:read"], "limits": {"runs": 5}}
    )
    assert code(desk.post(mine.json()["key"], body={**WANTED, **wrong})) == (422, "invalid_permissions")


@pytest.mark.parametrize(
    ("method", "path"), [("get", ""), ("post", ""), ("post", "/ID/revoke"), ("post", "/ID/rotate")]
)
def test_keys_take_a_scope(desk: Desk, method: str, path: str) -> None:
    weak = desk.issue("runs:read", "runs:write", "notes:read", "notes:write", "tools:*", "metrics:read")
    path = KEYS + path.replace("ID", weak.key.id)
    answer = desk.client.request(method, path, headers=shown(weak))
    assert code(answer) == (403, "permission_denied")
    assert code(desk.client.request(method, path)) == (401, "unauthenticated")


def test_a_revoked_key_admits_nobody_from_then_on(desk: Desk) -> None:
    mine = desk.issue("keys:read", "keys:write")
    child = desk.post(mine, body={"name": "child", "scopes": ["keys:read"]}).json()
    assert desk.get(child["key"]).status_code == 200
    answer = desk.post(mine, f"{KEYS}/{child['id']}/revoke")
    assert answer.status_code == 200
    assert (answer.json()["state"], "key" in answer.json()) == ("revoked", False)
    assert code(desk.get(child["key"])) == (401, "unauthenticated")
    assert desk.post(mine, f"{KEYS}/{mine.key.id}/revoke").status_code == 200
    assert code(desk.get(mine)) == (401, "unauthenticated")


def test_a_rotated_key_admits_with_its_new_secret(desk: Desk) -> None:
    mine = desk.issue("keys:read", "keys:write")
    answer = desk.post(mine, f"{KEYS}/{mine.key.id}/rotate?overlap_s=60")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    second = answer.json()["key"]
    assert desk.get(mine).status_code == desk.get(second).status_code == 200
    third = desk.post(second, f"{KEYS}/{mine.key.id}/rotate").json()["key"]
    assert [desk.get(key).status_code for key in (mine, second, third)] == [401, 401, 200]


@pytest.mark.parametrize("overlap", ["-1", "604801", "1.0", "+1", "1_0", "", "x", "9" * 400, "1&overlap_s=1"])
def test_an_overlap_is_a_number_of_seconds(desk: Desk, overlap: str) -> None:
    mine = desk.issue("keys:write")
    assert code(desk.post(mine, f"{KEYS}/{mine.key.id}/rotate?overlap_s={overlap}")) == (422, "invalid_request")


def test_children_have_no_more_requests_than_the_key_they_descend_from(desk: Desk) -> None:
    keys = [desk.issue("keys:read", "keys:write", limits=Limits("3/hour")).written]
    for _ in range(2):
        made = desk.post(keys[-1], body={"name": "child", "scopes": ["keys:read", "keys:write"]})
        assert made.status_code == 201
        keys.append(made.json()["key"])
    last = desk.get(keys[2])
    assert last.status_code == 200
    assert [policy.split(";")[0] for policy in last.headers["ratelimit-policy"].split(", ")] == [
        '"key"',
        '"parent"',
        '"parent-2"',
    ]
    assert last.headers["ratelimit"].startswith('"parent-2";r=0;')
    for key in keys:
        assert code(desk.get(key)) == (429, "rate_limited")


def test_what_one_may_not_see_does_not_exist(desk: Desk) -> None:
    mine = desk.issue("keys:read", "keys:write", "runs:read", rules=(RULE,))
    hidden = [desk.issue("runs:read", tenant="acme", rules=(RULE,)), desk.issue("runs:read"), desk.issue("*")]
    assert [key["id"] for key in desk.get(mine).json()["keys"]] == [mine.key.id]
    details = set()
    for key_id in [*(key.key.id for key in hidden), "f" * 16, "F" * 16, "no-id", "a%00b"]:
        for action in ("revoke", "rotate"):
            answer = desk.post(mine, f"{KEYS}/{key_id}/{action}")
            assert code(answer) == (404, "key_not_found")
            details.add(re.sub(r"'.*'", "ID", answer.json()["detail"]))
    assert len(details) == 1
    beside = desk.issue("runs:read", rules=(RULE,))
    assert code(desk.post(mine, f"{KEYS}/{beside.key.id}/rotate")) == (422, "invalid_permissions")
    assert desk.post(mine, f"{KEYS}/{beside.key.id}/revoke").status_code == 200


def test_a_service_with_another_pepper_makes_no_key(desk: Desk) -> None:
    mine = desk.issue("*")
    database = desk.client.app.state.services.access._store._database  # type: ignore[attr-defined]
    other = update(key_pepper).values(fingerprint=b"of another")
    assert desk.client.portal is not None
    desk.client.portal.call(lambda: database.transact(lambda connection: connection.execute(other)))
    assert code(desk.post(mine, body=WANTED)) == (500, "internal_error")
    assert "ci" not in [key["name"] for key in desk.get(mine).json()["keys"]]


def test_examples_of_keys_are_examples_of_what_they_stand_in(desk: Desk) -> None:
    document = desk.get(desk.issue("*"), "/openapi.json").json()
    for name in ("KeyRequest", "KeyModel", "IssuedKeyModel", "KeyList"):
        stated = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        (example,) = document["components"]["schemas"][name]["examples"]
        jsonschema_rs.validate(stated, example)
