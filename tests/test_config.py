from __future__ import annotations

from pathlib import Path

import pytest

from app.config import Environment, Settings
from app.errors import ConfigurationError

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)  # and so no .env of the checkout
    monkeypatch.setitem(Settings.model_config, "env_file", ".env")


def test_nothing_has_to_be_configured() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.environment) == ("127.0.0.1", 8000, Environment.DEVELOPMENT)
    assert (settings.debug, settings.cors_origins, settings.tool_modules) == (False, (), ())


def test_the_environment_wins_over_the_file_and_unknown_keys_are_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("PORT=9000\nMAX_STEPS=7\nSOMEBODY_ELSES=1\n", encoding="utf-8")
    monkeypatch.setenv("PORT", "9001")
    settings = Settings()
    assert (settings.port, settings.max_steps) == (9001, 7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("https://a.example", ("https://a.example",)),
        ("https://a.example, https://b.example,", ("https://a.example", "https://b.example")),
        ('["https://a.example", "https://b.example"]', ("https://a.example", "https://b.example")),
        ("*", ("*",)),
    ],
)
def test_lists_are_comma_separated_or_json(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CORS_ORIGINS", text)
    assert Settings().cors_origins == expected


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "")
    assert Settings().port == 8000


def test_words_may_be_written_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "warning")
    monkeypatch.setenv("ENVIRONMENT", "Production")
    settings = Settings()
    assert (settings.log_level, settings.environment) == ("WARNING", Environment.PRODUCTION)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "70000"),
        ("ENVIRONMENT", "staging"),
        ("DEBUG", "perhaps"),
        ("LOG_LEVEL", "LOUD"),
        ("CORS_ORIGINS", "[broken"),
        ("CORS_ORIGINS", "[1]"),
        ("CORS_ORIGINS", "https://desk.example/"),
        ("CORS_ORIGINS", "desk.example"),
        ("MAX_STEPS", "0"),
        ("MAX_RUN_SECONDS", "inf"),
        ("LLM_MODEL", "gpt"),
    ],
)
def test_a_bad_value_is_one_line_with_the_variable_and_the_reason(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings()
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert len(message) > len(name) + 10
    assert "\n" not in message


def test_a_file_that_is_no_text_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=9000", encoding="utf-16")
    with pytest.raises(ConfigurationError, match=r"^\.env: it is not UTF-8 text$"):
        Settings()


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "x")
    monkeypatch.setenv("DEBUG", "x")
    with pytest.raises(ConfigurationError, match=r"PORT: .*; DEBUG: "):
        Settings()


def test_the_example_file_shows_every_setting_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    shown = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert {name.lower() for name in shown} == set(Settings.model_fields)
    for name, value in shown.items():
        monkeypatch.setenv(name, value)
    defaults = {name: field.get_default() for name, field in Settings.model_fields.items()}
    assert Settings().model_dump() == defaults
