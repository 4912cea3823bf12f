from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from app.agent.context import UNKNOWN_SIZE, Conversation
from app.errors import ModelResponseError
from app.jsonvalue import JsonObject
from app.llm.decisions import DecisionClient
from app.llm.interface import (
    AssistantMessage,
    CorrectionMessage,
    LLMRequest,
    LLMResponse,
    Message,
    ModelCard,
    TextDelta,
    ToolCall,
    ToolMessage,
    ToolSpec,
    Usage,
    UserMessage,
)
from app.llm.prompted import PromptedClient


class Follower:
    """A model that follows a schema, and keeps what it was asked."""

    card = ModelCard("follower")

    def __init__(self, content: str) -> None:
        self._content = content
        self.requests: list[LLMRequest] = []

    async def complete(self, request: LLMRequest) -> LLMResponse:
        self.requests.append(request)
        return LLMResponse(self._content, usage=Usage(10, 5))

    async def stream(self, request: LLMRequest) -> AsyncGenerator[TextDelta | LLMResponse, None]:
        yield await self.complete(request)


class Writer:
    """A client of nothing but text that keeps what it was asked."""

    quick = True

    def __init__(self, content: str) -> None:
        self._content = content
        self.asked = ""

    def generate(self, prompt: str, system_prompt: str = "") -> LLMResponse:
        self.asked = system_prompt + prompt
        return LLMResponse(self._content, usage=Usage(10, 5))


def size_of(request: LLMRequest) -> int:
    """Return how many bytes of text a provider's client is given."""
    [asked] = request.messages
    assert isinstance(asked, UserMessage)
    assert not request.tools
    schema = json.dumps(request.output_schema, ensure_ascii=False, separators=(",", ":"))
    return len((request.system + asked.goal + schema).encode())


def request_with(text: str, schema: JsonObject | None, *, tools: int = 3, results: int = 3) -> LLMRequest:
    given: JsonObject = {"type": "object", "properties": {text: {"const": text}}, "default": {"n": [2**60] * 50}}
    messages: list[Message] = [UserMessage(text, text)]
    for _ in range(results):
        messages.append(AssistantMessage(text, (ToolCall("probe", {"text": text, "n": [2**60] * 50}),)))
        messages.append(ToolMessage("probe", {"text": text, "n": [2**60] * 50}))
        messages.append(CorrectionMessage(text))
    return LLMRequest(text, messages, [ToolSpec(f"probe{n}", text, given) for n in range(tools)], None, schema)


def counted(request: LLMRequest) -> int:
    made = Conversation(request.system, request.tools, request.output_schema)
    made.follow(request.messages, 0)
    return made.most_tokens(UNKNOWN_SIZE)


HOSTILE = ["", "x", "Привет, мир " * 300, '"\\' * 1_000, "\x01\x1f" * 1_000, "語🙂" * 1_000, "\n\t" * 1_000, "1e5"]
SCHEMAS: list[JsonObject | None] = [None, {"enum": ["Привет" * 300, '"' * 500, "\x01" * 500, 1e20, 2**60]}]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize(("tools", "results"), [(0, 0), (3, 3), (40, 0)])
async def test_no_client_hands_on_more_bytes_than_were_counted(
    text: str, schema: JsonObject | None, tools: int, results: int
) -> None:
    request = request_with(text, schema, tools=tools, results=results)
    writer, follower = Writer("done"), Follower("done")
    await PromptedClient(writer).complete(request)
    await DecisionClient(follower).complete(request)
    assert len(writer.asked.encode()) <= counted(request)
    assert size_of(follower.requests[0]) <= counted(request)


async def test_other_scripts_are_told_as_they_are() -> None:
    writer, follower = Writer("done"), Follower("done")
    request = request_with("Привет", {"const": "語"})
    await PromptedClient(writer).complete(request)
    await DecisionClient(follower).complete(request)
    assert "\\u" not in writer.asked + follower.requests[0].system
    assert '{"const":"語"}' in writer.asked


@pytest.mark.parametrize("reply", ["", "{", '{"tool": 1}', 'I say {"tool": "probe"}.'])
@pytest.mark.parametrize(
    "client", [lambda text: PromptedClient(Writer(text)), lambda text: DecisionClient(Follower(text))]
)
async def test_a_reply_that_is_no_decision_tells_what_it_took(client: Any, reply: str) -> None:
    with pytest.raises(ModelResponseError) as refused:
        await client(reply).complete(LLMRequest("", [UserMessage("go")], ()))
    assert refused.value.usage == Usage(10, 5)


async def test_a_decision_is_asked_for_by_a_schema_and_read_as_a_call() -> None:
    follower = Follower('{"tool": "probe", "input": {"x": 1}}')
    tool = ToolSpec("probe", "Does it.", {"type": "object", "required": ["x"]})
    response = await DecisionClient(follower).complete(LLMRequest("", [UserMessage("go")], [tool]))
    assert response.tool_calls == (ToolCall("probe", {"x": 1}),)
    schema: Any = follower.requests[0].output_schema
    assert [list(move["properties"]) for move in schema["anyOf"]] == [["tool", "input"], ["answer"]]
    assert schema["anyOf"][0]["properties"]["input"] == tool.input_schema


async def test_half_a_decision_is_shown_to_nobody() -> None:
    client = DecisionClient(Follower('{"answer": "done"}'))
    pieces = [piece async for piece in client.stream(LLMRequest("", [UserMessage("go")], ()))]
    assert [piece.content for piece in pieces if isinstance(piece, LLMResponse)] == ["done"]
    assert len(pieces) == 1
