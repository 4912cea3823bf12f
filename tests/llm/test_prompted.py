from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from fakes import FakeTool, ScriptedModel

from app.agent.core import Agent
from app.errors import ModelResponseError
from app.llm.interface import (
    AssistantMessage,
    CorrectionMessage,
    LLMRequest,
    LLMResponse,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from app.llm.prompted import MAX_CONTENT_CHARS, PromptedClient, lift, read_decision, read_prompt


class Generator:
    """A user's own client: nothing but `generate`."""

    def __init__(self, *contents: object) -> None:
        self._contents = list(contents)
        self.prompts: list[tuple[str, str]] = []
        self.threads: list[int] = []

    def generate(self, prompt: str, system_prompt: str = "") -> Any:
        self.prompts.append((prompt, system_prompt))
        self.threads.append(threading.get_ident())
        content = self._contents[min(len(self.prompts), len(self._contents)) - 1]
        return LLMResponse(content=content) if isinstance(content, str) else content


class AsyncGenerator(Generator):
    async def generate(self, prompt: str, system_prompt: str = "") -> Any:  # type: ignore[override]
        return super().generate(prompt, system_prompt)


CALL = '{"tool": "probe", "input": {"x": 1}}'


@pytest.mark.parametrize("kind", [Generator, AsyncGenerator])
async def test_a_client_with_only_generate_drives_the_loop(kind: type[Generator]) -> None:
    client = kind(CALL, '{"answer": "it is done"}')
    result = await Agent(client, [FakeTool(lambda given: {"got": given["x"]})]).arun("go", "background")
    assert (result.status, result.output) == ("success", "it is done")
    assert [(step.tool, step.input, step.output) for step in result.trace] == [("probe", {"x": 1}, {"got": 1})]


async def test_plain_words_are_the_answer() -> None:
    result = await Agent(Generator("The answer is 4."), []).arun("go")
    assert (result.status, result.output) == ("success", "The answer is 4.")


async def test_the_prompt_holds_goal_context_tools_and_results() -> None:
    client = Generator(CALL, "done")
    await Agent(client, [FakeTool(lambda given: {"n": 2**60})]).arun('say "hi"\nnow', "background")
    first, second = client.prompts
    assert json.loads(first[0]) == {"goal": 'say "hi"\nnow', "context": "background"}
    assert "- probe: Does what the test says." in first[1]
    lines = [json.loads(line) for line in second[0].splitlines()]
    assert lines[1:] == [
        {"you_said": "", "you_called": [{"tool": "probe", "input": {"x": 1}}]},
        {"result_of": "probe", "output": {"n": str(2**60)}, "error": None},
    ]
    assert second[1] == first[1]


async def test_what_was_wrong_is_told_in_the_next_prompt() -> None:
    client = Generator('{"tool": ', "done")
    assert (await Agent(client, []).arun("go")).output == "done"
    assert "not valid JSON" in json.loads(client.prompts[1][0].splitlines()[-1])["problem_with_your_reply"]


async def test_a_model_without_tools_is_told_so() -> None:
    client = Generator("done")
    await Agent(client, []).arun("go")
    assert "You have no tools." in client.prompts[0][1]


@pytest.mark.parametrize(("quick", "same"), [(True, True), (False, False)])
async def test_a_blocking_client_gets_a_thread_unless_it_is_quick(quick: bool, same: bool) -> None:
    client = Generator("done")
    client.quick = quick  # type: ignore[attr-defined]
    await Agent(client, []).arun("go")
    assert (client.threads == [threading.get_ident()]) is same


async def test_runs_do_not_share_a_conversation() -> None:
    client = Generator("done")
    agent = Agent(client, [])
    await agent.arun("one")
    await agent.arun("two")
    assert [json.loads(prompt)["goal"] for prompt, _ in client.prompts] == ["one", "two"]


async def test_what_is_no_response_is_named() -> None:
    client = Generator(None, "done")
    assert (await Agent(client, []).arun("go")).output == "done"
    assert "returned NoneType" in client.prompts[1][0]


async def test_native_tool_calls_of_a_response_are_taken_as_they_are() -> None:
    client = Generator(LLMResponse(tool_calls=(ToolCall("probe", {"x": 1}),)), "done")
    assert len((await Agent(client, [FakeTool()]).arun("go")).trace) == 1


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (CALL, [("probe", {"x": 1})]),
        (f"  {CALL}\n", [("probe", {"x": 1})]),
        (f"```json\n{CALL}\n```", [("probe", {"x": 1})]),
        (f"```\n[{CALL}, {CALL}]\n```", [("probe", {"x": 1})] * 2),
        ('[{"tool": "a"}]', [("a", {})]),
        ('{"name": "a", "arguments": "{\\"x\\": 1}"}', [("a", {"x": 1})]),
        ('{"name": "a", "arguments": {"x": 1}}', [("a", {"x": 1})]),
        ('[{"tool": "a", "args": {"x": 1}}]', [("a", {"x": 1})]),
    ],
)
def test_the_usual_spellings_of_a_call_are_understood(text: str, calls: list[tuple[str, dict[str, Any]]]) -> None:
    response = read_decision(LLMResponse(content=text, model="m"))
    assert [(call.name, call.arguments) for call in response.tool_calls] == calls
    assert (response.content, response.model) == ("", "m")


@pytest.mark.parametrize("text", ["Four.", "```python\nprint(4)\n```", "a {brace} inside", "``` not a fence"])
def test_words_are_an_answer(text: str) -> None:
    assert read_decision(LLMResponse(content=text)).content == text


def test_an_answer_in_json_is_its_text() -> None:
    assert read_decision(LLMResponse(content='{"answer": "4"}')).content == "4"
    assert read_decision(LLMResponse(content='{"answer": {"n": 4}}')).content == '{"n": 4}'


def test_only_an_async_complete_makes_a_fuller_client() -> None:
    class Helpful(Generator):
        def complete(self, text: str) -> str:
            return text

    assert isinstance(lift(Helpful()), PromptedClient)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "{",
        "[" * 5000,
        "[1]",
        "{}",
        '{"tool": 1}',
        '{"tool": "a", "input": "{"}',
        f"Sure! I will look it up:\n```json\n{CALL}\n```\nOne moment.",
        f"Let me call {CALL} now.",
        "[]",
        '{"tool": "a", "input": []}',
        '[["a"]]',
        "x" * (MAX_CONTENT_CHARS + 1),
    ],
)
def test_what_sets_out_to_be_a_decision_and_is_none_is_refused(text: str) -> None:
    with pytest.raises(ModelResponseError):
        read_decision(LLMResponse(content=text))


def test_a_client_that_completes_is_used_directly() -> None:
    model = ScriptedModel()
    assert lift(model) is model
    assert isinstance(lift(Generator()), PromptedClient)


async def test_a_prompt_can_be_read_back_into_its_request() -> None:
    client = Generator('{"tool": ', CALL, "done")
    agent = Agent(client, [FakeTool(lambda given: {"text": "a\u2028b"}, input_schema={"type": "object"})])
    await agent.arun("go\nthere", "background")
    request = read_prompt(*client.prompts[-1])
    assert [(spec.name, spec.description, spec.input_schema) for spec in request.tools] == [
        ("probe", "Does what the test says.", {"type": "object"})
    ]
    goal, correction, said, result = request.messages
    assert goal == UserMessage("go\nthere", "background")
    assert isinstance(correction, CorrectionMessage)
    assert said == AssistantMessage("", (ToolCall("probe", {"x": 1}),))
    assert result == ToolMessage("probe", {"text": "a\u2028b"}, None)


@pytest.mark.parametrize("prompt", ["Calculate 2+2", "[1]", "{}", '{"goal": 1}', "12", '"text"', ""])
def test_any_other_prompt_is_a_goal_by_itself(prompt: str) -> None:
    assert read_prompt(prompt, "Be kind.") == LLMRequest("Be kind.", [UserMessage(prompt)], ())
