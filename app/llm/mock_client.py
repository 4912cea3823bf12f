"""The default model, `mock` by name: a deterministic planner that needs no network and guesses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import assert_never

from ..jsonvalue import JsonObject
from .interface import LLMRequest, LLMResponse, ModelCard, ToolCall, ToolMessage, ToolSpec, UserMessage
from .offline.answers import sentence, short_form
from .offline.compile import compile_goal
from .offline.notes import text_in_context
from .offline.program import Calculation, NoteAddition, NoteReading, Program, Search, Step, Template
from .prompted import NO_TOOLS, read_prompt

MAX_CACHED_CHARS = 2_000

_compile_short_goal = lru_cache(maxsize=512)(compile_goal)


class MockLLMClient:
    """Plans with a small grammar instead of a network. It keeps nothing: its place is read from the messages."""

    name = "mock"
    card = ModelCard("mock", "mock")
    quick = True
    is_free = True

    async def complete(self, request: LLMRequest) -> LLMResponse:
        return self.decide(request)

    def generate(self, prompt: str, system_prompt: str = "") -> LLMResponse:
        """Return the next decision for a prompt that `PromptedClient` wrote, or the first one for a bare goal.

        A bare goal is planned as if all three built-in tools were at hand.
        """
        request = read_prompt(prompt, system_prompt)
        if not request.tools and NO_TOOLS not in system_prompt:
            request = LLMRequest(system_prompt, request.messages, _ALL_TOOLS)
        return self.decide(request)

    def decide(self, request: LLMRequest) -> LLMResponse:
        """Return the next call of the goal's program, its answer, or why it cannot be carried out."""
        messages = request.messages
        asked = messages[0]
        assert isinstance(asked, UserMessage)
        program = _program(asked)
        if program.refusal:
            return _declined(program.refusal)
        results = [message for message in messages if type(message) is ToolMessage] if len(messages) > 1 else []
        if results and results[-1].error is not None:
            return _failed(program, results)
        if len(results) >= len(program.steps):
            return LLMResponse("\n".join(_sentences(program, results)), model="mock")
        call = _call(program.steps[len(results)], program, results)
        if any(tool.name == call.name for tool in request.tools):
            return LLMResponse(tool_calls=(call,), model="mock")
        return _declined(
            f"This needs the tool {call.name}, which this run does not have.", _sentences(program, results)
        )


def _program(asked: UserMessage) -> Program:
    text = text_in_context(asked.context) if asked.context else ""
    compile_ = compile_goal if len(asked.goal) + len(text) >= MAX_CACHED_CHARS else _compile_short_goal
    return compile_(asked.goal, text)


def _call(step: Step, program: Program, results: Sequence[ToolMessage]) -> ToolCall:
    match step:
        case Calculation():
            return ToolCall("math", {"expression": _filled(step.expression, program, results, in_expression=True)})
        case Search():
            return ToolCall("web_search", {"query": _filled(step.query, program, results)})
        case NoteAddition():
            note = _filled(step.text, program, results)
            return ToolCall("governance_note", {"action": "add", "proposal_id": step.proposal_id, "note": note})
        case NoteReading():
            return ToolCall("governance_note", {"action": "list", "proposal_id": step.proposal_id})
        case _:
            assert_never(step)


def _filled(
    template: Template, program: Program, results: Sequence[ToolMessage], *, in_expression: bool = False
) -> str:
    parts = []
    for part in template:
        if isinstance(part, int):
            text = short_form(program.steps[part], _output(results[part]))
            parts.append(f"({text})" if in_expression and text.startswith("-") else text)
        else:
            parts.append(part)
    return "".join(parts)


def _output(result: ToolMessage) -> JsonObject:
    return result.output if isinstance(result.output, dict) else {}


def _sentences(program: Program, results: Sequence[ToolMessage]) -> list[str]:
    done = zip(program.steps, results, strict=False)
    return [sentence(step, _output(result)) for step, result in done if result.error is None]


def _failed(program: Program, results: Sequence[ToolMessage]) -> LLMResponse:
    """Decline after a failed step."""
    code, _, reason = str(results[-1].error).partition(": ")
    return _declined(f"The {results[-1].name} tool failed: {reason or code}", _sentences(program, results))


def _declined(reason: str, done: Sequence[str] = ()) -> LLMResponse:
    told = f"{reason}\nDone before that:\n" + "\n".join(done) if done else reason
    return LLMResponse(told, declined=True, model="mock")


_ALL_TOOLS = tuple(ToolSpec(name, "", {}) for name in ("math", "web_search", "governance_note"))
