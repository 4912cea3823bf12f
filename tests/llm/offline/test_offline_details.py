"""The corners of the grammar: numerals, brackets, lists, and what can be read in two ways."""

import pytest
from offline_run import carry_out

from app.llm.offline.compile import compile_goal
from app.llm.offline.program import Calculation, NoteAddition


@pytest.mark.parametrize(
    ("goal", "expression"),
    [
        ("what is (2 plus 3) times 4", "(2 + 3) * 4"),
        ("what is three and a half times 2", "(3 + 1/2) * 2"),
        ("what is sqrt(16) plus max(2, 3)", "sqrt(16) + max(2, 3)"),
        ("what is two thousand three hundred and five plus 1", "2305 + 1"),
        ("what is 3/4 of 100", "3 / 4 * 100"),
        ("what is plus 5 times 2", "5 * 2"),
        ("decrease 80 by 5", "80 - 5"),
        ("what is $5 times 3", "5 * 3"),
        ("15% of 240 / 2 dollars", "15/100 * 240 / 2"),
        ("Quorum: 4% of 10,000,000 tokens", "4/100 * 10,000,000"),
        ("what is 8 minus (3 minus 1)", "8 - (3 - 1)"),
        ("subtract 3 + 4 from 10", "10 - (3 + 4)"),
        ("2 to the power of 3 to the power of 2", "2**(3**2)"),
        ("what is minus 5 plus 3", "-5 + 3"),
        ("divide 100 over 4", "100 / 4"),
    ],
)
def test_words_become_this_expression(goal: str, expression: str) -> None:
    assert compile_goal(goal).steps == (Calculation((expression,)),)


@pytest.mark.parametrize(
    "goal",
    [
        "what is negative 2 squared",
        "what is (2 plus 3 times 4",
        "what is sqrt(4 plus 5",
        "difference between 1, 2 and 3",
        "average of 5",
        "sum of 7",
        "max of 3",
        "multiply 3",
        "subtract 3",
        "divide 3",
        "take 3",
        "increase 50 of 3",
        "what is 6e999 plus 1",
        "what is 5 percent plus 1",
        "what percent of 5 was 3",
        "5 euros plus 3 dollars",
        "what is " + "(" * 50 + "1 plus 1" + ")" * 50,
        "show me 3 - 5 items",
        "find 10/12/2024 news",
        "five five plus one",
        "search",
        "find it",
        "note PROP-2025-001",
        "record on PROP-2025-001",
        "add it to PROP-2025-1",
        "Add a note to PROP-2025-001",
        "Add note to PROP-2025-001; done",
        "update PROP-2025-001: status passed",
        "Add the note 'x' to PROP-2025-001 as 'y'",
        "Budget approved. Thanks a lot. Add 5 and 6.",
        "Add a note to PROP-2025-001 with the result",
        "Add 'x' to PROP-2025-001" * 20,
        "Add note 'x' to " + ", ".join(f"PROP-2025-{number:03}" for number in range(20)),
    ],
)
def test_what_is_uncertain_is_declined(goal: str) -> None:
    run = carry_out(goal)
    assert run.declined
    assert not run.calls


def test_a_bare_order_to_search_looks_up_what_was_said_before() -> None:
    assert carry_out("检索 以太坊 升级 (search the web)").steps == ["search 检索 以太坊 升级"]
    assert carry_out("What is a DAO? Search the web.").steps == ["search What is a DAO"]


def test_a_text_said_first_is_what_this_means() -> None:
    run = carry_out("Legal review completed - add this as a note to PROP-2025-036")
    assert run.notes == {"PROP-2025-036": ["Legal review completed"]}


def test_a_place_in_a_quotation_is_filled_with_the_last_result() -> None:
    goal = "calculate 4% of 10000000 and attach it to PROP-2025-070 as a note saying 'Quorum: <result>!'"
    assert carry_out(goal).notes == {"PROP-2025-070": ["Quorum: 400000!"]}


def test_a_place_in_a_quotation_stays_if_nothing_came_before() -> None:
    program = compile_goal("Write 'Quorum: <result>' to PROP-2025-070")
    assert program.steps == (NoteAddition("PROP-2025-070", ("Quorum: <result>",)),)


def test_notes_that_were_read_can_be_carried() -> None:
    run = carry_out(
        "Read the notes on PROP-2025-001 and add them to PROP-2025-002", notes={"PROP-2025-001": ["a", "b"]}
    )
    assert run.notes["PROP-2025-002"] == ["a; b"]


def test_a_list_is_numbered_or_has_lines_of_its_own() -> None:
    assert carry_out("1. Calculate 2+3\n2. Search for five").steps == ["2+3 = 5", "search five"]
    assert carry_out("Calculate 2+3\nSearch for five").steps == ["2+3 = 5", "search five"]


@pytest.mark.parametrize(
    ("order", "expression"),
    [
        ("subtract 5", "30 - 5"),
        ("take the square root", "sqrt(30)"),
        ("divide it by 5", "30 / 5"),
        ("multiply by 2", "30 * 2"),
        ("add 5", "30 + 5"),
        ("double the sum", "2 * 30"),
        ("increase it by 10%", "30 * (1 + 10/100)"),
    ],
)
def test_an_order_goes_on_with_the_last_result(order: str, expression: str) -> None:
    run = carry_out(f"Add 10 and 20, then {order}")
    assert [call.arguments["expression"] for call in run.calls] == ["10 + 20", expression]


@pytest.mark.parametrize("tools", [(), ("web_search",), ("governance_note",)])
def test_nothing_else_is_done_instead_of_what_a_missing_tool_would_do(tools: tuple[str, ...]) -> None:
    run = carry_out("Calculate 6*7", tools=tools)
    assert run.declined
    assert not run.calls
    assert "math" in run.text
