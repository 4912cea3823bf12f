"""Tool calling for models that cannot: each decision is asked for as JSON of a schema, and read as calls."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Final

from msgspec.structs import replace

from ..jsonvalue import JsonObject, JsonValue
from .interface import LLMRequest, LLMResponse, ModelCard, NamedClient, TextDelta, ToolSpec, UserMessage
from .prompted import HOW_TO_ANSWER, read_decision, render, tools_text

_ANSWER: Final[JsonObject] = {"type": "string", "minLength": 1}


class DecisionClient:
    """A client over one whose model follows a JSON schema and knows no tools, as small models at home do.

    The tools stand in the prompt, and the model can say nothing but a call of one of them with arguments of its
    schema, or an answer. What it says while it speaks is half a decision, so nobody is shown it.
    """

    def __init__(self, client: NamedClient) -> None:
        self._client = client

    @property
    def card(self) -> ModelCard:
        return self._client.card

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """Ask for one decision; raises what the client does, and ModelResponseError if it is none."""
        return read_decision(await self._client.complete(_asking_for_json(request)))

    async def stream(self, request: LLMRequest) -> AsyncGenerator[TextDelta | LLMResponse, None]:
        yield await self.complete(request)


def _asking_for_json(request: LLMRequest) -> LLMRequest:
    prompt = "\n".join(render(message) for message in request.messages)
    return replace(
        request,
        system=f"{request.system}\n\n{tools_text(request.tools)}\n\n{HOW_TO_ANSWER}",
        messages=(UserMessage(prompt),),
        tools=(),
        output_schema=decision_schema(request.tools, request.output_schema),
    )


def decision_schema(tools: Sequence[ToolSpec], answer: JsonObject | None = None) -> JsonObject:
    """Return the schema of a decision: a call of one of the tools, or an answer, which may have a schema too."""
    moves: list[JsonValue] = [
        _object({"tool": {"const": tool.name}, "input": tool.input_schema or {"type": "object"}}) for tool in tools
    ]
    moves.append(_object({"answer": answer or _ANSWER}))
    return {"type": "object", "anyOf": moves}


def _object(members: JsonObject) -> JsonObject:
    return {
        "type": "object",
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }
