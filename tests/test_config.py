from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from app.bootstrap import build_services
from app.bootstrap.models import KEY_VARIABLES
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
        ("LLM_FALLBACKS", "openai:gpt-5,gpt"),
        ("LLM_FALLBACKS", "mock"),
        ("LLM_MODELS", "vercel:gpt-5"),
        ("LLM_TIMEOUT_S", "0"),
        ("LLM_MAX_RETRIES", "-1"),
        ("MAX_TOKENS", "0"),
        ("MAX_COST_USD", "0"),
        ("MAX_COST_USD", "nan"),
        ("ALLOW_UNKNOWN_PRICES", "perhaps"),
    ],
)
def test_a_bad_value_is_one_line_with_the_variable_and_the_reason(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings()
    message = str(caught.value)
    assert message.startswith((f"{name}: ", f"{name}, entry 1: "))
    assert len(message) > len(name) + 10
    assert "\n" not in message


def test_models_are_lists_of_names_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_MODEL", " anthropic:claude-sonnet-5 ")
    monkeypatch.setenv("LLM_FALLBACKS", "openai:gpt-5, ollama:llama3.2,openai:gpt-5")
    monkeypatch.setenv("LLM_MODELS", '["mock", "vercel:xai/grok-4"]')
    monkeypatch.setenv("MAX_COST_USD", "0.000000001")
    settings = Settings()
    assert settings.llm_model == "anthropic:claude-sonnet-5"
    assert settings.llm_fallbacks == ("openai:gpt-5", "ollama:llama3.2")
    assert settings.llm_models == ("mock", "vercel:xai/grok-4")
    assert settings.max_cost_usd == Decimal("1e-9")


def test_keys_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLM_API_KEY", *KEY_VARIABLES):
        monkeypatch.setenv(name, "sk-secret")
    assert "sk-secret" not in f"{Settings()!r} {Settings().model_dump()}"


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


@pytest.mark.parametrize(
    ("schedules", "said"),
    [
        ('[{"name": "a", "cron": "0 6 * * *"}]', "SCHEDULES, entry 1, goal: it is missing"),
        (
            '[{"name": "a", "cron": "0 6 * * *", "goal": "g"}, {"name": "b", "cron": "0 6 * * *", "goal": 7}]',
            "SCHEDULES, entry 2, goal: it has to be text",
        ),
        (
            '[{"name": "a", "cron": "0 6 * * *", "goal": "g", "tool": "math"}]',
            "SCHEDULES, entry 1, tool: it is not known here",
        ),
        (
            '[{"name": "a", "cron": "0 6 * * *", "goal": "g", "tools": "math"}]',
            "SCHEDULES, entry 1, tools: it has to be a list",
        ),
        ('[{"name": "a"}, 1]', "SCHEDULES, entry 2: it has to be an object"),
        ('{"name": "a"}', "SCHEDULES: it has to be a list"),
        ("daily", "SCHEDULES: it is no JSON list: Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_a_bad_schedule_is_named_by_its_place(monkeypatch: pytest.MonkeyPatch, schedules: str, said: str) -> None:
    monkeypatch.setenv("SCHEDULES", schedules)
    with pytest.raises(ConfigurationError) as raised:
        Settings()
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"tools": ["math", "mail"]}, "Unknown tool 'mail'. Available tools: math, web_search, governance_note."),
        ({"goal": " "}, "The goal is empty."),
        ({"priority": 101}, "The priority is 101; it is -100 to 100."),
        ({"max_steps": 1001}, "max_steps is 1001; it is 1 to 1000."),
        ({"max_cost_usd": 0}, "max_cost_usd is 0.0; it is 1e-09 to 1000000."),
        ({"deadline_s": 0}, "deadline_s is 0.0; it is above 0 and at most 2592000."),
        ({"cron": "0 6"}, "its times '0 6' need five fields: minute, hour, day, month and day of the week."),
    ],
)
def test_a_schedule_that_could_not_be_carried_out_is_refused_before_anything_is_opened(
    tmp_path: Path, bad: dict[str, object], said: str
) -> None:
    good = {"name": "good", "cron": "0 6 * * *", "goal": "Calculate 2+2", "tools": ["math"]}
    settings = Settings(data_dir=tmp_path / "data", schedules=(good, {**good, "name": "bad", **bad}))
    with pytest.raises(ConfigurationError) as raised:
        build_services(settings)
    assert str(raised.value) == f"SCHEDULES, 'bad': {said}"
    assert not settings.data_dir.exists()


WITH_TOKENS = {
    "oidc_issuer": "https://id.example",
    "oidc_audience": "us",
    "oidc_jwks_url": "https://id.example/keys",
}


def test_tokens_are_taken_when_all_of_their_settings_are_there() -> None:
    settings = Settings(**WITH_TOKENS)
    assert (settings.oidc_algorithms, settings.oidc_scopes_claim) == (("RS256", "ES256"), "scope")
    assert Settings().oidc_issuer is None


@pytest.mark.parametrize("missing", WITH_TOKENS)
def test_some_settings_for_tokens_are_not_enough(missing: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^OIDC_ISSUER, OIDC_AUDIENCE and OIDC_JWKS_URL: they are all set"
    ):
        Settings(**{name: value for name, value in WITH_TOKENS.items() if name != missing})


@pytest.mark.parametrize("names", ["HS256", "none", "RS256,HS512", "RS256,rs256", ",", '["RS256", "None"]'])
def test_only_asymmetric_algorithms_are_there_for_tokens(names: str) -> None:
    with pytest.raises(ConfigurationError, match="OIDC_ALGORITHMS: "):
        Settings(oidc_algorithms=names)


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        ("https://id.example/keys", True),
        ("http://127.0.0.1:8080/keys", True),
        ("http://localhost/keys", True),
        ("http://[::1]:80/keys", True),
        ("http://id.example/keys", False),
        ("http://127.0.0.1.evil.example/keys", False),
        ("http://127.0.0.1@evil.example/keys", False),
        ("http://localhost.evil.example/keys", False),
        ("https://user:password@id.example/keys", False),
        ("ftp://id.example/keys", False),
        ("file:///etc/passwd", False),
        ("/keys", False),
    ],
)
def test_keys_are_fetched_over_https_or_from_this_machine(url: str, is_safe: bool) -> None:
    if is_safe:
        assert Settings(**WITH_TOKENS | {"oidc_jwks_url": url}).oidc_jwks_url == url
        return
    with pytest.raises(ConfigurationError, match="OIDC_JWKS_URL: it has to begin with https://"):
        Settings(**WITH_TOKENS | {"oidc_jwks_url": url})


@pytest.mark.parametrize(
    "rate", ["600", "0/minute", "600/fortnight", "600/minute; 1/hour", "-1/day", "6 per hour"]
)
@pytest.mark.parametrize("name", ["key_rate_limit", "tenant_rate_limit"])
def test_what_is_no_rate_is_refused(name: str, rate: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name.upper()}: it is no rate; one looks like 600/minute"):
        Settings(**{name: rate})


def test_where_requests_are_counted_is_kept_secret() -> None:
    settings = Settings(key_rate_limit="600/minute", rate_limit_storage="rediss://:s3cret@cache.example:6379/0")
    assert "s3cret" not in repr(settings)
    with pytest.raises(ConfigurationError, match=r"^RATE_LIMIT_STORAGE: it is memory, or") as caught:
        Settings(rate_limit_storage="http://:s3cret@cache.example")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("host", ["http://agents.example", "agents.example:8000", "a b", "*agents.example", "*.*"])
def test_a_host_that_no_request_could_name_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^ALLOWED_HOSTS: "):
        Settings(_env_file=None, allowed_hosts=(host,))


def test_hosts_are_names_names_below_a_name_and_addresses() -> None:
    hosts = ("agents.example", "*.agents.example", "10.0.0.1", "[::1]", "*")
    assert Settings(_env_file=None, allowed_hosts=hosts).allowed_hosts == hosts


def test_metrics_have_another_port_or_none() -> None:
    with pytest.raises(ConfigurationError, match="METRICS_PORT"):
        Settings(_env_file=None, port=8000, metrics_port=8000)
