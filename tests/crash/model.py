"""The scripted model: what it decides is a function of the goal, which is a script, and of the messages so far."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from crash.faults import passage
from crash.ledger import Ledger

from app.jsonvalue import JsonValue
from app.llm.interface import AssistantMessage, LLMRequest, LLMResponse, ToolCall, ToolMessage, UserMessage


def script(nonce: str, *turns: list[dict[str, Any]]) -> str:
    """Return the goal of a run that makes these calls, turn by turn.

    A call is `{"tool": name, ...arguments}`. Each gets an argument `call`, which names it in the ledger for good.
    """
    numbered, number = [], 0
    for turn in turns:
        calls = []
        for call in turn:
            number += 1
            calls.append(_named(call, f"{nonce}/{number}"))
        numbered.append(calls)
    return json.dumps({"nonce": nonce, "turns": numbered})


def _named(call: dict[str, Any], name: str) -> dict[str, Any]:
    arguments = {key: value for key, value in call.items() if key != "tool"}
    if call["tool"] == "governance_note":
        arguments.setdefault("note", name)
    elif call["tool"] != "math":
        arguments["call"] = name
    return {"tool": call["tool"], "arguments": arguments}


def digest(outputs: list[tuple[JsonValue, str | None]]) -> str:
    """Return what the model says of the outputs and errors that it has seen."""
    return sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()


class ScriptedModel:
    """A model that costs something: it is not `is_free`, so no answer of it may be asked for twice."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def complete(self, request: LLMRequest) -> LLMResponse:
        asked = request.messages[0]
        assert isinstance(asked, UserMessage)
        plan = json.loads(asked.goal)
        turn = sum(isinstance(message, AssistantMessage) for message in request.messages)
        passage("model.before")
        self._ledger.add("ask", call=f"{plan['nonce']}/turn{turn + 1}", nonce=plan["nonce"], turn=turn + 1)
        passage("model.after")
        if turn < len(plan["turns"]):
            calls = plan["turns"][turn]
            return LLMResponse(tool_calls=tuple(ToolCall(call["tool"], call["arguments"]) for call in calls))
        seen = [(m.output, m.error) for m in request.messages if isinstance(m, ToolMessage)]
        return LLMResponse(f"done {digest(seen)}")
