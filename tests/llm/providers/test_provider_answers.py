from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai.messages import ModelResponse, ModelResponsePart, TextPart, ThinkingPart, ToolCallPart
from pydantic_ai.usage import RequestUsage

from app.errors import LLMBadResponseError, LLMRefusedError, ModelResponseError
from app.llm.interface import LLMResponse, ToolCall, ToolSpec, Usage
from app.llm.providers.answers import read_response

NEEDY = ToolSpec("probe", "Does it.", {"type": "object", "required": ["x"]})
EASY = ToolSpec("probe", "Does it.", {"type": "object"})


def response(*parts: ModelResponsePart, reason: Any = "stop", **fields: Any) -> ModelResponse:
    return ModelResponse(parts=list(parts), finish_reason=reason, **fields)


def test_text_usage_model_and_reason_are_read_and_thoughts_dropped() -> None:
    usage = RequestUsage(input_tokens=10, output_tokens=5, cache_read_tokens=4, cache_write_tokens=3)
    read = read_response(
        response(ThinkingPart("hmm"), TextPart("Fo"), TextPart("ur."), usage=usage, model_name="m-1")
    )
    assert read == LLMResponse("Four.", (), Usage(10, 5, 4, 3), "m-1", "stop")


def test_tokens_that_nobody_counted_are_unknown() -> None:
    assert read_response(response(TextPart("Four."))).usage is None


@pytest.mark.parametrize("reason", ["stop", "tool_call"])
def test_calls_count_whatever_the_finish_reason_says(reason: str) -> None:
    read = read_response(response(ToolCallPart("probe", '{"x": 1}', "id-1"), reason=reason))
    assert read.tool_calls == (ToolCall("probe", {"x": 1}, "id-1"),)


def test_an_id_that_the_library_made_up_is_none() -> None:
    assert read_response(response(ToolCallPart("probe", {"x": 1}))).tool_calls == (
        ToolCall("probe", {"x": 1}, ""),
    )


@pytest.mark.parametrize("arguments", [None, "", " ", "{}", {}])
def test_a_tool_without_needs_may_be_called_without_arguments(arguments: Any) -> None:
    assert read_response(response(ToolCallPart("probe", arguments, "1")), (EASY,)).tool_calls[0].arguments == {}


@pytest.mark.parametrize("arguments", [None, "", "{}", {}])
def test_a_tool_with_needs_may_not(arguments: Any) -> None:
    with pytest.raises(ModelResponseError, match="no arguments"):
        read_response(response(ToolCallPart("probe", arguments, "1")), (NEEDY,))


@pytest.mark.parametrize("arguments", ['{"x"', "x=1", "[1]", '"x"', "1", "null", "[" * 100_000, '{"x": 1}}'])
def test_arguments_that_are_no_object_are_told_to_the_model(arguments: str) -> None:
    with pytest.raises(ModelResponseError, match="not a JSON object") as caught:
        read_response(response(ToolCallPart("probe", arguments, "1")))
    assert len(str(caught.value)) < 400


def test_calls_of_an_answer_that_was_cut_off_are_not_made() -> None:
    with pytest.raises(ModelResponseError, match="cut off"):
        read_response(response(ToolCallPart("probe", '{"x": 1}', "1"), reason="length"))


def test_words_that_were_cut_off_say_so() -> None:
    assert read_response(response(TextPart("Fo"), reason="length")).finish_reason == "length"


@pytest.mark.parametrize("reason", ["stop", "length", "tool_call"])
@pytest.mark.parametrize("text", ["", " \n", "\u200b"])
def test_nothing_is_no_answer(reason: str, text: str) -> None:
    with pytest.raises(ModelResponseError):
        read_response(response(ThinkingPart("hmm"), TextPart(text), reason=reason))


@pytest.mark.parametrize("own_reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"])
def test_a_call_that_google_could_not_read_is_told_to_the_model(own_reason: str) -> None:
    with pytest.raises(ModelResponseError):
        read_response(response(TextPart("I"), reason="error", provider_details={"finish_reason": own_reason}))


def test_an_answer_that_ends_in_an_error_is_none() -> None:
    with pytest.raises(LLMBadResponseError):
        read_response(response(TextPart("I"), reason="error"))


def test_an_answer_that_the_provider_has_not_finished_is_none() -> None:
    with pytest.raises(LLMBadResponseError):
        read_response(response(TextPart("I"), state="suspended"))


def test_a_filtered_answer_is_refused_even_if_it_says_something() -> None:
    with pytest.raises(LLMRefusedError):
        read_response(response(TextPart("I"), reason="content_filter"))


def test_an_answer_without_finish_reason_broke_off() -> None:
    with pytest.raises(LLMBadResponseError):
        read_response(response(TextPart("Fo"), reason=None))
    with pytest.raises(LLMBadResponseError):
        read_response(response(ToolCallPart("probe", {"x": 1}, "1"), reason=None))


@pytest.mark.parametrize("own_reason", [None, "OTHER", "FINISH_REASON_UNSPECIFIED", "in_progress"])
def test_a_finish_reason_that_says_nothing_is_none(own_reason: str | None) -> None:
    with pytest.raises(LLMBadResponseError):
        read_response(response(TextPart("Fo"), reason=None, provider_details={"finish_reason": own_reason}))


def test_a_finish_reason_that_the_library_does_not_know_is_one() -> None:
    known = {"finish_reason": "eos"}
    assert read_response(response(TextPart("Four."), reason=None, provider_details=known)).content == "Four."


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (ToolCallPart("probe", "x=1", "1"), "tool_call"),
        (ToolCallPart("probe", '{"x": 1', "1"), "length"),
        (TextPart(" "), "stop"),
        (TextPart(""), "length"),
    ],
)
def test_an_answer_that_has_to_be_mended_was_paid_all_the_same(part: ModelResponsePart, reason: str) -> None:
    usage = RequestUsage(input_tokens=10, output_tokens=5)
    with pytest.raises(ModelResponseError) as caught:
        read_response(response(part, reason=reason, usage=usage))
    assert caught.value.usage == Usage(10, 5)
    with pytest.raises(ModelResponseError) as caught:
        read_response(response(part, reason=reason))
    assert caught.value.usage is None
