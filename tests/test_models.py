"""The models that settings name: what has to be there at start-up, whose key goes where, what a process asks."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from llmock.scenarios import Reply
from llmock.testing import LLMockServer

from app.bootstrap import build_services, models, open_runs
from app.bootstrap.models import KEY_VARIABLES, Models, NamedModel
from app.config import Settings
from app.errors import (
    ConfigurationError,
    LLMUnavailableError,
    MissingExtraError,
    UnknownModelError,
    UnpricedModelError,
)
from app.llm.interface import LLMRequest, LLMResponse, Usage, UserMessage
from app.llm.mock_client import MockLLMClient
from app.llm.providers.circuit import FAILURES_TO_OPEN, Circuit, Circuits
from app.runs.models import FinishedRun, RunRequest

sys.path.insert(0, str(Path(__file__).parent / "llm/providers"))

from wire import open_wire

REQUEST = LLMRequest("system", [UserMessage("2+2", None)], [])
GPT = "openai:gpt-5-mini"


def opened(*, executes: bool = True, **settings: Any) -> Models:
    return Models(Settings(_env_file=None, **settings), llm_client=None, executes=executes)


def test_the_default_is_the_offline_planner_and_loads_no_library(tmp_path: Path) -> None:
    code = (
        "import sys; from app.bootstrap import build_services; from app.config import Settings\n"
        "services = build_services(Settings(_env_file=None)); print(type(services.models.client).__name__)\n"
        "print(sorted({'pydantic_ai', 'openai', 'anthropic', 'httpx2', 'genai_prices'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"DATA_DIR": str(tmp_path)}
    )
    assert ran.stdout == "MockLLMClient\n[]\n"


def test_each_key_of_a_provider_is_a_setting() -> None:
    assert {variable.lower() for variable in KEY_VARIABLES} < set(Settings.model_fields)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"llm_model": GPT}, f"LLM_MODEL: {GPT} needs a key: set LLM_API_KEY or OPENAI_API_KEY"),
        (
            {"llm_models": GPT},
            f"LLM_MODELS: {GPT} needs a key: set OPENAI_API_KEY (LLM_API_KEY is for LLM_MODEL's family)",
        ),
        (
            {"llm_model": GPT, "llm_api_key": "sk-secret", "llm_fallbacks": "anthropic:claude-sonnet-5"},
            (
                "LLM_FALLBACKS: anthropic:claude-sonnet-5 needs a key: set ANTHROPIC_API_KEY "
                "(LLM_API_KEY is for LLM_MODEL's family)"
            ),
        ),
        (
            {"llm_model": "openai-compatible:m", "llm_api_key": "sk-secret"},
            "LLM_MODEL: openai-compatible:m needs the server's address: set LLM_BASE_URL, as http://127.0.0.1:8000/v1",
        ),
        (
            {"llm_fallbacks": "openai-compatible:m", "llm_base_url": "http://127.0.0.1:1/v1"},
            (
                "LLM_FALLBACKS: openai-compatible:m needs the server's address, and LLM_BASE_URL is for "
                "LLM_MODEL's family; make an openai-compatible model LLM_MODEL"
            ),
        ),
    ],
)
def test_what_is_missing_is_one_line_at_start_up(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        build_services(Settings(_env_file=None, data_dir=tmp_path / "data", **settings))
    assert str(raised.value) == said
    assert not (tmp_path / "data").exists()


def test_a_missing_key_ends_the_command_with_one_line(tmp_path: Path) -> None:
    environment = {"DATA_DIR": str(tmp_path / "data"), "LLM_MODEL": GPT}
    code = "import sys; from app.cli import main; sys.exit(main(sys.argv[1:]))"
    for command in (("serve",), ("run", "Calculate 2+2")):
        ran = subprocess.run(
            [sys.executable, "-c", code, *command], capture_output=True, text=True, env=environment, check=False
        )
        assert (ran.returncode, ran.stdout) == (2, "")
        assert ran.stderr == f"llm-agent-core: LLM_MODEL: {GPT} needs a key: set LLM_API_KEY or OPENAI_API_KEY\n"


def test_a_missing_package_is_one_line_at_start_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)
    monkeypatch.delitem(sys.modules, "app.llm.providers.client", raising=False)
    monkeypatch.setitem(sys.modules, "pydantic_ai.direct", None)
    for executes in (True, False):
        with pytest.raises(MissingExtraError, match=r"^LLM_MODEL: openai:gpt-5-mini .*uv sync --extra openai$"):
            opened(llm_model=GPT, openai_api_key="sk-1", executes=executes)


class Recorder:
    """Opens nothing, and remembers with what it was to be opened."""

    def __init__(self) -> None:
        self.asked: dict[str, tuple[str | None, str | None]] = {}

    def __call__(self, name: Any, *, base_url: str | None, api_key: str | None, **_: Any) -> NamedModel:
        self.asked[str(name)] = (base_url, api_key)
        return NamedModel(models._card(name))


def test_a_key_goes_to_no_other_family(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(models, "open_model", recorder)
    opened(
        llm_model="openai-compatible:a",
        llm_base_url="http://127.0.0.1:1/v1",
        llm_api_key="sk-mine",
        llm_fallbacks=f"openai-compatible:b,{GPT},openai-compatible:b",
        llm_models="ollama:c,mock",
        openai_api_key="sk-openai",
    )
    own = ("http://127.0.0.1:1/v1", "sk-mine")
    assert recorder.asked == {
        "openai-compatible:a": own,
        "openai-compatible:b": own,
        GPT: (None, None),
        "ollama:c": (None, None),
    }


async def test_the_keys_in_a_file_are_sent_to_their_provider(tmp_path: Path) -> None:
    async with open_wire() as wire:
        lines = f"LLM_MODEL={GPT}\nOPENAI_API_KEY=sk-from-file\nLLM_BASE_URL={wire.url}\n"
        (tmp_path / ".env").write_text(lines, encoding="utf-8")
        found = Models(Settings(_env_file=tmp_path / ".env"), llm_client=None, executes=True)
        said = await found.client.complete(REQUEST)  # type: ignore[union-attr]
        assert isinstance(said, LLMResponse)
        assert wire.header("Authorization") == "Bearer sk-from-file"
        await found.aclose()
        await wire.gone.wait()


def test_what_a_run_may_ask_for_is_the_models_of_the_settings(tmp_path: Path) -> None:
    settings = Settings(
        _env_file=None,
        data_dir=tmp_path,
        openai_api_key="sk-1",
        llm_model="openai:gpt-5",
        llm_models=f"mock,{GPT}",
        llm_fallbacks="openai:gpt-4.1",
    )
    services = build_services(settings)
    assert services.models.names == ("openai:gpt-5", "mock", GPT)
    assert isinstance(services.models.by_name["mock"], MockLLMClient)
    for name in services.models.names:
        assert services.agent.opening("go", model=name).model == name
    with pytest.raises(UnknownModelError):
        services.agent.opening("go", model="openai:gpt-4.1")


def test_a_given_client_takes_the_place_of_the_named_one() -> None:
    given = MockLLMClient()
    settings = Settings(_env_file=None, llm_model=GPT)
    found = Models(settings, llm_client=given, executes=True)  # and needs no key
    assert (found.client, dict(found.by_name)) == (given, {})


async def test_a_process_that_executes_nothing_needs_no_keys_but_knows_names_and_prices() -> None:
    found = opened(llm_model=GPT, llm_models="openai-compatible:m,mock", executes=False)
    client = found.client
    assert isinstance(client, NamedModel)
    assert client.card.name == GPT
    assert client.card.pricing is not None
    assert client.card.pricing.cost(Usage(1_000_000, 0)) > 0
    unpriced = found.by_name["openai-compatible:m"]
    assert isinstance(unpriced, NamedModel)
    assert unpriced.card.pricing is None
    with pytest.raises(LLMUnavailableError, match="carries out no runs"):
        await client.complete(REQUEST)


def test_an_unknown_price_is_told_at_start_up_where_every_run_would_need_it(tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "_env_file": None,
        "data_dir": tmp_path,
        "llm_model": "openai-compatible:m",
        "llm_base_url": "http://127.0.0.1:1/v1",
        "max_cost_usd": "0.5",
    }
    with pytest.raises(ConfigurationError, match=r"^MAX_COST_USD: .*openai-compatible:m.*ALLOW_UNKNOWN_PRICES"):
        build_services(Settings(**asked))
    services = build_services(Settings(**asked, allow_unknown_prices=True))
    assert services.agent.opening("go").model is None
    without = build_services(Settings(**{**asked, "max_cost_usd": None}))
    with pytest.raises(UnpricedModelError):
        without.agent.opening("go", max_cost=1)


async def test_each_model_is_behind_a_circuit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "Circuits", partial(Circuits, partial(Circuit, outage_s=0.0)))
    found = opened(
        llm_model="openai-compatible:a", llm_base_url="http://127.0.0.1:9/v1", llm_models="openai-compatible:b"
    )
    client: Any = found.client
    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(LLMUnavailableError, match="cannot be reached"):
            await client.complete(REQUEST)
    with pytest.raises(LLMUnavailableError, match=r"^openai-compatible:a was not asked.*cannot be reached"):
        await client.complete(REQUEST)
    other: Any = found.by_name["openai-compatible:b"]
    with pytest.raises(LLMUnavailableError, match=r"^openai-compatible cannot be reached"):
        await other.complete(REQUEST)
    await found.aclose()


def test_the_loop_leaves_a_client_the_time_to_end_its_call_itself(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path, llm_model=GPT, llm_api_key="sk-1", llm_timeout_s=7.0)
    candidate = build_services(settings).agent._models.line_up(None).candidates[0]
    assert candidate.call_seconds == 8.0


async def test_a_run_asks_the_model_of_the_settings_and_shows_what_that_took(tmp_path: Path) -> None:
    with LLMockServer() as server:
        server.state.scenarios.add(Reply(text="Four."))
        settings = Settings(
            _env_file=None,
            data_dir=tmp_path,
            llm_model=GPT,
            llm_api_key="sk-1",
            llm_base_url=server.base_url("openai"),
        )
        async with open_runs(settings) as runs:
            done = await runs.run_task("What is 2+2?", max_tokens=100_000, max_cost_usd=1.0)
            assert isinstance(done, FinishedRun)
            assert (done.status, done.output) == ("success", "Four.")
            run = await runs.get(done.run_id)
            later = await runs.submit(RunRequest("again", model=GPT))
            assert (await runs.wait(later.run_id, 10)).model == GPT
    assert (run.used.calls, run.used.unpriced_calls) == (1, 0)
    assert min(run.used.input_tokens, run.used.output_tokens, run.used.cost) > 0


async def test_a_model_that_calls_no_tools_decides_in_json(tmp_path: Path) -> None:
    with LLMockServer() as server:
        server.state.scenarios.add(Reply(text='{"tool": "math", "input": {"expression": "6*7"}}'))
        server.state.scenarios.add(Reply(text='{"answer": "It is 42."}'))
        settings = Settings(
            _env_file=None,
            data_dir=tmp_path,
            llm_model="openai-compatible:small",
            llm_base_url=server.base_url("openai"),
            llm_tool_calling="json",
        )
        async with open_runs(settings) as runs:
            done = await runs.run_task("What is 6*7?")
    assert isinstance(done, FinishedRun)
    assert (done.status, done.output, [step.tool for step in done.trace]) == ("success", "It is 42.", ["math"])
