"""Fixtures of the tests of runs."""

from __future__ import annotations

import pytest

from app.storage.database import Database


@pytest.fixture(params=["sqlite_database", "emptied_postgres_database"], ids=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    """A database with all tables and no rows: each of those that are promised the same."""
    found: Database = request.getfixturevalue(request.param)
    return found
