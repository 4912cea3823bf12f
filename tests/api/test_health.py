"""What a supervisor is told: that the process lives, and whether it can do its work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.testclient import TestClient

from app.api import errors
from app.api.health import add_health_routes
from app.api.strict import StrictRoute
from app.bootstrap.readiness import SENTENCES, Readiness
from app.errors import StorageUnavailableError
from app.storage.database import Database


class Checks:
    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    async def failing(self) -> Mapping[str, str]:
        return self.found


@pytest.fixture
def checks() -> Checks:
    return Checks()


@pytest.fixture
def client(checks: Checks) -> Iterator[TestClient]:
    app = FastAPI()
    app.router.route_class = StrictRoute
    add_health_routes(app, checks)
    errors.install(app)
    with TestClient(app) as connected:
        yield connected


def test_a_process_that_answers_lives_whatever_fails(client: TestClient, checks: Checks) -> None:
    checks.found = dict(SENTENCES)
    answer = client.get("/api/v1/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "live"})


def test_a_process_without_failing_checks_is_ready(client: TestClient) -> None:
    answer = client.get("/api/v1/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


def test_a_process_that_is_not_ready_says_which_checks_fail(client: TestClient, checks: Checks) -> None:
    checks.found = {"database": SENTENCES["database"], "stopping": SENTENCES["stopping"]}
    answer = client.get("/api/v1/health/ready")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "not_ready"
    assert problem["detail"] == "Not ready: database, stopping."
    assert problem["errors"][0] == {"field": "database", "message": "The database does not answer."}


class Watched:
    """A readiness over a real database, and what it depends on."""

    def __init__(self, database: Database) -> None:
        self.stopping = asyncio.Event()
        self.is_whole = True
        self.readiness = Readiness(database, self.stopping, lambda: self.is_whole)

    async def failing(self) -> list[str]:
        return list(await self.readiness.failing())


async def test_a_whole_process_with_its_database_is_ready(database: Database) -> None:
    assert await Watched(database).failing() == []


async def test_a_process_that_was_told_to_stop_or_has_lost_a_part_is_not(sqlite_database: Database) -> None:
    watched = Watched(sqlite_database)
    watched.stopping.set()
    assert await watched.failing() == ["stopping"]
    watched.is_whole = False
    assert await watched.failing() == ["stopping", "process"]


async def test_older_tables_are_not_ready_and_newer_ones_are(database: Database) -> None:
    for revision, expected in (("0001", ["migrations"]), ("9999", [])):
        statement = text("UPDATE alembic_version SET version_num = :revision")
        await database.transact(
            lambda connection, statement=statement, revision=revision: connection.execute(
                statement, {"revision": revision}
            )
        )
        assert await Watched(database).failing() == expected


async def test_no_tables_are_not_ready(sqlite_database: Database) -> None:
    await sqlite_database.transact(lambda connection: connection.execute(text("DROP TABLE alembic_version")))
    assert await Watched(sqlite_database).failing() == ["migrations"]


class Silent:
    """A database that does not answer, and one that fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.reads = 0

    async def read(self, _: object) -> str:
        self.reads += 1
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()
        return ""


async def test_a_database_that_does_not_answer_within_a_second_is_not_ready() -> None:
    silent = Silent()
    watched = Watched(silent)  # type: ignore[arg-type]
    async with asyncio.timeout(3):
        many = await asyncio.gather(*(watched.failing() for _ in range(20)))
    assert many == [["database"]] * 20
    assert silent.reads == 1  # however many ask


async def test_a_database_that_fails_is_not_ready_and_what_it_says_is_for_the_log() -> None:
    said = "password authentication failed for user postgres at db.internal"
    watched = Watched(Silent(StorageUnavailableError(said)))  # type: ignore[arg-type]
    assert await watched.readiness.failing() == {"database": SENTENCES["database"]}
