from __future__ import annotations

import asyncio

import pytest
from fakes import FakeTool
from llmock.scenarios import Fail, Reply, StreamFault
from llmock.testing import LLMockServer
from outcomes import (
    ANSWER,
    CALL,
    DOCUMENT,
    FAULTS,
    MODELS,
    OK,
    PROBE,
    Fault,
    Outcomes,
    measure,
    open_client,
    outcome,
    request,
    table,
    written,
)

from app.agent.core import Agent


@pytest.fixture(scope="session")
def outcomes(one_server: LLMockServer) -> Outcomes:
    """All of them, asked once: a fault that keeps the clients waiting does so for all at a time."""
    return asyncio.run(measure(one_server))


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_every_fault_ends_in_the_right_error_or_a_correct_answer(
    outcomes: Outcomes, fault: Fault, model: str, stream: bool
) -> None:
    assert outcomes[fault.name, model, stream] == fault.expected(model, stream=stream)


def test_the_document_shows_what_was_measured(outcomes: Outcomes) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert written(text, table(outcomes)) == text, "run python -m tests.llm.providers"


@pytest.mark.parametrize("kind", ["disconnect", "truncate", "malformed"])
@pytest.mark.parametrize("with_tools", [False, True], ids=["words", "calls"])
@pytest.mark.parametrize("model", MODELS)
async def test_a_stream_that_breaks_anywhere_is_never_taken_for_another_answer(
    server: LLMockServer, model: str, with_tools: bool, kind: str
) -> None:
    client = open_client(server, model)
    ends = []
    for pieces in range(20):
        server.state.scenarios.clear()
        reply = Reply(tool_calls=CALL) if with_tools else Reply(text=ANSWER)
        server.state.scenarios.add(reply, StreamFault(kind, pieces))  # type: ignore[arg-type]
        ends.append(await outcome(client, request(with_tools=with_tools), stream=True))
    await client.aclose()
    broken = "llm_unavailable" if kind == "disconnect" else "llm_bad_response"
    assert set(ends) <= {OK, broken}
    assert ends[0] == broken
    assert ends[-1] == OK or not with_tools


@pytest.mark.parametrize("model", MODELS)
async def test_every_provider_drives_the_loop(server: LLMockServer, model: str) -> None:
    client = open_client(server, model)
    tool = FakeTool(lambda given: {"got": given["x"]}, input_schema=PROBE.input_schema)
    result = await Agent(client, [tool]).arun("Use the probe.", "some context")
    await client.aclose()
    assert result.status == "success"
    assert [(step.tool, step.output, step.error) for step in result.trace] == [("probe", {"got": 1}, None)]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("model", MODELS)
async def test_a_client_asks_once(server: LLMockServer, model: str, stream: bool) -> None:
    server.state.scenarios.add(Fail(503, times=None))
    client = open_client(server, model)
    assert (await outcome(client, request(), stream=stream)).startswith("llm_unavailable")
    await client.aclose()
    assert len(server.state.journal.records(wait=1.0)) == 1
