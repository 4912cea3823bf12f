"""A run of the mock client for tests: real arithmetic, a search that always finds three pages, notes in a dict."""

from __future__ import annotations

from typing import Any, NamedTuple

from app.errors import ToolRejected
from app.llm.interface import AssistantMessage, LLMRequest, Message, ToolCall, ToolMessage, ToolSpec, UserMessage
from app.llm.mock_client import MockLLMClient
from app.tools.math import evaluate

TOOLS = ("math", "web_search", "governance_note")
MAX_TURNS = 40


class Run(NamedTuple):
    """What happened."""

    text: str
    declined: bool
    calls: list[ToolCall]
    outputs: list[dict[str, Any]]
    notes: dict[str, list[str]]

    @property
    def steps(self) -> list[str]:
        return [_brief(call, output) for call, output in zip(self.calls, self.outputs, strict=True)]


def carry_out(
    goal: str,
    context: str | None = None,
    tools: tuple[str, ...] = TOOLS,
    notes: dict[str, list[str]] | None = None,
) -> Run:
    client, specs = MockLLMClient(), [ToolSpec(name, "", {}) for name in tools]
    messages: list[Message] = [UserMessage(goal, context)]
    calls, outputs, stored = [], [], {key: list(value) for key, value in (notes or {}).items()}
    for _ in range(MAX_TURNS):
        response = client.decide(LLMRequest("", messages, specs))
        if not response.tool_calls:
            return Run(response.content, response.declined, calls, outputs, stored)
        (call,) = response.tool_calls
        calls.append(call)
        output, error = _result(call, stored)
        if error is None:
            outputs.append(output)
        messages += [AssistantMessage("", response.tool_calls), ToolMessage(call.name, output or None, error)]
    raise AssertionError("the client does not stop")


def _result(call: ToolCall, notes: dict[str, list[str]]) -> tuple[dict[str, Any], str | None]:
    arguments: dict[str, Any] = call.arguments
    if call.name == "math":
        try:
            return {"result": evaluate(arguments["expression"]), "expression": arguments["expression"]}, None
        except ToolRejected as error:
            return {}, f"{error.code}: {error}"
    if call.name == "web_search":
        results = [{"title": f"Page {number}"} for number in (1, 2, 3)]
        return {"query": arguments["query"], "results": results, "count": 3}, None
    kept = notes.setdefault(arguments["proposal_id"], [])
    if arguments["action"] == "list":
        return {"proposal_id": arguments["proposal_id"], "notes": list(kept)}, None
    kept.append(arguments["note"])
    return {"proposal_id": arguments["proposal_id"], "note": arguments["note"], "count": len(kept)}, None


def _brief(call: ToolCall, output: dict[str, Any]) -> str:
    arguments: dict[str, Any] = call.arguments
    if call.name == "math":
        return f"{arguments['expression']} = {output['result']}"
    if call.name == "web_search":
        return f"search {arguments['query']}"
    if arguments["action"] == "list":
        return f"list {arguments['proposal_id']}"
    return f"add {arguments['proposal_id']}: {arguments['note']}"
