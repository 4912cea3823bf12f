"""The adapter that lets a client with only `generate` take part: a prompt out, a decision read from text."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, assert_never, cast

import msgspec

from ..blocking import call_in_thread
from ..errors import ModelResponseError
from ..jsonvalue import JsonObject, JsonValue, wire_form
from .interface import (
    AssistantMessage,
    CompletionClient,
    CorrectionMessage,
    LLMClient,
    LLMRequest,
    LLMResponse,
    Message,
    ToolCall,
    ToolMessage,
    ToolSpec,
    UserMessage,
)

HOW_TO_ANSWER = """\
Decide the next move and reply with one JSON value and nothing else:
  to call a tool:    {"tool": "<name>", "input": {...}}
  to call several:   [{"tool": "<name>", "input": {...}}, ...]
  to finish:         {"answer": "<text for the caller>"}"""

NO_TOOLS = "You have no tools."

ANSWER_IN_JSON = "The answer is not text here, but a JSON value that satisfies this JSON Schema:"

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_TOOL = re.compile(r"^- (\S+): (.*) Input schema: (\{.*\})$", re.MULTILINE)

_CALL = re.compile(r'\{\s*"tool"\s*:')

MAX_CONTENT_CHARS = 1_000_000
"""More text than this from a model is refused unread."""


def lift(client: object) -> CompletionClient:
    """Return `client` as something that completes requests; one for each run, since the prompt grows with it."""
    if inspect.iscoroutinefunction(getattr(client, "complete", None)):
        return cast("CompletionClient", client)
    if callable(getattr(client, "generate", None)):
        return PromptedClient(cast("LLMClient", client))
    raise TypeError(
        f"{type(client).__name__} is no LLM client: it needs generate(prompt, system_prompt='') -> LLMResponse."
    )


class PromptedClient:
    """One run's conversation with a generate-only client. Each message is rendered once."""

    def __init__(self, client: LLMClient) -> None:
        self._client = client
        self._rendered: list[str] = []
        self._system = ""

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """Ask with everything so far as one prompt.

        Raises:
            ModelResponseError: the text is neither plain words nor a decision; the message tells the model why.
        """
        if not self._system:
            self._system = f"{request.system}\n\n{tools_text(request.tools)}\n\n{HOW_TO_ANSWER}"
            if request.output_schema is not None:
                self._system += f"\n\n{ANSWER_IN_JSON} {as_json(request.output_schema)}"
        self._rendered.extend(render(message) for message in request.messages[len(self._rendered) :])
        response = await self._generate("\n".join(self._rendered), self._system)
        if not isinstance(response, LLMResponse):
            raise ModelResponseError(f"generate() returned {type(response).__name__}, not an LLMResponse.")
        return response if response.tool_calls else read_decision(response)

    async def _generate(self, prompt: str, system: str) -> object:
        generate = cast("Callable[[str, str], object]", self._client.generate)
        if inspect.iscoroutinefunction(generate) or getattr(self._client, "quick", False) is True:
            response = generate(prompt, system)
        else:
            response = await call_in_thread(lambda text: generate(text, system), prompt)
        return await response if inspect.isawaitable(response) else response


def as_json(value: object) -> str:
    """Return the JSON of what a model is told: no longer than it has to be, for each byte may be a token."""
    return _compact(value)


def tools_text(tools: Sequence[ToolSpec]) -> str:
    """Return what a model is told of its tools, a line each."""
    if not tools:
        return NO_TOOLS
    lines = [f"- {spec.name}: {spec.description} Input schema: {as_json(spec.input_schema)}" for spec in tools]
    return "You have these tools:\n" + "\n".join(lines)


def render(message: Message) -> str:
    """Return one line of JSON for a message: data stays inside its quotes, whatever it says."""
    match message:
        case UserMessage():
            fields: JsonObject = {"goal": message.goal, "context": message.context}
        case AssistantMessage():
            calls = [{"tool": call.name, "input": call.arguments} for call in message.tool_calls]
            fields = {"you_said": message.content, "you_called": cast("JsonValue", calls)}
        case ToolMessage():
            fields = {"result_of": message.name, "output": message.output, "error": message.error}
        case CorrectionMessage():
            fields = {"problem_with_your_reply": message.problem}
        case _:
            assert_never(message)
    return msgspec.json.encode(wire_form(fields)).decode()


def read_prompt(prompt: str, system_prompt: str) -> LLMRequest:
    """Return the request that `PromptedClient` wrote as these two texts; any other prompt is a goal by itself."""
    tools = tuple(ToolSpec(name, text, json.loads(schema)) for name, text, schema in _TOOL.findall(system_prompt))
    try:
        messages: list[Message] = [_read_message(json.loads(line)) for line in prompt.split("\n")]
    except (ValueError, TypeError, KeyError):
        messages = [UserMessage(prompt)]
    return LLMRequest(system_prompt, messages, tools)


def _read_message(fields: dict[str, Any]) -> Message:
    if "goal" in fields:
        return UserMessage(fields["goal"], fields["context"])
    if "you_said" in fields:
        calls = tuple(ToolCall(call["tool"], call["input"]) for call in fields["you_called"])
        return AssistantMessage(fields["you_said"], calls)
    if "result_of" in fields:
        return ToolMessage(fields["result_of"], fields["output"], fields["error"])
    return CorrectionMessage(fields["problem_with_your_reply"])


def read_decision(response: LLMResponse) -> LLMResponse:
    """Read the decision in a response's text.

    Words are the answer. Text that sets out to be JSON (`{`, `[`, or a fenced block) has to be a decision.

    Raises:
        ModelResponseError: it is not. Its `usage` is what the reply took all the same.
    """
    try:
        return _read_decision(response)
    except ModelResponseError as error:
        error.usage = response.usage
        raise


def _read_decision(response: LLMResponse) -> LLMResponse:
    text = str(response.content).strip()
    if not text:
        raise ModelResponseError("The reply was empty.")
    if len(text) > MAX_CONTENT_CHARS:
        raise ModelResponseError(f"The reply has {len(text)} characters; at most {MAX_CONTENT_CHARS} are read.")
    document = _unfence(text)
    if document[:1] not in ("{", "["):
        if _CALL.search(document):
            # not taken as one: it may be a quotation, of a page that somebody else wrote
            raise ModelResponseError("The reply holds a tool call among other words. Reply with the JSON alone.")
        return response
    try:
        value = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise ModelResponseError(f"The reply is not valid JSON: {error}") from error
    if isinstance(value, dict) and "answer" in value:
        answer = value["answer"]
        content = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
        return msgspec.structs.replace(response, content=content)
    calls = value if isinstance(value, list) and value else [value]
    return msgspec.structs.replace(response, content="", tool_calls=tuple(_read_call(call) for call in calls))


def _unfence(text: str) -> str:
    """Return what stands inside a Markdown code fence that wraps the whole text."""
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") + 1 : -3].strip()
    return text


def _read_call(value: object) -> ToolCall:
    if isinstance(value, dict):
        name = value.get("tool", value.get("name"))
        arguments = value.get("input", value.get("arguments", value.get("args", {})))
        if isinstance(arguments, str):  # some models write the arguments as a text of JSON
            with suppress(ValueError, RecursionError):
                arguments = json.loads(arguments)
        if isinstance(name, str) and isinstance(arguments, dict):
            return ToolCall(name, cast("JsonObject", arguments))
    raise ModelResponseError(f"The reply is JSON but no decision.\n{HOW_TO_ANSWER}")
