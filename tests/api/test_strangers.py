"""Somebody else's run is an unknown one: in what is answered, and in what the database is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from app.permissions import Permissions

UNKNOWN = {"run_id": "01890000-0000-7000-8000-000000000000", "key_id": "0" * 16}


class Stranger:
    """Somebody of one tenant, and a run and two keys of another."""

    def __init__(self, client: TestClient) -> None:
        app: Any = client.app
        assert client.portal is not None
        call, keys = client.portal.call, app.state.services.access.keys
        self._client = client
        self._shown = {"x-api-key": call(lambda: keys.create("theirs", Permissions(), tenant="theirs")).written}
        ours = {"x-api-key": call(lambda: keys.create("ours", Permissions(), tenant="ours")).written}
        run = client.post("/api/v1/runs", json={"goal": "Calculate 1+1"}, headers=ours)
        child = client.post("/api/v1/keys", json={"name": "child", "scopes": ["runs:read"]}, headers=ours)
        self.known = {"run_id": run.json()["run_id"], "key_id": child.json()["id"]}
        self.statements: list[str] = []
        database = keys._store._database
        for engine in {database.write_engine, database.read_engine, database.tenant_engine} - {None}:
            event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.statements.append(statement)

    def ask(self, method: str, path: str, of: dict[str, str], **headers: str) -> tuple[Any, list[str]]:
        """Return the answer, and the statements that it took."""
        body = {"outcome": "did_not_happen"} if path.endswith("/resolve") else None
        given = {"headers": {**self._shown, **headers}, "json": body}
        self._client.get("/api/v1/tools", headers=self._shown)  # so that the key is known
        self.statements.clear()
        answer = self._client.request(method, path.format(step=1, **of), **given)  # type: ignore[arg-type]
        return answer, list(self.statements)


@pytest.fixture(params=["sqlite", "postgres"])
def stranger(request: pytest.FixtureRequest, data_dir: Path, tmp_path: Path) -> Iterator[Stranger]:
    where = {"data_dir": data_dir}
    if request.param == "postgres":
        where = {"data_dir": tmp_path, "database_url": request.getfixturevalue("postgres_url")}
    settings = Settings(_env_file=None, authentication="required", **where)  # type: ignore[arg-type]
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield Stranger(client)


def routes(client: TestClient) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield every route that names a run or a key, and how else it may be asked."""
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        if re.search(r"{(run|key)_id}", path):
            for method in methods:
                yield method, path, {}
                if path.endswith("/events"):
                    yield method, path, {"accept": "text/event-stream"}
                    yield method, path, {"accept": "text/event-stream", "last-event-id": "99"}


def test_what_is_somebody_elses_costs_the_same_and_reads_the_same_as_what_is_not_there(stranger: Stranger) -> None:
    asked = list(routes(stranger._client))
    assert len(asked) >= 9
    for method, path, headers in asked:
        stranger.ask(method, path, UNKNOWN, **headers)  # connections are open then, and say whose rows they see
        unknown, its_statements = stranger.ask(method, path, UNKNOWN, **headers)
        foreign, statements = stranger.ask(method, path, stranger.known, **headers)
        assert (unknown.status_code, foreign.status_code) == (404, 404), (method, path, foreign.text)
        assert statements == its_statements, (method, path)
        assert statements, "nothing was looked up, and so nothing is told"
        text = foreign.text
        for name, known in stranger.known.items():
            text = text.replace(known, UNKNOWN[name])
        assert text == unknown.text
        assert foreign.headers.keys() == unknown.headers.keys()
