"""What is almost a setting is named when the service starts; what is none of ours is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.bootstrap.misspelt import slips
from app.config import Settings


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("AUTHENTICATIN", "AUTHENTICATION"),
        ("KEY_RATE_LIMTI", "KEY_RATE_LIMIT"),
        ("key_peper", "KEY_PEPPER"),
        ("LLM_MODLE", "LLM_MODEL"),
        ("DATABSE_URL", "DATABASE_URL"),
        ("TENANT_MAX_RUN", "TENANT_MAX_RUNS"),
        ("METRIC_PORT", "METRICS_PORT"),
        ("OIDC_JWK_URL", "OIDC_JWKS_URL"),
    ],
)
def test_a_slip_is_named_with_what_is_meant(slip: str, meant: str) -> None:
    assert list(slips([slip])) == [f"{slip.upper()}: there is no such setting; is {meant} meant?"]


OTHERS = """
    HOSTS GHOST PORTS SPORT DEBUGS HOSTNAME HOSTTYPE HOME SHELL PATH LANG EXPORT REPORT DATABASE_URL_OLD
    OPENAI_API_KEY_2 OPENAI_ORG_ID GROQ_API_KEY AZURE_OPENAI_API_KEY MISTRAL_API_KEY COHERE_API_KEY
    POSTGRES_PASSWORD REDIS_URL REDIS_PORT ENV OTEL_SERVICE_NAME UV_PROJECT_ENVIRONMENT PYTHONPATH NODE_ENV
    CORE_SERVICE_PORT LOGNAME LC_ALL TMPDIR
"""


@pytest.mark.parametrize("name", OTHERS.split())
def test_what_belongs_to_others_is_left_alone(name: str) -> None:
    assert list(slips([name])) == []


def test_settings_are_no_slips_in_either_case() -> None:
    assert list(slips([*Settings.model_fields, *(name.upper() for name in Settings.model_fields)])) == []


def test_the_environment_and_the_file_are_looked_at_and_no_value_is_shown(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KEY_PEPER=canary-1\n", encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve", "--port", "0"],
        cwd=tmp_path,
        env={**os.environ, "DATA_DIR": str(tmp_path / "data"), "TENANT_RATE_LIMTI": "canary-2"},
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stderr is not None
            said = [server.stderr.readline() for _ in range(3)]
        finally:
            server.terminate()
            said += server.communicate(timeout=30)[1].splitlines()
    text = "".join(said)
    assert "KEY_PEPER: there is no such setting; is KEY_PEPPER meant?" in text
    assert "TENANT_RATE_LIMTI: there is no such setting; is TENANT_RATE_LIMIT meant?" in text
    assert "canary" not in text
