"""Small honest stand-ins: a scripted model and tools that do one thing each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from app.llm.interface import LLMRequest, LLMResponse, ToolCall


class ScriptedModel:
    """Gives its replies in order, and remembers what it was asked."""

    is_free = False

    def __init__(self, *replies: object) -> None:
        self._replies = list(replies)
        self.requests: list[LLMRequest] = []
        self.seen: list[list[object]] = []

    async def complete(self, request: LLMRequest) -> Any:
        self.requests.append(request)
        self.seen.append(list(request.messages))
        reply = self._replies[min(len(self.requests), len(self._replies)) - 1]
        if isinstance(reply, BaseException):
            raise reply
        return reply


def call(name: str, **arguments: Any) -> LLMResponse:
    return LLMResponse(tool_calls=(ToolCall(name, arguments),))


def calls(*wanted: tuple[str, dict[str, Any]]) -> LLMResponse:
    return LLMResponse(tool_calls=tuple(ToolCall(name, arguments) for name, arguments in wanted))


def answer(text: str = "done") -> LLMResponse:
    return LLMResponse(content=text)


class FakeTool:
    """A tool around any function of its input."""

    description = "Does what the test says."

    def __init__(
        self,
        run: Callable[[dict[str, Any]], Any] = lambda given: {"ok": True},
        name: str = "probe",
        input_schema: dict[str, Any] | None = None,
        **attributes: Any,
    ) -> None:
        self.name = name
        self.input_schema = {"type": "object"} if input_schema is None else input_schema
        self.run = run
        for key, value in attributes.items():
            setattr(self, key, value)


def kinds(events: Sequence[object]) -> list[str]:
    return [type(event).__name__ for event in events]
