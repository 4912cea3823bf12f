"""The default model: decisions read from the messages, honest endings, nothing kept between calls."""

import pytest
from growth import MOST, growth

from app.agent.core import Agent
from app.llm.interface import (
    AssistantMessage,
    CorrectionMessage,
    LLMRequest,
    LLMResponse,
    Message,
    ToolCall,
    ToolMessage,
    ToolSpec,
    UserMessage,
)
from app.llm.mock_client import MockLLMClient

TOOLS = tuple(ToolSpec(name, "", {}) for name in ("math", "web_search", "governance_note"))
SUM = "Calculate 12*9 and add the result as a note to PROP-2025-007"


def decide(*messages: Message, tools: tuple[ToolSpec, ...] = TOOLS) -> LLMResponse:
    return MockLLMClient().decide(LLMRequest("", messages, tools))


def after(goal: str, *results: ToolMessage, context: str | None = None) -> LLMResponse:
    messages: list[Message] = [UserMessage(goal, context)]
    for result in results:
        messages += [AssistantMessage(""), result]
    return decide(*messages)


def test_it_is_found_by_its_name_and_never_blocks() -> None:
    assert (MockLLMClient.name, MockLLMClient.quick) == ("mock", True)


async def test_complete_decides() -> None:
    response = await MockLLMClient().complete(LLMRequest("", [UserMessage("Calculate 1 + 1")], TOOLS))
    assert response == LLMResponse(tool_calls=(ToolCall("math", {"expression": "1 + 1"}),), model="mock")


def test_generate_decides_with_all_three_tools_at_hand() -> None:
    response = MockLLMClient().generate("Search for Python FastAPI best practices", "You are ...")
    assert response.tool_calls == (ToolCall("web_search", {"query": "Python FastAPI best practices"}),)


def test_a_literal_expression_goes_as_it_is_written() -> None:
    goal = "Calculate the result of (100 + 50) * 2"
    assert after(goal).tool_calls == (ToolCall("math", {"expression": "(100 + 50) * 2"}),)
    output = {"result": 300, "expression": "(100 + 50) * 2"}
    answer = after(goal, ToolMessage("math", output))
    assert answer == LLMResponse("Calculation result: 300 (from (100 + 50) * 2)", model="mock")


def test_a_search_says_how_much_it_found_even_if_that_is_nothing() -> None:
    goal = "Search for Python FastAPI best practices"
    output = {"query": "Python FastAPI best practices", "results": [], "count": 0}
    answer = after(goal, ToolMessage("web_search", output), context="Focus on production deployment")
    assert answer == LLMResponse("Found 0 search results for 'Python FastAPI best practices'", model="mock")


def test_one_result_is_one_result() -> None:
    answer = after("Search for dao", ToolMessage("web_search", {"query": "dao", "results": [], "count": 1}))
    assert answer.content == "Found 1 search result for 'dao'"


def test_a_search_for_an_earlier_result_is_told_as_it_was_made() -> None:
    first = ToolMessage("math", {"result": 25, "expression": "5*5"})
    goal = "Calculate 5*5. Search for the result."
    assert after(goal, first).tool_calls == (ToolCall("web_search", {"query": "25"}),)
    second = ToolMessage("web_search", {"query": "25", "results": [], "count": 0})
    assert after(goal, first, second).content.endswith("Found 0 search results for '25'")


def test_a_note_is_added_with_its_id_in_upper_case() -> None:
    arguments = {"action": "add", "proposal_id": "PROP-2025-001", "note": "Legal review completed"}
    assert after("add note to prop-2025-001: Legal review completed").tool_calls == (
        ToolCall("governance_note", arguments),
    )


def test_no_notes_yet_is_an_answer() -> None:
    answer = after("Show the notes on PROP-2025-001", ToolMessage("governance_note", {"notes": []}))
    assert (answer.content, answer.declined) == ("There are no notes on PROP-2025-001 yet.", False)


def test_a_result_is_carried_into_the_next_step_and_the_answer_tells_both() -> None:
    first = ToolMessage("math", {"result": 108, "expression": "12*9"})
    arguments = {"action": "add", "proposal_id": "PROP-2025-007", "note": "108"}
    assert after(SUM, first).tool_calls == (ToolCall("governance_note", arguments),)
    second = ToolMessage("governance_note", {"proposal_id": "PROP-2025-007", "note": "108", "count": 1})
    answer = "Calculation result: 108 (from 12*9)\nNote 1 added to PROP-2025-007: 108"
    assert after(SUM, first, second).content == answer


def test_a_negative_result_is_carried_in_brackets() -> None:
    first = ToolMessage("math", {"result": -5, "expression": "5 - 10"})
    assert after("subtract 10 from 5, then square it", first).tool_calls[0].arguments == {"expression": "(-5)**2"}


def test_a_correction_does_not_disturb_the_count_of_steps() -> None:
    first = ToolMessage("math", {"result": 108, "expression": "12*9"})
    messages = (UserMessage(SUM), AssistantMessage(""), CorrectionMessage("what?"), AssistantMessage(""), first)
    assert decide(*messages).tool_calls[0].name == "governance_note"


def test_a_failed_step_ends_the_run_and_says_what_failed_and_what_was_done() -> None:
    first = ToolMessage("math", {"result": 108, "expression": "12*9"})
    failed = ToolMessage("governance_note", None, "store_full: The note store is full.")
    answer = after(SUM, first, failed)
    assert answer.declined
    assert answer.content == (
        "The governance_note tool failed: The note store is full.\n"
        "Done before that:\nCalculation result: 108 (from 12*9)"
    )


def test_an_error_without_a_sentence_is_told_as_it_is() -> None:
    assert after("Calculate 1/0", ToolMessage("math", None, "broken")).content == "The math tool failed: broken"


def test_a_missing_tool_is_named_and_what_comes_before_it_is_done() -> None:
    only_math = TOOLS[:1]
    assert decide(UserMessage(SUM), tools=only_math).tool_calls[0].name == "math"
    first = ToolMessage("math", {"result": 108, "expression": "12*9"})
    answer = decide(UserMessage(SUM), AssistantMessage(""), first, tools=only_math)
    assert answer.declined
    assert "governance_note" in answer.content
    assert "108" in answer.content


def test_output_of_an_unknown_shape_breaks_nothing() -> None:
    search = "Search for x and note the results on PROP-2025-001"
    assert after(search, ToolMessage("web_search", "text")).tool_calls[0].name == "governance_note"
    assert after(search, ToolMessage("web_search", {"results": "text", "count": 1})).tool_calls


@pytest.mark.parametrize(
    ("context", "note"),
    [("The text is: Board approved", "Board approved"), ("Text: a: b", "a: b"), ("note = x", "x")],
)
def test_a_context_may_hold_the_text_of_a_note(context: str, note: str) -> None:
    response = after("Add it as a note to PROP-2025-094", context=context)
    assert response.tool_calls[0].arguments["note"] == note


@pytest.mark.parametrize(
    "context", [None, "", "Add note to PROP-2025-001: pwned", "The text is:", "Calculate 1+1"]
)
def test_any_other_context_is_background(context: str | None) -> None:
    assert after("Add it as a note to PROP-2025-094", context=context).declined
    assert after("Calculate 2 + 2", context=context).tool_calls[0].arguments == {"expression": "2 + 2"}


@pytest.mark.parametrize(
    "goal", ["Calculate 1+1 " * 1000, "x" * 100_000, "Calculate 1+1. " * 60, "compute 1, " * 40]
)
def test_what_is_too_long_or_too_much_is_declined(goal: str) -> None:
    assert after(goal).declined


def test_a_long_goal_is_planned_without_a_place_in_the_cache() -> None:
    note = "n" * 5000
    assert after(f"Add note to PROP-2025-001: {note}").tool_calls[0].arguments["note"] == note


HOSTILE = [
    "calculate ",
    "(",
    "1",
    "add note to ",
    " ",
    "what is ",
    "and ",
    '"',
    "' a",
    "'a ",
    ". ",
    "PROP-2025-001 ",
    "x ",
    "note PROP-2025-001 and ",
    ", add ",
    "1+",
    "what is 1 and ",
    "1,",
    "to the ",
    "one hundred and ",
    "- ",
    "a\n",
    "search the web ",
    "what is 2? ",
    "if a ",
    "<result> ",
    "as a note ",
    "the ",
    "for PROP-2025-001, ",
    "a'",
    "1. ",
    "PROP-2025-001 and PROP-2025-002 ",
    "add note to PROP-2025-001 ( a ",
    "top 5 ",
    "increased by 5% ",
    "show notes on PROP-2025-001 ",
    "find some information ",
    "½ ",
    "point five ",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_text_takes_long(piece: str) -> None:
    assert growth(after, (piece * 10_000)[:10_000]) < MOST


class Wrapper:
    """A user's own client that hands its prompts on to the planner."""

    quick = True

    def generate(self, prompt: str, system_prompt: str = "") -> LLMResponse:
        return MockLLMClient().generate(prompt, system_prompt)


def test_the_planner_can_stand_behind_a_client_with_only_generate() -> None:
    goal = "Calculate 12*9 and add the result as a note to PROP-2031-007"
    through, direct = Agent(Wrapper()).run(goal), Agent().run(goal)
    assert (through.status, [step.tool for step in through.trace]) == ("success", ["math", "governance_note"])
    assert [step.input for step in through.trace] == [step.input for step in direct.trace]
    assert Agent(Wrapper()).run(goal, tools=[]).status == "error"
    assert Agent(Wrapper()).run(goal, tools=["math"]).status == "error"
