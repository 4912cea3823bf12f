"""The provider library's response as ours: what the model says is checked before anybody acts on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NoReturn

from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.usage import RequestUsage

from ...errors import LLMBadResponseError, LLMRefusedError, ModelResponseError
from ...jsonvalue import JsonObject, is_blank
from ..interface import LLMResponse, ToolCall, ToolSpec, Usage

_MADE_UP_ID: Final = "pyd_ai_"
"""How the library begins an id, random, where the provider gave none."""

_NO_END: Final = (None, "", "OTHER", "FINISH_REASON_UNSPECIFIED", "in_progress", "queued", "incomplete")
"""A provider's own finish reasons, of those that the library knows no word for, that say nothing of an end."""

_BAD_CALLS: Final = ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL")
"""Google's words for what other providers send on as it is."""

_SHOWN_CHARS: Final = 200


def read_response(response: ModelResponse, tools: Sequence[ToolSpec] = ()) -> LLMResponse:
    """Return text, calls and usage; what the model thought on the way is dropped. `tools` were offered.

    The calls decide, not the finish reason: servers send calls under "stop".

    Raises:
        ModelResponseError: the model has to mend it: arguments that are no JSON object, a call that was cut off,
            nothing said at all. Its `usage` is what the answer took all the same.
        LLMRefusedError: a content filter stopped the answer.
        LLMBadResponseError: the answer broke off, for it has no finish reason.
    """
    usage = _read_usage(response.usage)
    try:
        return _read(response, tools, usage)
    except ModelResponseError as error:
        error.usage = usage
        raise


def _read(response: ModelResponse, tools: Sequence[ToolSpec], usage: Usage | None) -> LLMResponse:
    text = "".join([part.content for part in response.parts if isinstance(part, TextPart)])
    calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
    _check_finish(response)
    if response.finish_reason == "length" and calls:
        raise ModelResponseError(
            "The reply was cut off at its limit of tokens, so its tool calls may be incomplete. Be shorter."
        )
    if not calls and is_blank(text):
        _refuse_empty(response.finish_reason)
    return LLMResponse(
        content=text,
        tool_calls=tuple([_read_call(part, tools) for part in calls]),
        usage=usage,
        model=response.model_name,
        finish_reason=response.finish_reason,
    )


def _check_finish(response: ModelResponse) -> None:
    reason = response.finish_reason
    own_reason = (response.provider_details or {}).get("finish_reason")
    if response.state != "complete" or (reason is None and own_reason in _NO_END):
        raise LLMBadResponseError("The answer broke off: it ended without a finish reason.")
    if reason == "content_filter":
        raise LLMRefusedError("The provider's content filter stopped the answer.")
    if own_reason in _BAD_CALLS:
        raise ModelResponseError("The tool call could not be read. Call a tool that you have with a JSON object.")
    if reason == "error":
        raise LLMBadResponseError("The provider ended the answer with an error.")


def _refuse_empty(reason: str | None) -> NoReturn:
    if reason == "length":
        raise ModelResponseError("The reply reached its limit of tokens before it said anything. Think less.")
    raise ModelResponseError("The reply was empty: neither a tool call nor an answer.")


def _read_call(part: ToolCallPart, tools: Sequence[ToolSpec]) -> ToolCall:
    call_id = "" if part.tool_call_id.startswith(_MADE_UP_ID) else part.tool_call_id
    arguments = _read_arguments(part)
    if not arguments and any(tool.name == part.tool_name and tool.input_schema.get("required") for tool in tools):
        # what Google makes of arguments that are no JSON, and other servers too
        raise ModelResponseError(
            f"The call of {part.tool_name!r} has no arguments, or none that could be read. Call it with them."
        )
    return ToolCall(part.tool_name, arguments, call_id)


def _read_arguments(part: ToolCallPart) -> JsonObject:
    arguments = part.args
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        return {}  # a tool without parameters is often called without arguments
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):
            arguments = json.loads(arguments)
    if not isinstance(arguments, dict):
        raise ModelResponseError(
            f"The arguments of the call of {part.tool_name[:_SHOWN_CHARS]!r} are not a JSON object: "
            f"{str(part.args)[:_SHOWN_CHARS]!r}. Call it again with one."
        )
    return arguments


def _read_usage(usage: RequestUsage) -> Usage | None:
    """None if the provider said nothing of tokens: unknown, not zero."""
    if not usage.input_tokens and not usage.output_tokens:
        return None
    return Usage(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens)
