from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from app.errors import ConfigurationError
from app.llm.providers.access import Timeouts
from app.llm.providers.circuit import COOL_DOWN_S, FAILURES_TO_OPEN
from app.llm.providers.names import FAMILIES, MOCK, parse_model_name
from app.llm.providers.opening import open_model

NAMES = [
    "mock",
    "openai:gpt-5-mini",
    "openai-responses:gpt-5",
    "anthropic:claude-sonnet-5",
    "google:gemini-2.5-flash",
    "vercel:anthropic/claude-sonnet-5",
    "ollama:llama3.2:1b",
    "openai-compatible:HuggingFaceTB/SmolLM2-135M",
]


@pytest.mark.parametrize("text", NAMES)
def test_a_name_is_read_and_written(text: str) -> None:
    assert str(parse_model_name(f" {text}\n")) == text


def test_every_family_has_a_name_here() -> None:
    assert {parse_model_name(text).family.prefix for text in NAMES} == set(FAMILIES)
    assert parse_model_name("mock").family is MOCK


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gpt-5-mini",
        "openai",
        "openai:",
        "OpenAI:gpt-5",
        "mock:x",
        "mock:",
        "bedrock:claude",
        "openai: gpt",
        "openai:a b",
        "openai:ä",
        "openai:" + "x" * 201,
        "vercel:gpt-5",
        "vercel:/gpt-5",
        "vercel:openai/",
        "__import__('os').system('true')",
    ],
)
def test_a_bad_name_is_one_line_that_lists_the_forms(text: str) -> None:
    if text == "mock:":
        assert parse_model_name(text).family is MOCK
        return
    with pytest.raises(ConfigurationError) as caught:
        parse_model_name(text)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 400
    assert all(family.form in line for family in FAMILIES.values())


@pytest.mark.parametrize("name", [name for name in NAMES if parse_model_name(name).family.needs_key])
def test_a_missing_key_is_one_line_that_names_the_variables(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_model(name, environ={})
    assert all(variable in str(caught.value) for variable in ("LLM_API_KEY", *parse_model_name(name).family.keys))


def test_the_key_may_stand_in_the_family_s_own_variable() -> None:
    assert (
        open_model("google:gemini-2.5-pro", environ={"GEMINI_API_KEY": "k"}).card.name == "google:gemini-2.5-pro"
    )
    with pytest.raises(ConfigurationError):
        open_model("google:gemini-2.5-pro", environ={"OPENAI_API_KEY": "k", "GOOGLE_API_KEY": ""})


@pytest.mark.parametrize("key", ["a\nb", "käse", "a\x00"])
def test_a_key_that_is_none_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_model("openai:gpt-5", api_key=key)
    assert key not in str(caught.value)


def test_a_local_server_needs_an_address_and_no_key() -> None:
    with pytest.raises(ConfigurationError, match="LLM_BASE_URL"):
        open_model("openai-compatible:x", environ={})
    assert open_model("openai-compatible:x", base_url="http://127.0.0.1:8080/v1", environ={}).card.pricing is None
    assert open_model("ollama:llama3.2", environ={}).card.provider == "ollama"


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8080",
        "ftp://host/v1",
        "http://",
        "http://user:hidden@host/v1",
        "http://host/v1?key=hidden",
        "http://host:hidden/v1",
        "http://[hidden/v1",
        "file:///hidden",
    ],
)
def test_a_bad_address_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_model("openai-compatible:x", base_url=url, environ={})
    assert "hidden" not in str(caught.value)
    assert "LLM_BASE_URL" in str(caught.value)
    assert "as http://127.0.0.1:8000/v1" in str(caught.value)


@pytest.mark.parametrize("key", ["sk-12345", " sk-proj-" + "x" * 50, "AIza" + "y" * 30])
def test_a_key_in_the_place_of_a_name_is_not_shown(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_model_name(key)
    assert str(caught.value).startswith(f"'{key.strip()[:3]}…' names no model")


def test_the_mock_is_not_opened_here() -> None:
    with pytest.raises(ConfigurationError, match="MockLLMClient"):
        open_model("mock")


def _python(code: str) -> str:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


HEAVY = ["pydantic_ai", "openai", "anthropic", "google", "genai_prices", "httpx2", "httpx", "pydantic"]


def test_names_openings_and_circuits_load_no_library() -> None:
    code = f"""
import sys
import app.llm.providers.names, app.llm.providers.opening, app.llm.providers.circuit
print([name for name in {HEAVY} if name in sys.modules])
"""
    assert _python(code) == "[]"


def test_a_missing_extra_is_one_line_that_names_what_to_install() -> None:
    code = f"""
import sys
for name in {HEAVY}:
    sys.modules[name] = None
from app.errors import MissingExtraError
from app.llm.providers.opening import open_model
for name in {[name for name in NAMES if name != "mock"]}:
    try:
        open_model(name, api_key="k", base_url="http://127.0.0.1:1/v1")
    except MissingExtraError as error:
        print(error)
"""
    lines = _python(code).splitlines()
    extras = ["openai", "openai", "anthropic", "google", "openai", "openai", "openai"]
    assert [line.rpartition(" ")[2] for line in lines] == extras
    assert all("uv sync --extra" in line for line in lines)


def test_an_extra_of_one_provider_is_not_that_of_another() -> None:
    code = """
import sys
sys.modules["anthropic"] = sys.modules["google.genai"] = None
from app.errors import MissingExtraError
from app.llm.providers.opening import open_model
open_model("openai:gpt-5", api_key="k")
for name in ("anthropic:claude", "google:gemini"):
    try:
        open_model(name, api_key="k")
    except MissingExtraError as error:
        print(error)
"""
    first, second = _python(code).splitlines()
    assert first.endswith("uv sync --extra anthropic")
    assert second.endswith("uv sync --extra google")


def test_the_document_says_what_each_family_needs_and_how_long_is_waited() -> None:
    text = (Path(__file__).parents[3] / "docs/providers.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(" `"): line for line in text.splitlines() if line.startswith("| `")}
    for family in FAMILIES.values():
        row = rows[family.form]
        assert all(f"`{variable}`" in row for variable in family.keys)
        assert not family.extra or f"`uv sync --extra {family.extra}`" in row
    for seconds in msgspec.structs.astuple(Timeouts()):
        assert f"| {seconds:g} s |" in text
    assert f"is not asked for {COOL_DOWN_S:g} s" in text
    assert FAILURES_TO_OPEN == 5
    assert "After five outages" in text
