"""What a hostile client, text or contributor cannot do, whatever route or tool they try it by."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from app.permissions import Permissions
from app.redaction import RedactedStream, Redactor

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "app").rglob("*.py"))

RUNS_DATA = {
    *("eval", "exec", "compile", "__import__", "pickle", "cPickle", "dill", "marshal", "shelve", "jsonpickle"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen", "subprocess", "pty"),
}
"""What makes code or processes of data."""


def calls_in(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))


def imports_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_makes_code_or_processes_of_data(path: Path) -> None:
    assert not {ast.unparse(call.func) for call in calls_in(path)} & RUNS_DATA
    assert not {name.partition(".")[0] for name in imports_in(path)} & RUNS_DATA


def is_put_together(node: ast.expr, constants: set[str]) -> bool:
    """Say whether a text is made of others than constants: by an f-string, + or %, or a method of texts."""
    if isinstance(node, ast.JoinedStr):
        parts = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
        return any(not isinstance(part, ast.Name) or part.id not in constants for part in parts)
    if isinstance(node, ast.BinOp):
        return any(isinstance(side, ast.Constant | ast.JoinedStr) for side in (node.left, node.right))
    method = node.func if isinstance(node, ast.Call) else None
    if not isinstance(method, ast.Attribute) or method.attr not in ("format", "join"):
        return False
    return ast.unparse(method.value).partition("(")[0] != "sql.SQL"  # psycopg's, which quotes names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_statement_is_put_together_from_texts(path: Path) -> None:
    if "migrations" in path.parts:  # they have constants of their own, and no input
        return
    constants: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            constants |= {target.id for target in targets if isinstance(target, ast.Name)}
    for call in calls_in(path):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
        if name in ("execute", "executemany", "exec_driver_sql", "text", "literal_column") and call.args:
            assert not is_put_together(call.args[0], constants), ast.unparse(call)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    data_dir = tmp_path_factory.mktemp("hardening")
    settings = Settings(_env_file=None, data_dir=data_dir, authentication="required")
    with TestClient(create_app(settings), raise_server_exceptions=False) as connected:
        yield connected


@pytest.fixture(scope="module")
def key(client: TestClient) -> str:
    app: Any = client.app
    assert client.portal is not None
    keys = app.state.services.access.keys
    return str(client.portal.call(lambda: keys.create("all", Permissions())).written)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/health", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/docs", 200),
        ("GET", "/redoc", 200),
        ("GET", "/nowhere", 404),
        ("GET", "//api/v1/runs", 404),
        ("GET", "/api/v1/runs/", 404),
        ("GET", "/API/V1/RUNS", 404),
        ("GET", "/api/v1/runs", 401),
        ("GET", "/api/v1/%72uns", 401),
        ("GET", "/api/v1/runs/%2e%2e/keys", 404),
        ("POST", "/api/v1/runs/x%2Fcancel", 401),
        ("OPTIONS", "/api/v1/runs", 405),
        ("TRACE", "/api/v1/runs", 405),
        ("HEAD", "/api/v1/runs", 405),
        ("PROPFIND", "/api/v1/keys", 405),
    ],
)
def test_every_answer_has_its_headers_and_no_path_goes_round_the_guard(
    client: TestClient, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers


def test_no_answer_holds_the_key_that_was_shown(client: TestClient, key: str) -> None:
    document = client.get("/openapi.json").json()
    refused = key[:-1] + ("0" if key[-1] != "0" else "1")
    for path, methods in document["paths"].items():
        for method in methods:
            for shown in (key, refused):
                url = re.sub(r"{\w+}", shown, path)
                query = {
                    "params": {"cursor": shown, shown: "x"},
                    "json": {"goal": "x", shown: 1, "tools": [shown]},
                }
                answer = client.request(method, url, headers={"x-api-key": shown}, **query)  # type: ignore[arg-type]
                assert shown[-64:] not in answer.text + str(answer.headers), (method, path)
                assert 200 <= answer.status_code < 500, (method, path)


def test_a_socket_is_not_opened_for_anybody(client: TestClient, key: str) -> None:
    from starlette.websockets import WebSocketDisconnect

    refused = pytest.raises(WebSocketDisconnect)
    with refused, client.websocket_connect("/api/v1/runs", headers={"x-api-key": key}):
        pass


@pytest.mark.parametrize("ending", ["b", "ba", "e", "l", "la", ":", "x"])
def test_a_secret_that_ends_as_another_begins_is_masked_wherever_the_pieces_end(ending: str) -> None:
    secret = f"sk-live-0123456789{ending}"
    text = f"It is {secret} and no more. "
    for at in range(len(text)):
        stream = RedactedStream(Redactor([secret, "xyzxyzxyz"]))
        heard = stream.take(text[:at]) + stream.take(text[at:])
        assert heard == "It is [redacted] and no more. ", at
