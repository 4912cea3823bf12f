"""What a deployment has to be, however it is described: guarded, observed, and given the time to stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.bootstrap.process import ENDING_S, GRACE_S
from app.bootstrap.production import needs_credentials, refuse_the_forgotten
from app.cli import serve, worker
from app.config import Settings

DEPLOY = Path(__file__).parent.parent / "deploy"
KNOWN = {name.upper() for name in Settings.model_fields}


def assert_production(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    """Make sure that these variables, and no others, make a service that asks who is there and that is scraped."""
    for name in KNOWN:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    refuse_the_forgotten(settings)
    assert settings.environment == "production"
    assert settings.authentication == "required"
    assert needs_credentials(settings)
    assert settings.database_url is not None
    assert settings.key_pepper is not None
    assert (settings.metrics_host, settings.metrics_port) == ("0.0.0.0", 9464)  # noqa: S104 - in a container


def longest_stop_s() -> float:
    """The longest that a process takes to stop, as docs/operations.md has it."""
    longest = max(serve.REQUESTS_S + GRACE_S, worker.GRACE_S)
    assert longest + 2 * ENDING_S <= 30
    return 30
