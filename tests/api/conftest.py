"""Clients of a real application over a real database, and of the routes alone over a service that does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_runs import FakeRunService
from routes_alone import application
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(_env_file=None, data_dir=tmp_path_factory.mktemp("api"))
    with TestClient(create_app(settings), raise_server_exceptions=False) as connected:
        yield connected


@pytest.fixture
def client_with(data_dir: Path) -> Callable[..., TestClient]:
    """Make a client of an application of its own, with these settings; enter it before use."""

    def make(**settings: Any) -> TestClient:
        application = create_app(Settings(_env_file=None, data_dir=data_dir, **settings))
        return TestClient(application, raise_server_exceptions=False)

    return make


@pytest.fixture
def service() -> FakeRunService:
    return FakeRunService()


@pytest.fixture
def alone(service: FakeRunService) -> Iterator[TestClient]:
    """A client of the routes over `service`."""
    with TestClient(application(service), raise_server_exceptions=False) as connected:
        yield connected
