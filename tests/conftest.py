"""Fixtures shared by all tests; what is in `fakes.py` beside this file is importable from every test."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.config import Settings
from app.storage.database import FILE_NAME, Database
from app.storage.schema import upgrade
from app.tools.base import tool_registry

if TYPE_CHECKING:
    from postgres import PostgresServer

# before anything is built from them: tests see neither a developer's `.env` nor her environment
for _name in Settings.model_fields:
    os.environ.pop(_name.upper(), None)
Settings.model_config["env_file"] = None


@pytest.fixture(autouse=True)
def _registry_as_it_was() -> Iterator[None]:
    """Tests may register tools; each leaves the process-wide registry as it found it."""
    before = set(tool_registry.snapshot())
    yield
    for name in set(tool_registry.snapshot()) - before:
        tool_registry.unregister(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The one real Postgres of this test run."""
    from postgres import WITHOUT, shared

    if os.environ.get(WITHOUT):
        pytest.skip(f"{WITHOUT} is set")
    try:
        server = shared()
    except Exception as error:
        pytest.fail(
            f"Postgres could not be started, and this test needs it (or {WITHOUT}=1): {error}", pytrace=False
        )
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """The name of a Postgres database with all tables and no rows, to be copied."""
    name = postgres.create()
    database = Database.open(Path(), postgres.url(name))
    upgrade(database)
    database.close()
    return name


@pytest.fixture
def empty_postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a Postgres database without tables."""
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """The URL of a Postgres database with all tables and no rows."""
    name = postgres.create(postgres_template)
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture(scope="session")
def reused_postgres_url(postgres: PostgresServer, postgres_template: str) -> str:
    """The URL of a Postgres database with all tables, for tests that empty it before they begin."""
    return postgres.url(postgres.create(postgres_template))


@pytest.fixture
def emptied_postgres_database(reused_postgres_url: str) -> Iterator[Database]:
    """A Postgres database with all tables and no rows; ten times sooner there than one of its own."""
    from postgres import empty

    empty(reused_postgres_url)
    database = Database.open(Path(), reused_postgres_url, patience_s=5)
    yield database
    database.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a SQLite database that has all tables and no rows, to be copied."""
    directory = tmp_path_factory.mktemp("sqlite")
    database = Database.open(directory)
    upgrade(database)
    database.close()
    return directory


@pytest.fixture
def data_dir(tmp_path: Path, sqlite_template: Path) -> Path:
    """A data directory whose SQLite database has all tables and no rows."""
    directory = tmp_path / "data"
    directory.mkdir()
    shutil.copy(sqlite_template / FILE_NAME, directory)
    return directory


@pytest.fixture
def sqlite_database(data_dir: Path) -> Iterator[Database]:
    database = Database.open(data_dir, patience_s=5)
    yield database
    database.close()


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[Database]:
    database = Database.open(Path(), postgres_url, patience_s=5)
    yield database
    database.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    """A database with all tables and no rows: each of those that are promised the same."""
    found: Database = request.getfixturevalue(f"{request.param}_database")
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was not run: a suite that is green without its database has proved half of it."""
    skipped = [
        report for report in terminalreporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)
    ]
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if reasons:
        terminalreporter.section("NOT RUN", sep="!", red=True, bold=True)
        for reason, tests in reasons.items():
            terminalreporter.line(f"{tests} tests: {reason}")
